"""What a verdict's JSON says of an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rstpm_edge import Detector
from rstpm_edge.outputs.verdict_json import verdict_fields
from rstpm_edge.sources.frames import Frame
from rstpm_edge.sources.live import output_name


@pytest.mark.parametrize(
    ("stamp", "time"),
    [
        (1e15, None),
        (-1e15, None),
        (float(1 << 63), None),
        (253402300800.0, None),  # the first second of the year 10000
        (-1.5, "1969-12-31T23:59:58.500+00:00"),
        (1.25, "1970-01-01T00:00:01.250+00:00"),
    ],
)
def test_a_time_stamp_that_is_no_date(
    model: Path, tmp_path: Path, bad: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, stamp: float, time: str | None
) -> None:
    frame = Frame("x.png", bad, "x.png", 1.0, taken=stamp)
    assert verdict_fields(frame, Detector(model)(bad), 1.0)["time"] == time
    assert output_name("camera:0", stamp).startswith("camera_0-")


def test_a_mask_and_a_roi_are_told_where_there_are_any(model: Path, bad: NDArray[np.uint8]) -> None:
    frame, mask = Frame("x.png", bad, "x.png", 1.0), np.ones(bad.shape[:2], np.bool_)
    assert {"masked", "roi"}.isdisjoint(verdict_fields(frame, Detector(model)(bad), 1.0))
    told = verdict_fields(frame, Detector(model, mask=mask, roi=(0, 0, 64, 64))(bad), 1.0)
    assert (told["masked"], told["roi"]) == (True, (0, 0, 64, 64))
