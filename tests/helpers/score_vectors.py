"""tests/data/scores.json, typed: inputs, parameters, and the map, score and position that they must give."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from bundles import make_bundle
from checkout import ROOT
from numpy.typing import NDArray

from rstpm_edge.model.metadata import CoarseCells, Fusion, HeadMap, ScoreFusion
from rstpm_edge.model.outputs import ModelOutputs

FILE = ROOT / "tests" / "data" / "scores.json"
STRIDES = (8, 16, 32)


@dataclass(frozen=True, eq=False)
class Vector:
    """One case of a batch of 1; `expected` is the file's own, and has no map where a value is not finite."""

    name: str
    size: tuple[int, int]
    levels: tuple[tuple[int, int], ...]
    fusion: Fusion
    score_fusion: ScoreFusion | None
    threshold: float
    counts: NDArray[np.bool_] | None
    outputs: ModelOutputs
    expected: dict[str, Any]

    @property
    def finite(self) -> bool:
        return not self.expected["nonfinite"]

    @property
    def names(self) -> tuple[str, ...]:
        """What the outputs would be called in a model."""
        return _names(self.score_fusion, self.fusion.head)

    def check(self, anomaly_map: Any, score: Any, position: Any = None) -> None:
        """Hold a map (H, W), a score and, where there is one, a position to what is expected."""
        tolerance = self.expected["tolerance"]
        expected = np.reshape(self.expected["map"], self.size)
        np.testing.assert_allclose(anomaly_map, expected, rtol=0, atol=tolerance)
        np.testing.assert_allclose(score, self.expected["score"], rtol=0, atol=tolerance)
        assert (float(score) > self.threshold) == self.expected["anomalous"]
        if position is not None:
            assert list(position) == self.expected["position"]


def load() -> list[Vector]:
    """All of them."""
    return [_vector(case) for case in json.loads(FILE.read_text())["cases"]]


def _vector(case: dict[str, Any]) -> Vector:
    head, scores, mask = case["head"], case["score_maps"], case["mask"]
    levels = tuple((height, width) for height, width in case["levels"])
    fusion = _fusion(case, None if head is None else HeadMap(**head))
    score_fusion = None if scores is None else _score_fusion(scores)
    names = _names(score_fusion, fusion.head)
    of_stride = dict(zip(map(str, STRIDES), levels, strict=True))
    sizes = [of_stride[name.split("_")[1]] for name in names]
    outputs = [np.reshape(v, (1, *size)).astype(np.float32) for v, size in zip(case["outputs"], sizes, strict=True)]
    return Vector(
        name=case["name"],
        size=(case["size"][0], case["size"][1]),
        levels=levels,
        fusion=fusion,
        score_fusion=score_fusion,
        threshold=case["threshold"],
        counts=None if mask is None else np.reshape(mask, case["size"]).astype(np.bool_),
        outputs=ModelOutputs.named(names, outputs),
        expected=case["expected"],
    )


def _score_fusion(case: dict[str, Any]) -> ScoreFusion:
    coarse = case["coarse"] and CoarseCells(**{name: tuple(row) for name, row in case["coarse"].items()})
    return ScoreFusion(_fusion(case, None), case["bias"], coarse, case["map_weight"])


def _names(score_fusion: ScoreFusion | None, head: HeadMap | None) -> tuple[str, ...]:
    return make_bundle(strides=STRIDES, fusion=Fusion(head=head), score_fusion=score_fusion).output_names


def _fusion(case: dict[str, Any], head: HeadMap | None) -> Fusion:
    six = {name: tuple(case[name]) for name in ("mean", "std", "weights")}
    return Fusion(mode=case["mode"], smoothing_sigma=case["smoothing_sigma"], head=head, **six)
