"""Schema 1 of a model file's metadata, from before keys had today's names, as a document of schema 2."""

from collections.abc import Mapping
from typing import Any

from rstpm_edge import document as read

SCORE_FUSION_KEYS = {"outline": "map_weight", "offset": "bias"}

_REQUIRED = (
    *("preset", "height", "width", "resize", "strides", "fusion", "calibration", "teachers"),
    *("package_version", "schema_version"),
)
# Left out where they had nothing to say, so that an older reader refused no file that it read rightly.
_OPTIONAL = ("training", "roi", "precision", "moved", "evidence", "profile", "mask", "sums_fit", "head")
_FUSION = ("mode", "mean", "std", "weights", "smoothing_sigma")


def upgraded(loaded: Any) -> Mapping[str, Any]:
    """The document under the keys of schema 2. Raises ValueError where it is none of schema 1."""
    found = read.fields(loaded, "it", _REQUIRED, _OPTIONAL)
    return {
        **{key: found[key] for key in _REQUIRED},
        "fusion": _fusion(found["fusion"], found.get("head")),
        "score_fusion": None if found.get("evidence") is None else _score_fusion(found["evidence"]),
        "training": found.get("training", {}),
        "precision": found.get("precision", "fp32"),
        "precision_change": found.get("moved", {}),
        "saturation_free": found.get("sums_fit", False),
        **{key: found.get(key) for key in ("roi", "profile", "mask")},
    }


def _fusion(value: Any, head: Any) -> Mapping[str, Any]:
    return {**read.fields(value, "the fusion", _FUSION), "head": head}


def _score_fusion(value: Any) -> Mapping[str, Any]:
    found = read.fields(value, "the evidence", ("fusion", *SCORE_FUSION_KEYS))
    return {"fusion": _fusion(found["fusion"], None), **{now: found[key] for key, now in SCORE_FUSION_KEYS.items()}}
