"""OpenCV's captures, with a word about which frames are damaged: OpenCV shows what FFmpeg made up, and says nothing.

FFmpeg tells of damage in its log, to which `_native` listens. What no decoder notices, nobody can tell: a changed byte
that still means something, and most damage to VP8, VP9 and uncompressed video. Where OpenCV was built with an FFmpeg
inside (no file is called `libavutil` then), there is no log to listen to.
"""

import threading
from typing import Any, Protocol

import cv2

from rstpm_edge.native import _native

# Decoders that show nothing before a frame that stands for itself; others show grey, and what moved in it. By the names
# that containers have for them.
_WAITING = frozenset({"avc1", "h264", "x264", "davc", "hev1", "hevc", "hvc1", "h265"})
_DEPENDENT = frozenset(map(ord, "PBSbp"))  # FFmpeg's letters for frames that are made of others
_ONE_THREAD = hasattr(cv2, "CAP_PROP_N_THREADS")  # OpenCV before 4.8 (a distribution's) always takes all cores
_lock = threading.Lock()
_libraries: set[str] = set()


class Capture(Protocol):
    """What a live source takes frames from: a capture of OpenCV, or of a camera that OpenCV does not know."""

    def grab(self) -> bool | None:
        """Take the next frame; False where the source is lost, None where it is there and waits, as for a trigger."""

    def retrieve(self) -> tuple[bool, Any]:
        """The frame that was grabbed, (H, W) or (H, W, C), uint8 or uint16; (False, None) for one that is not whole."""

    def get(self, prop: int, /) -> float:
        """A property of OpenCV's."""

    def release(self) -> None:
        """Let the source go."""


def open_video(path: str, *parameters: int, threads: int | None = None) -> cv2.VideoCapture:
    """OpenCV's capture of a file or stream through FFmpeg. `threads` of the decoder; by default one for each core."""
    options = list(parameters)
    if threads is not None and _ONE_THREAD:
        options += [cv2.CAP_PROP_N_THREADS, threads]
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, options)
    _listen()  # FFmpeg is loaded now, and OpenCV has set its own listener
    return capture


def complaints() -> int:
    """How often FFmpeg has met damage in this process: a count that only ever grows."""
    return _native.complaints_in_process()


class Damage:
    """Which of the frames that `capture` grabs are damaged: those that FFmpeg complained about, and those made of them.

    The decoder must have a single thread, the one that this is used in. `from_start`: what comes before the first frame
    that stands for itself is damaged, too, as in a file.
    """

    def __init__(self, capture: Capture, *, from_start: bool = False) -> None:
        self._capture = capture
        self._complaints = _complaints_here()
        self._key_since = True
        self.damaged = from_start and codec(capture) not in _WAITING

    def update(self) -> bool:
        """Take note of a grab; whether FFmpeg complained."""
        count = _complaints_here()
        complained, self._complaints = count > self._complaints, count
        if complained:
            self.damaged, self._key_since = True, False
        elif self.damaged:
            # A decoder that reorders frames is some packets ahead of what it shows: only a key frame whose packet came
            # after the complaint heals.
            self._key_since = self._key_since or self._capture.get(cv2.CAP_PROP_LRF_HAS_KEY_FRAME) > 0
            self.damaged = not self._key_since or is_dependent(self._capture)
        return complained


def is_dependent(capture: Capture) -> bool:
    """Whether the frame that was grabbed is made of others."""
    return int(capture.get(cv2.CAP_PROP_FRAME_TYPE)) in _DEPENDENT


def codec(capture: Capture) -> str:
    """What the container calls the codec, such as "mjpg"."""
    return (int(capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF).to_bytes(4, "little").decode("latin-1").lower()


def _complaints_here() -> int:
    """Those of this thread; of the whole process where the decoder has threads of its own."""
    return _native.complaints_in_thread() if _ONE_THREAD else complaints()


def _listen() -> None:
    with _lock:
        if not _libraries:
            with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
                paths = {line.split(maxsplit=5)[-1].rstrip("\n") for line in maps if "libavutil" in line}
            _libraries.update(path for path in paths if _native.listen_to_ffmpeg(path))
