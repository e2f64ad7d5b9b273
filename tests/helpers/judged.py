"""Inspections for the tests of a history: made by a real detector, one a millisecond."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge import Detector
from rstpm_edge.outputs.verdict_json import failure_fields, verdict_fields
from rstpm_edge.sources.frames import Failure, Frame
from rstpm_edge.station.event import Inspection

START = 1_790_000_000_000  # ms since 1970: the first id


def inspect(detector: Detector, photo: NDArray[np.uint8], number: int, *, path: str = "", **more: Any) -> Inspection:
    """A verdict on a photo (H, W, 3) BGR; its id is START + number."""
    frame = Frame(path or f"in/{number}.png", photo, "", 1.0, taken=more.pop("taken", None))
    result = detector(photo)
    fields = verdict_fields(frame, result, 2.0)
    part = START + number
    return Inspection(part / 1000, "line", "product", "1", fields, result, photo, id=part, **more)


def failed(number: int) -> Inspection:
    part = START + number
    fields = failure_fields(Failure(f"in/{number}.png", f"Cannot read in/{number}.png."))
    return Inspection(part / 1000, "line", "product", "1", fields, id=part)


def rgb(inspection: Inspection) -> NDArray[np.uint8] | None:
    """As `photos.rgb_of`, of an inspection with an array."""
    if inspection.photo is None:
        return None
    return np.asarray(cv2.cvtColor(np.asarray(inspection.photo), cv2.COLOR_BGR2RGB), np.uint8)


def inspect_all(detector: Detector, photos: Sequence[NDArray[np.uint8]], start: int = 0) -> list[Inspection]:
    return [inspect(detector, photo, start + number) for number, photo in enumerate(photos)]
