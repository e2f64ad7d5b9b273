"""Pictures of parts, as files in a folder for each day: the photo, a small one, and the anomaly map."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.outputs.drawing import scaled
from rstpm_edge.result import Result

PHOTO, SMALL, MAP = "jpg", "small.jpg", "map.png"  # endings behind a part's id
QUALITY = 92  # of the JPEG of a photo: some of them are learned from one day
SMALL_SIDE = 128  # pixels of the short side of a small one, in which copies are told
MAP_SIDE = 320  # pixels of the long side of a map; the model's own are hardly finer
MAP_THRESHOLD = 128  # grey value of the threshold in a map; 0 is a typical good part


@dataclass(frozen=True)
class Pictures:
    """The folder of all of them."""

    folder: Path

    def write(self, part: int, photo: NDArray[np.uint8], result: Result | None) -> int:
        """Keep a photo (H, W, 3) RGB and the map of its result; gives the bytes. Raises OSError, and leaves nothing."""
        bgr = np.asarray(cv2.cvtColor(photo, cv2.COLOR_RGB2BGR), np.uint8)
        contents = {
            PHOTO: jpeg(bgr, QUALITY),
            SMALL: jpeg(scaled(bgr, min(SMALL_SIDE / min(bgr.shape[:2]), 1.0)), 85),
        }
        if result is not None:
            contents[MAP] = map_png(result)
        self._day(part).mkdir(parents=True, exist_ok=True)
        try:
            for ending, content in contents.items():
                # Not under a temporary name, nor synced: nobody knows of it before the database does, which comes next.
                self.path(part, ending).write_bytes(content)
        except BaseException:
            self.remove(part)
            raise
        return sum(map(len, contents.values()))

    def path(self, part: int, ending: str) -> Path:
        """Where a picture lies."""
        return self._day(part) / f"{part}.{ending}"

    def read(self, part: int, ending: str) -> bytes | None:
        """A picture; None where it is not kept any more."""
        try:
            return self.path(part, ending).read_bytes()
        except OSError:
            return None

    def remove(self, part: int) -> bool:
        """Those of a part, if there are any; whether there were."""
        removed = False
        for ending in (PHOTO, SMALL, MAP):
            with contextlib.suppress(OSError):
                self.path(part, ending).unlink()
                removed = True
        with contextlib.suppress(OSError):  # the last one of a day
            self._day(part).rmdir()
        return removed

    def parts(self) -> Iterator[int]:
        """The ids of all parts that have any file."""
        for day in sorted(self.folder.glob("????-??-??")):
            found = {name.partition(".")[0] for name in os.listdir(day)}
            yield from sorted(int(name) for name in found if name.isdecimal())

    def _day(self, part: int) -> Path:
        """By the id, which is made of the time, in ms since 1970."""
        return self.folder / datetime.fromtimestamp(part / 1000, timezone.utc).strftime("%Y-%m-%d")


def jpeg(bgr: NDArray[np.uint8], quality: int) -> bytes:
    """A picture (H, W, 3) as a JPEG file."""
    encoded: bytes = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    return encoded


def map_png(result: Result, side: int = MAP_SIDE) -> bytes:
    """The anomaly map of all of the photo as an 8-bit grey PNG, at most `side` pixels long.

    0 is a typical good part, and all below it; MAP_THRESHOLD the threshold; linear between and up to 255.
    """
    height, width = result.image_size
    scale = min(side / max(height, width), 1.0)
    anomaly = result.resized_map(max(round(height * scale), 1), max(round(width * scale), 1))
    level = (anomaly - (result.threshold - result.span)) * (MAP_THRESHOLD / result.span)
    encoded: bytes = cv2.imencode(".png", np.clip(np.rint(level), 0, 255).astype(np.uint8))[1].tobytes()
    return encoded
