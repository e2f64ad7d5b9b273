"""Goldens: photos inside a model file, with what the model made of them when it was exported.

They stand under a metadata key of their own. A reader from before skips it, and loses nothing that decides a verdict.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge import document as read
from rstpm_edge.errors import ImageError, ModelError
from rstpm_edge.image.decode import decode_unchanged

SCHEMA_VERSION, NEEDS = 1, "0.1.0"  # of this document, and the first release that reads it
MOST = 8
MOST_BYTES = 24_000_000  # of all their photos as PNG
_MOST_TEXT = 1 << 26
_STEPS = 65535


@dataclass(frozen=True, eq=False)
class StoredMap:
    """An anomaly map (h, w) as a 16-bit grey PNG, whose value v means low + (high - low) · v / 65535.

    It is off by at most half of such a step, a 131070th of its range.
    """

    png: bytes
    low: float
    high: float

    def values(self) -> NDArray[np.float32]:
        """The map. Raises ModelError where it cannot be read."""
        try:
            steps = decode_unchanged(self.png, "the map of a golden")
        except ImageError as error:
            raise ModelError(f"The model's goldens are damaged: {error}") from error
        if steps.dtype != np.uint16 or steps.ndim != 2:
            raise ModelError("The model's goldens are damaged: a map is no grey picture of 16 bits.")
        return (self.low + (self.high - self.low) / _STEPS * steps.astype(np.float64)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Golden:
    """A photo, as a PNG with all that its file held, and the verdict on it at export."""

    name: str
    image: bytes
    score: float
    is_anomalous: bool
    anomaly_map: StoredMap


def stored_map(values: NDArray[np.float32]) -> StoredMap:
    """What `StoredMap.values` gives back."""
    low, high = float(values.min()), float(values.max())
    steps = np.rint((values.astype(np.float64) - low) * (_STEPS / max(high - low, 1e-30))).astype(np.uint16)
    return StoredMap(_png(steps), low, high)


def golden_image(pixels: NDArray[Any]) -> bytes:
    """A photo (H, W, 3) BGR of 8 or 16 bits as PNG, without what else its file may have said; grey where it is."""
    grey = bool((pixels[..., :1] == pixels).all())
    return _png(pixels[..., 0] if grey else pixels)


def goldens_to_json(goldens: Sequence[Golden]) -> str:
    """The document."""
    listed = [
        {
            "name": one.name,
            "image": base64.b64encode(one.image).decode(),
            "score": one.score,
            "is_anomalous": one.is_anomalous,
            "map": {
                "png": base64.b64encode(one.anomaly_map.png).decode(),
                "low": one.anomaly_map.low,
                "high": one.anomaly_map.high,
            },
        }
        for one in goldens
    ]
    return json.dumps({"schema_version": SCHEMA_VERSION, "needs": NEEDS, "goldens": listed}, allow_nan=False)


def parse_goldens(document: str) -> tuple[Golden, ...]:
    """Read the document. Raises ModelError when it is damaged, or of a newer schema than this package reads."""
    try:
        loaded = read.load(document)
        read.schema_version(loaded, SCHEMA_VERSION)
        found = read.fields(loaded, "it", ("schema_version", "needs", "goldens"))
        if not isinstance(found["goldens"], list) or not 0 < len(found["goldens"]) <= MOST:
            raise ValueError(f"they are no list of 1 to {MOST}")
        return tuple(_golden(one) for one in found["goldens"])
    except read.NewerError as error:
        raise ModelError(f"What the model's goldens are written in {error}; upgrade to replay them.") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"The model's goldens are damaged ({str(error).rstrip('.')}); export the model again."
        ) from error


def _golden(value: Any) -> Golden:
    found = read.fields(value, "a golden", ("name", "image", "score", "is_anomalous", "map"))
    stored = read.fields(found["map"], "a golden's map", ("png", "low", "high"))
    if not isinstance(found["is_anomalous"], bool):
        raise ValueError("a golden's verdict is neither true nor false")
    low, high = (read.number(stored[name], "an end of a golden's map", -3.4e38, 3.4e38) for name in ("low", "high"))
    return Golden(
        name=read.text(found["name"], "a golden's name", 255),
        image=_bytes(found["image"]),
        score=read.number(found["score"], "a golden's score", -3.4e38, 3.4e38),
        is_anomalous=found["is_anomalous"],
        anomaly_map=StoredMap(_bytes(stored["png"]), low, high),
    )


def _bytes(value: Any) -> bytes:
    if not isinstance(value, str) or len(value) > _MOST_TEXT:
        raise ValueError("a golden's picture is no text")
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError("a golden's picture is no base64") from error


def _png(pixels: NDArray[Any]) -> bytes:
    encoded: bytes = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()
    return encoded
