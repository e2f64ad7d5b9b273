"""Whether a video file is all there, as far as its container says: FFmpeg shows what is left without a word."""

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

_MP4_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"styp", b"sidx", b"uuid"})


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
