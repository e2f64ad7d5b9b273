"""Where a score comes from: parts that add up to the whole, and what each pair would have said alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import ModelFactory, make_bundle
from numpy.typing import NDArray
from score_vectors import Vector, load
from workplace import command_line

from rstpm_edge import Detector
from rstpm_edge.errors import UsageError
from rstpm_edge.image.grid import Grid
from rstpm_edge.image.placement import place
from rstpm_edge.model.metadata import Bundle, CoarseCells, Fusion, HeadMap, ScoreFusion
from rstpm_edge.model.outputs import ModelOutputs, Pair
from rstpm_edge.postprocess.explain import Explainer
from rstpm_edge.postprocess.scoring import Scorer
from rstpm_edge.result import Explanation

PLAIN = Fusion(weights=(1, 2, 1, 0.5, 1, 2), mean=(0.1,) * 6, std=(0.2, 0.3, 0.4, 0.5, 0.6, 0.7), smoothing_sigma=2.0)
WITH_HEAD = dataclasses.replace(PLAIN, head=HeadMap(0.3, 0.5, 1.5))
COARSE = CoarseCells((0.1, 0.1, 0.4, 0.5), (0.5,) * 4, (0.4, 0.5, 0.6, 0.7))
SCORES = ScoreFusion(Fusion(mean=(0.2,) * 6, std=(0.5,) * 6), bias=-2.0, coarse=COARSE, map_weight=0.3)
ERRORS = dataclasses.replace(SCORES, map_weight=0.0)
TODAY = dataclasses.replace(ERRORS, coarse=dataclasses.replace(COARSE, weights=(0.0, 0.0, 0.6, 0.7)))
SUMS = [vector for vector in load() if vector.finite and vector.fusion.mode == "normalized"]
SUMS = [one for one in SUMS if one.score_fusion is None or one.score_fusion.fusion.mode == "normalized"]


def bundle_of(size: tuple[int, int], fusion: Fusion, score_fusion: ScoreFusion | None) -> Bundle:
    height, width = size
    return make_bundle(height=height, width=width, strides=(8, 16, 32), fusion=fusion, score_fusion=score_fusion)


def explain(bundle: Bundle, outputs: ModelOutputs, ignored: Any = None, cells: Any = None, threshold: float = 0) -> Any:
    """The explanation of one image, or of some of its cells, with the peak where the map of `Scorer` has it."""
    grid = Grid(place(*bundle.size, bundle.size, "stretch"), *bundle.size)
    levels = outputs.level_sizes
    left_out = ignored if cells is None else ~cells if ignored is None else ignored | ~cells
    scored = Scorer(bundle.fusion, bundle.score_fusion, levels, bundle.size)(outputs, [left_out])
    peak = (int(scored.position[0, 0]), int(scored.position[0, 1]))
    found = Explainer(bundle).of_image(outputs, ignored, grid, threshold)(cells, peak)
    return found, float(scored.score[0]), float(scored.anomaly_map[0][peak])


def check_sums(found: Explanation, score: float, peak: float) -> None:
    assert found.score == pytest.approx(score, rel=1e-5, abs=1e-5)
    assert sum(term.value for term in found.terms) == pytest.approx(score, rel=1e-5, abs=1e-5)
    assert sum(found.anomaly.values()) == pytest.approx(peak, rel=1e-5, abs=1e-5)
    for term in found.terms:
        if term.name != "bias":
            assert sum(term.shares.values()) == pytest.approx(term.value, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("vector", SUMS, ids=[vector.name for vector in SUMS])
def test_the_parts_add_up_to_the_score_of_every_kernel(vector: Vector) -> None:
    bundle = bundle_of(vector.size, vector.fusion, vector.score_fusion)
    ignored = None if vector.counts is None else ~vector.counts
    found, _, peak = explain(bundle, vector.outputs, ignored)
    check_sums(found, vector.expected["score"], peak)


def random_outputs(bundle: Bundle, seed: int = 0) -> ModelOutputs:
    rng = np.random.default_rng(seed)
    maps = [rng.gamma(2, 0.3, (1, *size)).astype(np.float32) for size in bundle.output_sizes.values()]
    return ModelOutputs.named(list(bundle.output_sizes), maps)


@pytest.mark.parametrize("score_fusion", [None, TODAY, ERRORS, dataclasses.replace(SCORES, coarse=None, bias=0.0)])
@pytest.mark.parametrize("fusion", [PLAIN, WITH_HEAD])
@pytest.mark.parametrize("masked", [False, True])
def test_an_image_and_a_part_of_it(fusion: Fusion, score_fusion: ScoreFusion | None, masked: bool) -> None:
    """The part scores as the image would if all else were masked."""
    bundle = bundle_of((96, 160), fusion, score_fusion)
    outputs = random_outputs(bundle)
    ignored = None
    if masked:
        ignored = np.zeros(bundle.size, np.bool_)
        ignored[40:] = True
    part = np.zeros(bundle.size, np.bool_)
    part[20:50, 100:130] = True
    for cells in (None, part):
        check_sums(*explain(bundle, outputs, ignored, cells))


@pytest.mark.parametrize(
    ("score_fusion", "names"),
    [
        (TODAY, ["score_map", "coarse_angles", "bias"]),
        (ERRORS, ["score_map", "coarse_residuals", "coarse_angles", "bias"]),
        (SCORES, ["score_map", "anomaly_map", "coarse_residuals", "coarse_angles", "bias"]),
    ],
)
def test_terms_are_those_that_have_a_part(score_fusion: ScoreFusion, names: list[str]) -> None:
    bundle = bundle_of((96, 160), PLAIN, score_fusion)
    found, _, _ = explain(bundle, random_outputs(bundle))
    assert [term.name for term in found.terms] == names


def without(pair: Pair, outputs: ModelOutputs, bundle: Bundle) -> ModelOutputs:
    """The other pair's maps alone: all else is everywhere at its mean on good images."""

    def at_mean(name: str, one: Any, mean: float) -> Any:
        return np.full_like(one, mean) if name.startswith((f"{pair}_", "head_")) else one

    assert bundle.score_fusion is not None
    assert bundle.fusion.head is not None
    of_angles = COARSE.mean[2:]
    means = [*bundle.fusion.mean, *bundle.score_fusion.fusion.mean, *of_angles, bundle.fusion.head.mean]
    maps = zip(bundle.output_names, outputs.flat(), means, strict=True)
    return ModelOutputs.named(bundle.output_names, [at_mean(*one) for one in maps])


def test_what_a_pair_would_have_said_alone() -> None:
    bundle = bundle_of((96, 160), WITH_HEAD, SCORES)
    outputs = random_outputs(bundle, 1)
    scorer = Scorer(bundle.fusion, bundle.score_fusion, bundle.level_sizes, bundle.size)
    expected = {
        "stpm": float(scorer(without("recon", outputs, bundle)).score[0]),
        "recon": float(scorer(without("stpm", outputs, bundle)).score[0]),
    }
    found, score, _ = explain(bundle, outputs)
    assert found.pair_scores == pytest.approx(expected, rel=1e-5)
    low, high = sorted(expected.values())
    assert score > high > low
    for threshold, alone in ((low - 1, 2), ((low + high) / 2, 1), (high + 0.1, 0)):
        rejecting = explain(bundle, outputs, threshold=threshold)[0].rejecting_alone
        assert len(rejecting) == alone
        assert all(expected[pair] > threshold for pair in rejecting)


def test_a_detector_explains_each_region(model_factory: ModelFactory) -> None:
    """In the tiny model, every map sees the same: each has a share by its weight and scale."""
    fusion = Fusion(weights=(3.0, 2.0, 1.0, 1.0, 1.0, 1.0))
    path = model_factory(fusion=fusion)
    image = np.full((128, 128, 3), 127, np.uint8)
    image[16:32, 16:32] = 190
    image[64:128, 64:128] = 255
    detector = Detector(path, threads=1, explain=True)
    result = detector(image)
    plain = Detector(path, threads=1)(image)
    assert plain.explanation is None
    assert [one.explanation for one in plain.regions] == [None, None]
    assert (result.score, len(result.regions)) == (plain.score, 2)
    for region in result.regions:
        assert region.explanation is not None
        assert sum(region.explanation.anomaly.values()) == pytest.approx(region.peak, rel=1e-5)
        assert region.explanation.score == pytest.approx(region.peak, rel=1e-5)
        assert [term.name for term in region.explanation.terms] == ["anomaly_map"]
    strong, weak = (region.explanation for region in result.regions)
    assert list(strong.anomaly) == ["stpm_4", "stpm_8", "stpm_16", "recon_4", "recon_8", "recon_16"]
    assert strong.anomaly["stpm_4"] == pytest.approx(3 * strong.anomaly["recon_4"])
    assert strong.pair_scores == pytest.approx({"stpm": 6.0, "recon": 3.0}, rel=1e-3)
    assert strong.rejecting_alone == ("stpm", "recon")
    assert result.explanation is not None
    assert result.explanation.score == pytest.approx(result.score, rel=1e-5)
    detector.threshold = weak.pair_scores["recon"] + 0.01
    assert detector(image).regions[1].explanation.rejecting_alone == ("stpm",)


def test_a_model_that_multiplies(model_factory: ModelFactory, good: NDArray[np.uint8]) -> None:
    path = model_factory(fusion=Fusion(mode="paper"))
    with pytest.raises(UsageError, match="multiplies the levels of its maps"):
        Detector(path, explain=True)
    assert Detector(path)(good).explanation is None


def test_text_and_json(model: Path, photos: Path) -> None:
    said = command_line("infer", photos, "--explain", "--model", model).stdout.splitlines()
    assert [line.split()[0] for line in said] == ["normal", "normal", "ANOMALOUS", "score", "region", "3"]
    assert "a pair alone: stpm " in said[3]
    assert "(rejects)" in said[4]
    lines = command_line("infer", photos, "--explain", "--json", "--model", model).stdout.splitlines()
    normal, _, anomalous = map(json.loads, lines)
    assert normal["explanation"]["rejecting_alone"] == []
    (region,) = anomalous["regions"]
    assert sum(region["explanation"]["anomaly"].values()) == pytest.approx(region["peak"], rel=1e-5)
    plain = json.loads(command_line("infer", photos, "--json", "--model", model).stdout.splitlines()[-1])
    assert "explanation" not in plain
    assert "explanation" not in plain["regions"][0]
