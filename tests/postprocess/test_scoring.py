"""Scores with a fusion of their own: what is computed, what a mask does to it, and regions of a map that stays low."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import ModelFactory, make_bundle
from numpy.typing import NDArray

from rstpm_edge import Detector
from rstpm_edge.calibration import Calibration, Threshold
from rstpm_edge.errors import ModelError
from rstpm_edge.image.grid import Grid
from rstpm_edge.image.placement import Placement
from rstpm_edge.model.metadata import CoarseCells, Fusion, HeadMap, ScoreFusion
from rstpm_edge.model.outputs import ByPair, Map, ModelOutputs
from rstpm_edge.model.read_metadata import SMOOTHING, parse_bundle
from rstpm_edge.native import _native
from rstpm_edge.postprocess.fusion import make_fuser
from rstpm_edge.postprocess.reference import coarse_cells
from rstpm_edge.postprocess.reference import score as reference
from rstpm_edge.postprocess.scoring import ScoredMaps, Scorer
from rstpm_edge.postprocess.verdict import judge

SIZES = ((16, 24), (8, 12), (4, 6))
SIZE = (64, 96)
FUSION = Fusion("normalized", (0.5,) * 6, (0.2,) * 6, (1, 2, 3, 4, 5, 6), 2.0)
HEADED = replace(FUSION, head=HeadMap(mean=0.3, std=0.4, weight=0.9))
COARSE = CoarseCells((0.5, 0.4, 0.3, 0.2), (0.3,) * 4, (0.6, 0.2, 0.5, 0.7))
SCORE_FUSION = ScoreFusion(
    Fusion("normalized", (0.4,) * 6, (0.3,) * 6, (6, 5, 4, 3, 2, 1), 4.0), bias=-1.5, coarse=COARSE, map_weight=0.3
)


def draw_maps(count: int, seed: int = 0) -> ModelOutputs:
    rng = np.random.default_rng(seed)

    def draw(size: tuple[int, int]) -> Map:
        return rng.random((count, *size), np.float32)

    angles = draw(SIZES[-1]), draw(SIZES[-1])
    return ModelOutputs(ByPair.of(map(draw, SIZES * 2)), ByPair.of(map(draw, SIZES * 2)), angles, draw(SIZES[0]))


def scored(maps: ModelOutputs, *ignored: NDArray[np.bool_] | None) -> ScoredMaps:
    return Scorer(FUSION, SCORE_FUSION, SIZES, SIZE)(maps, ignored or None)


@pytest.mark.parametrize("fusion", [FUSION, HEADED], ids=["six maps", "with a head"])
@pytest.mark.parametrize("score_fusion", [None, SCORE_FUSION])
def test_map_and_score_are_those_of_the_reference(score_fusion: ScoreFusion | None, fusion: Fusion) -> None:
    maps = draw_maps(3)
    bundle = make_bundle(fusion=fusion, score_fusion=score_fusion, height=SIZE[0], width=SIZE[1])
    found = Scorer(fusion, score_fusion, SIZES, SIZE)(maps)
    anomaly_map, score = reference(maps, bundle)
    np.testing.assert_allclose(found.anomaly_map, anomaly_map, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found.score, score, rtol=1e-4)
    for i, (row, column) in enumerate(found.position):
        assert found.anomaly_map[i, row, column] == found.anomaly_map[i].max()


def test_the_heads_map_counts_as_one_more_of_the_finest_level() -> None:
    maps = draw_maps(2)
    assert maps.head_map is not None
    half = maps.anomaly_maps.each(lambda one: np.full_like(one, 0.5))  # the six at their mean: nothing
    alone = ModelOutputs(half, head_map=maps.head_map)
    twin = Fusion("normalized", (0.3,) * 6, (0.4,) * 6, (0.9, 0, 0, 0, 0, 0), 2.0)
    first = ByPair((maps.head_map, *half.stpm[1:]), half.recon)
    expected = Scorer(twin, None, SIZES, SIZE)(ModelOutputs(first))
    np.testing.assert_allclose(Scorer(HEADED, None, SIZES, SIZE)(alone).anomaly_map, expected.anomaly_map, atol=1e-5)


def test_a_head_that_gives_nan_is_refused() -> None:
    maps = draw_maps(1)
    assert maps.head_map is not None
    maps.head_map[0, 3, 3] = np.nan
    with pytest.raises(ModelError, match="NaN or infinite"):
        Scorer(HEADED, SCORE_FUSION, SIZES, SIZE)(maps)


def test_a_score_that_is_no_number_is_refused() -> None:
    maps = draw_maps(1)
    large = replace(
        maps.each(lambda one: np.full_like(one, 0.5)),
        anomaly_maps=maps.anomaly_maps.each(lambda one: np.full_like(one, 1e28)),
    )
    with pytest.raises(ModelError, match="too large to add up"):  # each maximum is finite
        Scorer(FUSION, replace(SCORE_FUSION, map_weight=1e12), SIZES, SIZE)(large)
    with pytest.raises(ValueError, match="must be finite"):
        Scorer(FUSION, replace(SCORE_FUSION, map_weight=3e38, bias=3e38), SIZES, SIZE)
    huge = maps.each(lambda one: np.full_like(one, 3e38))
    for score_fusion in (None, SCORE_FUSION):
        for fusion in (FUSION, HEADED):
            with pytest.raises(ModelError, match="too large to add up"):
                Scorer(fusion, score_fusion, SIZES, SIZE)(huge)
    for score_fusion in (None, replace(SCORE_FUSION, coarse=None)):
        with pytest.raises(ModelError, match="too large to add up"):
            Scorer(Fusion("paper"), score_fusion, SIZES, SIZE)(huge)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (((0.0,) * 3, (1.0,) * 3, (1.0,) * 3), "must have 2 or 4 values, not 3"),
        (((0.0,) * 2, (1.0,) * 4, (1.0,) * 4), "mean of the coarsest level must have 4 values, not 2"),
        (((0.0,) * 4, (0.0,) * 4, (1.0,) * 4), "every std positive"),
        (((0.0,) * 2, (1.0,) * 2, (1.0, np.nan)), "must be finite"),
    ],
)
def test_a_wrong_part_of_the_coarsest_level_is_refused(rows: tuple[tuple[float, ...], ...], message: str) -> None:
    score_fusion = replace(SCORE_FUSION, coarse=CoarseCells(*rows))
    with pytest.raises(ValueError, match=message):
        Scorer(FUSION, score_fusion, SIZES, SIZE)
    document = json.loads(make_bundle().to_json()) | {"score_fusion": asdict(score_fusion)}
    with pytest.raises(ModelError, match="metadata is damaged"):
        parse_bundle(json.dumps(document))


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf])
def test_no_verdict_without_a_finite_score(score: float) -> None:
    grid = Grid(Placement(0, 0, *SIZE), *SIZE)
    calibration = Calibration(0.5, (1.0, 2.0))
    judge(np.zeros(SIZE, np.float32), 0.0, (0, 0), grid, calibration)
    with pytest.raises(ModelError, match="not a finite number"):
        judge(np.zeros(SIZE, np.float32), score, (0, 0), grid, calibration)
    with pytest.raises(ModelError, match="not a finite number"):
        judge(np.full(SIZE, score, np.float32), 0.0, (0, 0), grid, calibration)
    with pytest.raises(ModelError, match="not a finite number"):
        judge(np.zeros(SIZE, np.float32), 0.0, (0, 0), grid, calibration, threshold=Threshold(score))


@pytest.mark.parametrize("size", [(32768, 16), (16, 32768)])
def test_the_widest_smoothing_of_the_largest_side_takes_less_than_a_second(size: tuple[int, int]) -> None:
    """A smoothing as wide as the side would take minutes."""
    levels = [(size[0] // 16, size[1] // 16)] * 3
    maps = [np.ones((1, *levels[0]), np.float32)] * 6
    start = time.process_time()  # whatever else runs
    make_fuser(Fusion(smoothing_sigma=SMOOTHING[1]), levels, size)(maps)
    assert time.process_time() - start < 1
    with pytest.raises(ValueError, match="smoothing_sigma must be 0"):
        make_fuser(Fusion(smoothing_sigma=32768.0), levels, size)


def test_what_is_ignored_has_no_part_in_the_score() -> None:
    maps = draw_maps(2)
    ignored = np.zeros(SIZE, np.bool_)
    ignored[:40] = True
    found, whole = scored(maps, None, ignored), scored(maps)
    np.testing.assert_array_equal(found.anomaly_map, whole.anomaly_map)
    assert found.score[0] == whole.score[0]
    assert maps.score_maps is not None
    seen = Scorer(SCORE_FUSION.fusion, None, SIZES, SIZE)(ModelOutputs(maps.score_maps)).anomaly_map
    row, column = found.position[1]
    peak = found.anomaly_map[1, 40:].max()
    cells = [one[1, 2:].max() for one in coarse_cells(maps, COARSE)]  # a cell has 16 rows: half of the third counts
    assert found.score[1] == pytest.approx(seen[1, 40:].max() + sum(cells) + 0.3 * peak - 1.5, rel=1e-6)
    assert found.anomaly_map[1, row, column] == peak
    assert row >= 40
    with pytest.raises(ValueError, match="a mask of zeros only"):
        scored(maps, None, np.ones(SIZE, np.bool_))
    with pytest.raises(ValueError, match="one entry for each image"):
        scored(maps, ignored)


class Liar(list[NDArray[np.uint8]]):
    """Says that it is three long, and after that what it is."""

    told = False

    def __len__(self) -> int:
        told, self.told = self.told, True
        return super().__len__() if told else 3


def test_masks_that_are_fewer_than_they_say() -> None:
    """The extension read past what it had collected."""
    native = _native.Scorer(SIZES, SIZE, ("normalized", [0.0] * 6, [1.0] * 6, [1.0] * 6, 0.0), None, None, None)
    maps = [np.zeros((3, *SIZES[i % 3]), np.float32) for i in range(6)]
    with pytest.raises(ValueError, match="one entry for each image"):
        native.run(maps, Liar([np.ones((1, *SIZE), np.uint8)]), None, 1)


@pytest.mark.parametrize("seed", range(5))
def test_a_mask_never_raises_a_score(seed: int) -> None:
    maps = draw_maps(1, seed)
    ignored = np.random.default_rng(seed).random(SIZE) < 0.9
    ignored[0, 0] = False
    whole = scored(maps).score[0]
    assert scored(maps, ignored).score[0] <= whole
    assert scored(maps, np.zeros(SIZE, np.bool_)).score[0] == whole


def result_of(peak: float, score: float, threshold: float, typical: float) -> tuple[int, float]:
    """How many regions a map with one hill has, and the largest of them in pixels."""
    rows, columns = np.mgrid[:64, :64]
    hill = (peak * np.exp(-((rows - 20) ** 2 + (columns - 30) ** 2) / 50)).astype(np.float32)
    hill[50:52, 5:9] = 0.95 * peak  # a second one, lower
    cell = (20, 30)
    grid = Grid(Placement(0, 0, 64, 64), 64, 64)
    found = judge(hill, score, cell, grid, Calibration(0.5, (typical,)), threshold=Threshold(threshold))
    assert all(region.position == (30, 20) for region in found.regions[:1])
    return len(found.regions), found.regions[0].area if found.regions else 0


@pytest.mark.parametrize("masked", [False, True])
def test_the_map_that_is_judged_stays_as_it_is(masked: bool) -> None:
    anomaly_map = np.random.default_rng(0).random((64, 64), np.float32)
    before = anomaly_map.copy()
    ignored = None
    if masked:
        ignored = np.zeros((64, 64), np.bool_)
        ignored[:20] = True
        anomaly_map[40, 30] = before[40, 30] = 2
    cell = (40, 30) if masked else (int(before.argmax()) // 64, int(before.argmax()) % 64)
    grid = Grid(Placement(0, 0, 64, 64), 64, 64)
    found = judge(anomaly_map, 3.0, cell, grid, Calibration(0.5, (0.2,)), threshold=Threshold(0.9), ignored=ignored)
    np.testing.assert_array_equal(anomaly_map, before)
    assert found.regions
    assert not found.model_map.flags.writeable
    if masked:
        np.testing.assert_array_equal(found.model_map[:20], np.full((20, 64), before[20:].min()))
        assert min(region.box[1] for region in found.regions) >= 20
    np.testing.assert_array_equal(found.model_map[20:], before[20:])


def test_an_anomalous_image_has_a_region_also_where_its_map_stays_below_the_threshold() -> None:
    assert result_of(peak=9, score=9, threshold=6, typical=3) == (2, pytest.approx(64, abs=8))  # above 6
    assert result_of(peak=5, score=9, threshold=6, typical=3) == (1, pytest.approx(35, abs=8))  # above (3 + 5) / 2
    assert result_of(peak=2, score=9, threshold=6, typical=3) == (1, 1)  # no more than the highest place
    assert result_of(peak=9, score=5, threshold=6, typical=3) == (0, 0)  # a score says whether there are any


def test_the_document_keeps_the_score_fusion() -> None:
    bundle = make_bundle(score_fusion=SCORE_FUSION)
    assert parse_bundle(bundle.to_json()) == bundle
    errors, angles = (f"{name}_error" for name in bundle.map_names), ("stpm_16_angle", "recon_16_angle")
    assert bundle.output_names == (*bundle.map_names, *errors, *angles)
    assert json.loads(make_bundle().to_json())["score_fusion"] is None
    assert make_bundle().output_names == make_bundle().map_names


@pytest.mark.parametrize("score_fusion", [None, SCORE_FUSION])
def test_the_document_keeps_the_head(score_fusion: ScoreFusion | None) -> None:
    bundle = make_bundle(fusion=HEADED, score_fusion=score_fusion)
    assert parse_bundle(bundle.to_json()) == bundle
    assert bundle.output_names == (*replace(bundle, fusion=FUSION).output_names, "head_4")
    assert json.loads(bundle.to_json())["fusion"]["head"] == {"mean": 0.3, "std": 0.4, "weight": 0.9}
    assert json.loads(make_bundle(score_fusion=score_fusion).to_json())["fusion"]["head"] is None


@pytest.mark.parametrize(
    "fields",
    [
        {"head": {"mean": 0.3, "std": 0.0, "weight": 0.9}},
        {"head": {"mean": 0.3, "std": 0.4, "weight": float("nan")}},
        {"head": {"mean": 0.3, "std": 0.4}},
        {"head": 7},
        {"mode": "paper", "smoothing_sigma": 0.0},
        {"weights": [0.0, *[1.0] * 5]},
    ],
)
def test_a_damaged_head_is_refused(fields: dict[str, Any]) -> None:
    document = json.loads(make_bundle(fusion=HEADED).to_json())
    document["fusion"] |= fields
    with pytest.raises(ModelError, match="metadata is damaged"):
        parse_bundle(json.dumps(document))


@pytest.mark.parametrize(
    "score_fusion",
    [
        ScoreFusion(FUSION, map_weight=-0.1, bias=0.0),
        ScoreFusion(FUSION, map_weight=0.1, bias=1e400),
        ScoreFusion(Fusion(std=(0.0,) * 6), map_weight=0.1, bias=0.0),
        ScoreFusion(Fusion(weights=(1.0,) * 5), map_weight=0.1, bias=0.0),
    ],
)
def test_a_damaged_score_fusion_is_refused(score_fusion: ScoreFusion) -> None:
    document = json.loads(make_bundle().to_json()) | {"score_fusion": asdict(score_fusion)}
    with pytest.raises(ModelError, match="metadata is damaged"):
        parse_bundle(json.dumps(document))


def test_the_detector_scores_by_score_maps(model_factory: ModelFactory) -> None:
    score_fusion = ScoreFusion(Fusion(weights=(2.0,) * 6), map_weight=0.5, bias=-1.0)
    image = np.full((64, 64, 3), 255, np.uint8)  # every map says 1: the anomaly map 6, the score maps 12
    detector = Detector(model_factory(score_fusion=score_fusion))
    result = detector(image)
    assert result.score == pytest.approx(12 + 3 - 1)
    assert result.model_map.max() == pytest.approx(6)
    mask = np.zeros((64, 64), np.bool_)
    mask[:, :32] = True
    image[:, 32:] = 127  # the right half is as it should be
    assert (
        Detector(model_factory(score_fusion=score_fusion), mask=~mask)(image).score < 6
    )  # what the cells at the edge share


def test_a_model_that_lacks_its_score_maps(model_factory: ModelFactory) -> None:
    path: Path = model_factory(score_fusion=SCORE_FUSION, leave_out="recon_8_error")
    with pytest.raises(ModelError, match=r"^The output recon_8_error of .* is missing"):
        Detector(path)
