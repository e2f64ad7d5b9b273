"""Write what every implementation of the score is held to: tests/data/scores.json, small inputs and what they give.

    python tools/score_vectors.py

Computed in float64 by `rstpm_edge.postprocess.reference`, from inputs that are to be read as float32. The places of
maxima are unmistakable: what comes second is clearly lower.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.model.metadata import CoarseCells, Fusion, FusionMode, HeadMap, ScoreFusion
from rstpm_edge.model.outputs import ByPair, ModelOutputs
from rstpm_edge.postprocess.reference import Float64, score_outputs

FILE = Path(__file__).parent.parent / "tests" / "data" / "scores.json"
ABOUT = (
    "Inputs of rstpm_scorer_run and what they give, in float64, by the formulas at rstpm_scorer_config in "
    "csrc/rstpm_edge.h. Read inputs as float32; null is NaN. Maps are in row-major order; the mask has 1 where "
    "anomalies count. `tolerance` is how far map and score may be off."
)
CLEARLY = 1e-3  # of the largest value: by how much maxima stand out, and scores from the threshold

Sizes = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Case:
    """One set of parameters."""

    name: str
    size: tuple[int, int]
    levels: Sizes
    mode: FusionMode = "normalized"
    sigma: float = 0.0
    head: bool = False
    score_maps: FusionMode | None = None
    score_sigma: float = 0.0
    coarse: int = 0  # maps of the coarsest level that have a part
    mask: bool = False
    nan: int | None = None  # the output that has one


ODD: Sizes = ((5, 7), (3, 4), (2, 2))
CASES = (
    Case("normalized", (15, 22), ODD),
    Case("normalized, smoothed", (15, 22), ODD, sigma=1.3),
    Case("paper", (15, 22), ODD, "paper"),
    Case("head", (15, 22), ODD, head=True),
    Case("score maps", (15, 22), ODD, score_maps="normalized", score_sigma=2.0),
    Case("head, score maps, smoothed", (15, 22), ODD, sigma=0.8, head=True, score_maps="normalized", score_sigma=2.0),
    Case("all, with a mask", (15, 22), ODD, sigma=0.8, head=True, score_maps="normalized", mask=True),
    Case("six maps, with a mask", (15, 22), ODD, mask=True),
    Case("both of the paper", (13, 10), ((4, 5), (3, 2), (1, 1)), "paper", score_maps="paper"),
    Case("levels finer than the map", (7, 9), ((12, 10), (8, 9), (5, 3)), head=True),
    Case("wider than a vector", (3, 41), ((2, 20), (1, 10), (1, 5)), sigma=0.5, score_maps="normalized"),
    Case("one pixel", (1, 1), ((1, 1), (1, 1), (1, 1)), head=True, score_maps="normalized"),
    Case("coarsest cells", (15, 22), ODD, sigma=0.8, head=True, score_maps="normalized", coarse=4),
    Case("coarsest cells without angles", (15, 22), ODD, head=True, score_maps="normalized", coarse=2),
    Case(
        "coarsest cells, with a mask",
        (15, 22),
        ((8, 11), (5, 7), (4, 6)),
        score_maps="normalized",
        coarse=4,
        mask=True,
    ),
    Case("coarsest cells beside a product", (13, 10), ((4, 5), (3, 2), (2, 2)), "paper", score_maps="paper", coarse=4),
    Case("NaN in a map", (5, 6), ((3, 3), (2, 2), (1, 1)), nan=4),
    Case("NaN in a score map", (5, 6), ((3, 3), (2, 2), (1, 1)), score_maps="normalized", nan=7),
    Case("NaN in an angle map", (5, 6), ((3, 3), (2, 2), (1, 1)), score_maps="normalized", coarse=4, nan=13),
    Case("NaN in the head's map", (5, 6), ((3, 3), (2, 2), (1, 1)), head=True, nan=6),
)


def vectors() -> list[dict[str, Any]]:
    """Each case as JSON."""
    return [next(found for found in _tries(case) if found is not None) for case in CASES]


def _tries(case: Case) -> Iterator[dict[str, Any] | None]:
    """The case with one seed after another; None where a place or a verdict is not clear."""
    seed = 0
    while True:
        seed += 1
        yield _vector(case, np.random.default_rng(seed))


def _vector(case: Case, rng: np.random.Generator) -> dict[str, Any] | None:
    def some(low: float, high: float) -> tuple[float, ...]:
        return tuple(rng.uniform(low, high, 6).round(3).tolist())

    def fusion(mode: FusionMode, sigma: float) -> Fusion:
        return Fusion(mode, some(0.2, 0.8), some(0.1, 0.6), some(0.3, 1.4), sigma)

    def coarse(maps: int) -> CoarseCells | None:
        rows = [some(*ends)[:maps] for ends in ((0.2, 0.8), (0.1, 0.6), (0.3, 1.4))] if maps else []
        return CoarseCells(*rows) if rows else None

    def draw(size: tuple[int, int]) -> NDArray[np.float32]:
        return np.asarray(rng.uniform(0, 2, (1, *size)).round(4), np.float32)

    outputs = ModelOutputs(
        ByPair.of(map(draw, case.levels * 2)),
        None if case.score_maps is None else ByPair.of(map(draw, case.levels * 2)),
        (draw(case.levels[-1]), draw(case.levels[-1])) if case.coarse == 4 else None,
        draw(max(case.levels)) if case.head else None,
    )
    statistics = fusion(case.mode, case.sigma)
    head = HeadMap(*rng.uniform(0.2, 0.8, 3).round(3).tolist()) if case.head else None
    score_fusion = None
    if case.score_maps is not None:
        score_fusion = ScoreFusion(
            fusion(case.score_maps, case.score_sigma), bias=-1.25, coarse=coarse(case.coarse), map_weight=0.35
        )
    with_head = Fusion(**{**vars(statistics), "head": head})
    counts = rng.random(case.size) < 0.6 if case.mask else None
    fused, score, position = score_outputs(outputs, with_head, score_fusion, case.size, counts)
    largest = max(1.0, float(np.abs(fused).max()), abs(float(score[0])))
    threshold = round(float(score[0]) + float(rng.choice([-0.5, 0.5])), 3)
    if case.nan is None and not _is_clear(fused, counts, CLEARLY * largest):
        return None
    if case.nan is not None:
        outputs.flat()[case.nan][0, 0, 0] = np.nan
    found = {
        "map": [float(f"{value:.7g}") for value in fused.ravel()],
        "score": float(f"{score[0]:.8g}"),
        "position": position[0].tolist(),
        "anomalous": bool(score[0] > threshold),
        "nonfinite": False,
        "tolerance": float(f"{2e-6 * largest:.2g}"),
    }
    return {
        "name": case.name,
        "size": case.size,
        "levels": case.levels,
        **_statistics(statistics),
        "head": None if head is None else vars(head),
        "score_maps": None
        if score_fusion is None
        else {
            **_statistics(score_fusion.fusion),
            "map_weight": score_fusion.map_weight,
            "coarse": None if score_fusion.coarse is None else vars(score_fusion.coarse),
            "bias": score_fusion.bias,
        },
        "threshold": threshold,
        "mask": None if counts is None else counts.astype(int).ravel().tolist(),
        "outputs": [_values(output) for output in outputs.flat()],
        "expected": found if case.nan is None else {"nonfinite": True, "anomalous": True},
    }


def _statistics(fusion: Fusion) -> dict[str, Any]:
    return {
        "mode": fusion.mode,
        "mean": fusion.mean,
        "std": fusion.std,
        "weights": fusion.weights,
        "smoothing_sigma": fusion.smoothing_sigma,
    }


def _values(output: NDArray[np.float32]) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 4) for value in output.ravel()]


def _is_clear(fused: Float64, counts: NDArray[np.bool_] | None, least: float) -> bool:
    """Whether the map's maximum stands out, with a mask also from what the mask leaves out."""
    kept: Sequence[float] = np.sort(fused[0] if counts is None else fused[0][counts], axis=None).tolist()
    if counts is not None and float(fused[0][~counts].max()) < kept[-1] + least:
        return False  # the mask would change nothing
    return len(kept) < 2 or kept[-1] - kept[-2] > least


def main() -> None:
    """Write the file: a line for each field, so that differences can be read."""
    cases = []
    for case in vectors():
        fields = [f"{json.dumps(name)}: {json.dumps(value, allow_nan=False)}" for name, value in case.items()]
        cases.append("{" + ",\n".join(fields) + "}")
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(f'{{"about": {json.dumps(ABOUT)},\n"cases": [\n' + ",\n\n".join(cases) + "\n]}\n")


if __name__ == "__main__":
    main()
