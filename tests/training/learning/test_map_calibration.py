"""What held-out images say about fusion and score maps: training.calibrate."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from bundles import make_bundle
from numpy.typing import NDArray

from rstpm_edge.calibration import calibrate
from rstpm_edge.errors import UsageError
from rstpm_edge.model.metadata import Fusion
from rstpm_edge.model.outputs import ByPair, Map, ModelOutputs
from rstpm_edge.postprocess.reference import coarse_cells, fuse, score
from rstpm_edge.training.learning.map_calibration import (
    HEAD,
    LEAST_ODDS,
    MapCalibration,
    calibrate_maps,
    calibrate_model,
)
from rstpm_edge.training.model.presets import EDGE, Preset
from rstpm_edge.training.model.rstpm import RSTPM

SIZE, COUNT = 64, 11
ANGLES = replace(EDGE, distance="cosine")


def outputs(preset: Preset, draw: Callable[[int], Map]) -> ModelOutputs:
    """What a model of this preset gives, each map drawn by its side."""
    sides = [SIZE // stride for stride in preset.strides] * 2
    cosine, coarsest = preset.distance == "cosine", min(sides)
    return ModelOutputs(
        ByPair.of(map(draw, sides)),
        None if cosine else ByPair.of(map(draw, sides)),
        None if cosine else (draw(coarsest), draw(coarsest)),
        draw(max(sides)) if preset.has_segmentation_head else None,
    )


class Noise:
    """Maps that are noise, each of another mean and spread; the same ones for the same images."""

    def __init__(self, preset: Preset) -> None:
        self.preset = preset

    def eval(self) -> None:
        pass

    def outputs(self, images: NDArray[np.uint8]) -> ModelOutputs:
        draws = [np.random.default_rng(seed) for seed in images[:, 0, 0, 0].tolist()]
        numbers = itertools.count(1)

        def noise(side: int) -> Map:
            i = next(numbers)
            return np.stack([i * draw.gamma(i, size=(side, side)) for draw in draws]).astype(np.float32)

        return outputs(self.preset, noise)


def calibrated(preset: Preset, alpha: float | None = None) -> tuple[MapCalibration, ModelOutputs]:
    """What is found on a model of noise, and its maps."""
    model = Noise(preset)
    images = np.broadcast_to(np.arange(COUNT, dtype=np.uint8)[:, None, None, None], (COUNT, SIZE, SIZE, 3)).copy()
    return calibrate_model(cast(RSTPM, model), images, alpha), model.outputs(images)


def peaks_under(fusion: Fusion, maps: ByPair[Map], head_map: Map | None = None) -> NDArray[np.float64]:
    return np.asarray(fuse(maps.six, (SIZE, SIZE), **vars(fusion), head_map=head_map)[1])


def peaks_alone(fusion: Fusion, maps: ByPair[Map]) -> list[float]:
    """The mean maximum that each map gives by itself, weighted as in `fusion`."""
    rows = [tuple(own if j == i else 0.0 for j in range(6)) for i, own in enumerate(fusion.weights)]
    return [float(peaks_under(replace(fusion, weights=row), maps).mean()) for row in rows]


@pytest.mark.parametrize("weight", [1.0, 1.5])
def test_where_the_maximum_is_the_score_every_maps_peak_counts_the_same_in_its_pair(weight: float) -> None:
    found, maps = calibrated(replace(ANGLES, reconstruction_weight=weight))
    assert found.score_fusion is None
    np.testing.assert_allclose(found.fusion.mean, [m.mean() for m in maps.anomaly_maps.six], rtol=1e-5)
    np.testing.assert_allclose(found.fusion.std, [m.std() for m in maps.anomaly_maps.six], rtol=1e-5)
    assert np.mean(found.fusion.weights) == pytest.approx(1)
    counts = peaks_alone(found.fusion, maps.anomaly_maps)
    np.testing.assert_allclose(counts, np.repeat([counts[0], weight * counts[0]], 3), rtol=1e-4)
    np.testing.assert_allclose(found.scores, peaks_under(found.fusion, maps.anomaly_maps), rtol=1e-4)
    assert found.calibration == calibrate(found.scores)


def test_the_papers_product_takes_no_weights() -> None:
    found, _ = calibrated(replace(ANGLES, fusion="paper", reconstruction_weight=3.0))
    assert found.fusion.weights == (1.0,) * 6


@pytest.mark.parametrize("weight", [1.0, 1.5])
def test_maps_weigh_alike_and_errors_in_multiples_of_their_means(weight: float) -> None:
    found, maps = calibrated(replace(EDGE, reconstruction_weight=weight))
    assert found.score_fusion is not None
    assert maps.score_maps is not None
    np.testing.assert_allclose(found.fusion.weights, np.repeat([1, weight], 3) * 2 / (1 + weight), rtol=1e-6)
    np.testing.assert_allclose(found.score_fusion.fusion.mean, [m.mean() for m in maps.score_maps.six], rtol=1e-5)
    of_errors = found.score_fusion.fusion
    units = np.array(of_errors.weights) / of_errors.std * of_errors.mean
    np.testing.assert_allclose(units, units[0], rtol=1e-6)


@pytest.mark.parametrize("alpha", [None, 0.2, 0.4])
def test_scores_are_in_the_unit_of_the_anomaly_map(alpha: float | None) -> None:
    found, maps = calibrated(EDGE, alpha)
    assert found.score_fusion is not None
    assert maps.score_maps is not None
    bundle = make_bundle(fusion=found.fusion, score_fusion=found.score_fusion, height=SIZE, width=SIZE)
    np.testing.assert_allclose(found.scores, score(maps, bundle)[1], rtol=1e-4, atol=1e-3)
    peaks = peaks_under(found.fusion, maps.anomaly_maps, maps.head_map)
    highest = calibrate(map(float, peaks), alpha)
    assert found.calibration.median == pytest.approx(highest.median, rel=1e-3)
    assert found.calibration.threshold == pytest.approx(highest.threshold, rel=1e-3)
    # Of what makes the score differ from image to image, errors and coarsest angles have the same share, all else none.
    coarse = found.score_fusion.coarse
    assert coarse is not None
    of_errors = peaks_under(found.score_fusion.fusion, maps.score_maps).std()
    deviations = [cells.max((1, 2)).std() for cells in coarse_cells(maps, coarse)]
    assert deviations == pytest.approx([0, of_errors], rel=1e-3)
    assert found.score_fusion.map_weight == 0


def test_a_product_of_maps_can_have_the_score() -> None:
    found, maps = calibrated(replace(EDGE, fusion="paper"))
    assert found.score_fusion is not None
    bundle = make_bundle(fusion=found.fusion, score_fusion=found.score_fusion, height=SIZE, width=SIZE)
    np.testing.assert_allclose(found.scores, score(maps, bundle)[1], rtol=1e-4, atol=1e-3)


def test_the_head_varies_by_a_share_of_what_the_six_maps_do() -> None:
    found, maps = calibrated(EDGE)
    head = found.fusion.head
    own = maps.head_map
    assert head is not None
    assert own is not None
    assert (head.mean, head.std) == (pytest.approx(own.mean()), pytest.approx(own.std(), rel=1e-5))
    both, six = (
        fuse(maps.anomaly_maps.six, (SIZE, SIZE), **vars(one), head_map=own)[0]
        for one in (found.fusion, without(found))
    )
    assert (both - six).std() == pytest.approx(HEAD * six.std(), rel=1e-4)
    assert calibrated(replace(EDGE, segmentation_head=False))[0].fusion == without(found)


def without(found: MapCalibration) -> Fusion:
    return replace(found.fusion, head=None)


def test_one_held_out_image_is_enough() -> None:
    rng = np.random.default_rng(0)
    maps = outputs(EDGE, lambda side: rng.random((1, side, side), np.float32))
    found = calibrate_maps(maps, EDGE, (SIZE, SIZE), None)
    assert found.calibration.threshold == found.scores[0]
    assert np.isfinite(found.scores[0])


def test_maps_that_never_vary_give_finite_scores() -> None:
    maps = outputs(EDGE, lambda side: np.full((4, side, side), 0.5, np.float32))
    found = calibrate_maps(maps, EDGE, (SIZE, SIZE), None)
    assert np.isfinite(found.scores).all()
    assert found.score_fusion is not None
    assert found.score_fusion.coarse is not None
    assert np.isfinite([*found.score_fusion.coarse.weights, found.score_fusion.bias]).all()


def test_a_head_that_is_as_sure_of_everything_good_does_not_drown_the_maps() -> None:
    maps = calibrated(EDGE)[1]
    assert maps.head_map is not None
    maps.head_map[:] = -8.0
    found = calibrate_maps(maps, EDGE, (SIZE, SIZE), None)
    surprised = maps.head_map.copy()
    surprised[0, 3, 3] = 8.0
    six = fuse(maps.anomaly_maps.six, (SIZE, SIZE), **vars(without(found)))[0]
    change = fuse(maps.anomaly_maps.six, (SIZE, SIZE), **vars(found.fusion), head_map=surprised)[0] - six
    assert 0 < change.max() <= HEAD * 16 / LEAST_ODDS * six.std() * 1.01


def test_too_few_images_for_a_rate() -> None:
    with pytest.raises(UsageError, match="needs at least 99 held-out good images"):
        calibrated(EDGE, 0.01)
