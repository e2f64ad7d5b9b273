"""The JPEGs of a Motion JPEG file, looked at beside its frames: FFmpeg decodes past most damage without a word."""

import struct
from collections.abc import Callable, Iterator
from itertools import islice

import cv2
import numpy as np

from rstpm_edge.image.formats.jpeg import has_whole_scans
from rstpm_edge.sources.capture import codec

_CODECS = frozenset({"mjpg", "jpeg", "mjpa", "avrn", "jpgl"})
_TRIED = 8  # packets of which one must be whole: an encoder that writes otherwise writes all of them so


class JpegPackets:
    """Whether the packet that a frame of a Motion JPEG file was made of holds exactly what it should.

    `open_again` opens the file once more. Of other files, and of those with JPEGs of another make, each packet counts
    as whole.
    """

    def __init__(self, capture: cv2.VideoCapture, open_again: Callable[[], cv2.VideoCapture]) -> None:
        self._packets: Iterator[bytes] | None = None
        self._next = 0
        if codec(capture) in _CODECS and any(map(_is_whole, islice(_read(open_again()), _TRIED))):
            self._packets = _read(open_again())

    def is_whole(self, number: int) -> bool:
        """Whether packet `number` is; numbers must rise."""
        if self._packets is None:
            return True
        packet = b""
        while self._next <= number:
            packet = next(self._packets, b"")
            self._next += 1
        return not packet or _is_whole(packet)


def _read(capture: cv2.VideoCapture) -> Iterator[bytes]:
    try:
        if capture.set(cv2.CAP_PROP_FORMAT, -1):  # undecoded, from now on
            while capture.grab():
                read, packet = capture.retrieve()
                yield np.asarray(packet, np.uint8).tobytes() if read else b""
    finally:
        capture.release()


def _is_whole(packet: bytes) -> bool:
    try:
        return has_whole_scans(packet)
    except (struct.error, ValueError, LookupError):  # what the header says cannot be
        return False
