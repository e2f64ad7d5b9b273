"""The C library gives the scores that are committed in tests/data/scores.json, on each kernel."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from score_vectors import Vector, load

from rstpm_edge.model.metadata import Fusion
from rstpm_edge.native import kernels

pytestmark = pytest.mark.checkout

Int3, Double4, Double6 = ctypes.c_int32 * 3, ctypes.c_double * 4, ctypes.c_double * 6


class ScorerConfig(ctypes.Structure):
    """rstpm_scorer_config, field for field."""

    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        ("mode", ctypes.c_int32),
        ("level_height", Int3),
        ("level_width", Int3),
        ("height", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("mean", Double6),
        ("std", Double6),
        ("weight", Double6),
        ("smoothing_sigma", ctypes.c_double),
        ("has_head", ctypes.c_int32),
        ("has_score_maps", ctypes.c_int32),
        ("head_mean", ctypes.c_double),
        ("head_std", ctypes.c_double),
        ("head_weight", ctypes.c_double),
        ("score_mode", ctypes.c_int32),
        ("score_mean", Double6),
        ("score_std", Double6),
        ("score_weight", Double6),
        ("score_smoothing_sigma", ctypes.c_double),
        ("coarse_maps", ctypes.c_int32),
        ("coarse_mean", Double4),
        ("coarse_std", Double4),
        ("coarse_weight", Double4),
        ("map_weight", ctypes.c_double),
        ("bias", ctypes.c_double),
        ("threshold", ctypes.c_double),
        ("kernel", ctypes.c_char_p),
    )


class Score(ctypes.Structure):
    """rstpm_score."""

    _fields_ = (
        ("score", ctypes.c_float),
        ("row", ctypes.c_int32),
        ("column", ctypes.c_int32),
        ("anomalous", ctypes.c_int32),
        ("nonfinite", ctypes.c_int32),
    )


def config_of(vector: Vector, kernel: str) -> ScorerConfig:
    def six(prefix: str, fusion: Fusion) -> dict[str, Any]:
        values = {"mean": fusion.mean, "std": fusion.std, "weight": fusion.weights}
        fields: dict[str, Any] = {prefix + name: Double6(*numbers) for name, numbers in values.items()}
        return {**fields, prefix + "smoothing_sigma": fusion.smoothing_sigma}

    modes = ("normalized", "paper")
    (height, width), head, score_fusion = vector.size, vector.fusion.head, vector.score_fusion
    fields = {"mode": modes.index(vector.fusion.mode), **six("", vector.fusion), "threshold": vector.threshold}
    if head is not None:
        fields |= {"has_head": 1, **{f"head_{name}": value for name, value in vars(head).items()}}
    if score_fusion is not None:
        fields |= {"has_score_maps": 1, "score_mode": modes.index(score_fusion.fusion.mode)}
        fields |= {
            **six("score_", score_fusion.fusion),
            "map_weight": score_fusion.map_weight,
            "bias": score_fusion.bias,
        }
        if (coarse := score_fusion.coarse) is not None:
            rows = {"mean": coarse.mean, "std": coarse.std, "weight": coarse.weights}
            fields |= {f"coarse_{name}": Double4(*values) for name, values in rows.items()}
            fields |= {"coarse_maps": len(coarse.weights)}
    return ScorerConfig(
        struct_size=ctypes.sizeof(ScorerConfig),
        level_height=Int3(*(level[0] for level in vector.levels)),
        level_width=Int3(*(level[1] for level in vector.levels)),
        height=height,
        width=width,
        kernel=kernel.encode(),
        **fields,
    )


@pytest.mark.parametrize("vector", [pytest.param(vector, id=vector.name) for vector in load()])
def test_the_library_gives_the_committed_scores(vector: Vector, library: Path) -> None:
    c = ctypes.CDLL(str(library / "librstpm_edge.so"))
    c.rstpm_scorer_destroy.argtypes = [ctypes.c_void_p]
    for kernel in kernels().available:
        scorer, config, result = ctypes.c_void_p(), config_of(vector, kernel), Score()
        assert c.rstpm_scorer_create(ctypes.byref(config), ctypes.byref(scorer)) == 0
        flat = vector.outputs.flat()
        outputs = (ctypes.c_void_p * len(flat))(*(values.ctypes.data for values in flat))
        mask = None if vector.counts is None else vector.counts.astype(np.uint8)
        masks = None if mask is None else (ctypes.c_void_p * 1)(mask.ctypes.data)
        anomaly_map = np.empty(vector.size, np.float32)
        out = ctypes.c_void_p(anomaly_map.ctypes.data)
        assert c.rstpm_scorer_run(scorer, outputs, ctypes.c_int64(1), masks, out, ctypes.byref(result), 1) == 0
        c.rstpm_scorer_destroy(scorer)
        assert (result.nonfinite, result.anomalous) == (not vector.finite, vector.expected["anomalous"])
        if vector.finite:
            vector.check(anomaly_map, result.score, (result.row, result.column))
        else:
            assert result.score == np.inf
