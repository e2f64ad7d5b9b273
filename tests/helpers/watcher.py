"""A watched folder, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.sources import watched_folder as watching
from rstpm_edge.sources.frames import Failure, Frame, Item
from rstpm_edge.sources.watched_folder import WatchedFolder


def encoded(image: NDArray[np.uint8], extension: str = ".png") -> bytes:
    return cv2.imencode(extension, image)[1].tobytes()


class Watcher:
    """Collects what a `WatchedFolder` gives, in the time of the fixture `clock`."""

    def __init__(self, folder: Path, *leave_out: Path, settle: float = watching.SETTLED) -> None:
        self.reports: list[tuple[str, bool]] = []
        self.said: list[str] = []
        watched = WatchedFolder(
            folder,
            leave_out,
            settle=settle,
            report=lambda *said: self.reports.append(said),
            say=self.said.append,
        )
        self.left_out = watched.left_out
        self._items: Iterator[Item] = iter(watched)
        next(self._items)

    def until(self, *names: str, seconds: float = 20) -> dict[str, Frame | Failure]:
        """What comes until all of these files have; nothing else may."""
        found: dict[str, Frame | Failure] = {}
        deadline = watching.time.monotonic() + seconds
        while len(found) < len(names):
            assert watching.time.monotonic() < deadline, f"only {sorted(found)} came"
            item = next(self._items)
            if item is not None:
                found[Path(item.source).name] = item
        assert sorted(found) == sorted(names)
        return found

    def nothing(self, seconds: float = 0.8) -> None:
        """Nothing may come for a while."""
        deadline = watching.time.monotonic() + seconds
        while watching.time.monotonic() < deadline:
            assert next(self._items) is None
