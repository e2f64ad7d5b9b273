"""The row of an image in a part file."""

from typing import Any

import pyarrow as pa

from rstpm_edge.result import Result

FAILED = "failed"
REGION = pa.struct(
    [
        ("box", pa.list_(pa.int32())),  # x, y, width, height
        ("area", pa.int64()),
        ("peak", pa.float64()),
        ("position", pa.list_(pa.int32())),  # x, y
    ]
)
# As the fields of `infer --json`, where they have the same name. `sha256` is that of the image's bytes; it is missing
# where they could not be read, or no worker came to an end with them: such an image is tried again.
ROWS = pa.schema(
    [
        ("path", pa.string()),
        ("verdict", pa.string()),  # normal, anomalous, invalid; failed where there is none
        ("score", pa.float64()),
        ("threshold", pa.float64()),
        ("p_value", pa.float64()),
        ("invalid_reason", pa.string()),
        ("regions", pa.list_(REGION)),
        ("error", pa.string()),
        ("model_sha256", pa.string()),
        ("sha256", pa.string()),
        ("size", pa.int64()),
        ("version", pa.string()),
    ]
)


def judged(result: Result) -> dict[str, Any]:
    """The fields of an image that has a verdict, but for what it is."""
    return {
        "verdict": result.verdict,
        "score": result.score,
        "threshold": result.threshold,
        "p_value": result.p_value,
        "invalid_reason": result.invalid_reason,
        "regions": [
            {"box": region.box, "area": region.area, "peak": region.peak, "position": region.position}
            for region in result.regions
        ],
        "error": None,
    }


def failed(reason: str, *, invalid: str | None = None) -> dict[str, Any]:
    """The fields of an image that has no score; `invalid` says why where it could be read all the same."""
    return {
        "verdict": FAILED if invalid is None else "invalid",
        "score": None,
        "threshold": None,
        "p_value": None,
        "invalid_reason": invalid,
        "regions": [],
        "error": reason,
    }
