"""What a source gives: frames and failures, and which of the frames are due."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

from rstpm_edge.sources.file_state import WatchedFile


@dataclass(frozen=True, eq=False)
class Frame:
    """One image to judge.

    `source` is where it came from, for people. `image` is (H, W, 3) BGR, uint8 or uint16. `output` names the files that
    are written for it, below their folder. `read_ms` is what reading and decoding it took.

    `number` counts the frames of a video or camera from 0, those that are left out included. `seconds` is the
    time in a video. `taken` is when a camera took the frame, or its file was written (seconds since 1970).
    `dropped` is how many frames of a camera were dropped so far, `damaged` how many of those because they were
    damaged. `file` is the file of a watched folder. None where they mean nothing.
    """

    source: str
    image: NDArray[Any]
    output: str
    read_ms: float
    number: int | None = None
    seconds: float | None = None
    taken: float | None = None
    dropped: int | None = None
    damaged: int | None = None
    file: WatchedFile | None = None


@dataclass(frozen=True)
class Failure:
    """An image, a frame (then with its `number`), or the rest of a video, that could not be read or judged.

    `file` is the file of a watched folder that is not tried again as it is; None for one that may be. `invalid_reason`
    says why an image that could be read is INVALID, where it got no score.
    """

    source: str
    message: str
    number: int | None = None
    file: WatchedFile | None = None
    invalid_reason: str | None = None


# None says that nothing has come for a moment, so that the caller can look after other things.
Item: TypeAlias = Frame | Failure | None


# Called with a sentence, and whether there is a source, when one without an end is lost, and when it is back.
SourceReport: TypeAlias = Callable[[str, bool], None]


class Source(Protocol):
    """Where images come from, once it is open. Iterating raises SourceError where it is lost for good."""

    def __iter__(self) -> Iterator[Item]: ...

    def summary(self) -> str:
        """What is to be said at the end of what was not judged; empty where there is nothing."""

    def close(self) -> None:
        """Leave the source."""


@dataclass(frozen=True)
class Every:
    """Which frames of a video or camera are judged: the first of each `frames`, or of each span of `seconds`."""

    frames: int = 1
    seconds: float | None = None

    def slot(self, number: int, seconds: float) -> int:
        """The slot that a frame falls into; the first frame of a slot is judged."""
        if self.seconds is None:
            return number // self.frames
        return math.floor(seconds / self.seconds + 1e-6)  # 0.3 / 0.1 is a little less than 3


def utc_time(seconds: float) -> str | None:
    """Seconds since 1970 as 2026-01-31T12:00:00.250+00:00; None outside the years 1 to 9999, which files may claim."""
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return None
