"""A live source as tests look at it, and a camera that needs none."""

from __future__ import annotations

import threading
import time
from typing import Any

import cv2
import numpy as np

from rstpm_edge.sources.frames import Frame
from rstpm_edge.sources.live import Live


class Source:
    """A `Live`, with its iterator and what it reports."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self.reports: list[tuple[str, bool]] = []
        self.live = Live(*arguments, report=lambda *said: self.reports.append(said), **keywords)
        self._items = iter(self.live)

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *exception: object) -> None:
        self.live.close()

    def next(self, seconds: float = 20) -> Frame:
        """The next frame; it must come in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            frame = next(self._items)
            if frame is not None:
                return frame
        raise AssertionError("no frame came")


class FakeCapture:
    """What OpenCV makes of a camera."""

    def __init__(self, *arguments: Any, frames: int = 10**9, largest: int = 1920) -> None:
        self.arguments = arguments
        self.frames, self.largest = frames, largest
        self.properties: dict[int, float] = {}
        self.order: list[int] = []
        self.released = False
        self.blocks = threading.Event()
        self.blocks.set()

    def isOpened(self) -> bool:
        return True

    def set(self, prop: int, value: float) -> bool:
        self.order.append(prop)
        self.properties[prop] = min(value, self.largest) if prop == cv2.CAP_PROP_FRAME_WIDTH else value
        return True

    def get(self, prop: int) -> float:
        return self.properties[prop]

    def grab(self) -> bool:
        self.blocks.wait()
        time.sleep(0.005)
        self.frames -= 1
        return self.frames >= 0

    def retrieve(self) -> tuple[bool, Any]:
        return True, np.full((4, 6), 127, np.uint8)

    def release(self) -> None:
        self.released = True
