"""Video files: whether one is all there, as far as its container says, and its frames with those that are damaged."""

import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.sources.capture import Damage, complaints, is_dependent, open_video
from rstpm_edge.sources.jpeg_packets import JpegPackets

MOST_LOST = 100_000  # packets in a row without a picture, after which the rest of a video is not looked at
_MP4_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"styp", b"sidx", b"uuid"})


@dataclass(frozen=True)
class Grab:
    """A frame of a video that was read; `capture` is where it may be retrieved, None where no picture came of it.

    `number` counts from 0, `seconds` is its time, `packet` the place among the file's packets, where each has a frame.
    `damaged`: FFmpeg made up a part of it, or of one that it is made of.
    """

    number: int
    packet: int
    seconds: float
    capture: cv2.VideoCapture | None
    damaged: bool = False


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file to read, but nothing that could keep us waiting. Raises OSError; ValueError for a null byte."""
    if b"\0" in os.fsencode(path):  # Pythons say it in words of their own
        raise ValueError("the name has a null byte")
    # Without O_NONBLOCK the opening of a FIFO waits for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "it is not a regular file", os.fspath(path))
    return open(descriptor, "rb")


class Video:
    """An open video file. `frames` is how many it says it has, or what OpenCV estimates; `rate` how many a second.

    Raises ValueError for no video.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._capture = _open(file)
        self.frames = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.rate = self._capture.get(cv2.CAP_PROP_FPS)
        self._packets = JpegPackets(self._capture, lambda: _open(file))

    def grabs(self) -> Iterator[Grab | None]:
        """The frames in order; None now and then where none comes for long. To be iterated once.

        Decoded by as many threads as there are cores, up to the first damage; from there on by one, since only then is
        it known which frame the damage is in.
        """
        before, capture, number = complaints(), self._capture, 0
        try:
            while capture.grab() and complaints() == before and not (number == 0 and is_dependent(capture)):
                yield Grab(number, number, capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, capture)
                number += 1
            if complaints() == before and (number or not is_dependent(capture)):
                return
        finally:
            capture.release()
        capture = _open(self._file, threads=1)
        try:
            for grab in _checked(capture):
                yield grab if grab is None or grab.number >= number else None
        finally:
            capture.release()

    def picture(self, grab: Grab) -> NDArray[np.uint8] | None:
        """The newest grab as (H, W, 3) BGR; None if it is damaged."""
        if grab.capture is None or grab.damaged or not self._packets.is_whole(grab.packet):
            return None
        decoded, image = grab.capture.retrieve()
        return np.asarray(image, np.uint8) if decoded else None


def _checked(capture: cv2.VideoCapture) -> Iterator[Grab | None]:
    rate, frames = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    step = 1 / rate if rate > 0 else 0.0
    damage = Damage(capture, from_start=True)
    number, lost, packet, seconds = 0, 0, 0, -step
    while True:
        grabbed = capture.grab()
        complained = damage.update()
        if not grabbed:
            if not complained or lost > MOST_LOST:
                break
            lost, packet = lost + 1, packet + 1
            yield None
            continue
        before, seconds = seconds, capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if rate > 0 and (damage.damaged or lost):  # some packets vanish without a trace but a gap in time
            gap = round((seconds - before) * rate) - 1
            lost = max(lost, min(gap, frames - number - 1))
        for _ in range(lost):
            before += step
            yield Grab(number, packet, before, None, damaged=True)
            number += 1
        yield Grab(number, packet, seconds, capture, damage.damaged)
        number, lost, packet = number + 1, 0, packet + 1
    for _ in range(lost if number else 0):  # without any picture it is none that we can decode
        seconds += step
        yield Grab(number, packet, seconds, None, damaged=True)
        number += 1


def _open(file: BinaryIO, threads: int | None = None) -> cv2.VideoCapture:
    # OpenCV crashes on names that are no UTF-8, and FFmpeg takes some for addresses: neither gets to see the name.
    capture = open_video(f"/proc/self/fd/{file.fileno()}", threads=threads)
    if not capture.isOpened():
        raise ValueError("it is damaged, or no video that OpenCV decodes")
    return capture


def problem_in_video(file: BinaryIO) -> str | None:
    """What is wrong with a video file: that it is empty or, for AVI and MP4, cut short. None if nothing is."""
    size = os.fstat(file.fileno()).st_size
    if size == 0:
        return "the file is empty"
    return "the file is truncated; copy it again" if any(end > size for end in _ends(file)) else None


def _ends(file: BinaryIO) -> Iterator[int]:
    """Where each outermost part of an AVI or MP4 file ends, as its header says."""
    start = 0
    while len(head := _at(file, start, 16)) >= 8:
        if head.startswith(b"RIFF"):
            length = 8 + int.from_bytes(head[4:8], "little")
            if length in (8, 8 + 0xFFFFFFFF):  # not filled in: the recorder was stopped, or writes to a pipe
                return
        elif head[4:8] in _MP4_BOXES:
            length = int.from_bytes(head[:4], "big")
            if length == 1 and len(head) == 16:
                (length,) = struct.unpack(">Q", head[8:])
            if length < 8:  # 0: up to the end of the file
                return
        else:
            return
        start += length
        yield start


def _at(file: BinaryIO, position: int, length: int) -> bytes:
    file.seek(position)
    return file.read(length)
