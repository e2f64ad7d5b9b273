"""WebP: a RIFF container with one picture in it."""

import struct
from collections.abc import Iterator

from rstpm_edge.image.formats.problem import Problem, damaged, refuse_lost_blocks


def size(content: bytes) -> tuple[int, int]:
    for kind, start, length in _chunks(content):
        if kind == b"VP8X":
            low_w, high_w, low_h, high_h = struct.unpack_from("<HBHB", content, start + 4)
            return (high_w << 16 | low_w) + 1, (high_h << 16 | low_h) + 1
        if kind in (b"VP8 ", b"VP8L"):
            return _picture_size(content, kind, start, length)
    raise damaged()


def check(content: bytes) -> None:
    (length,) = struct.unpack_from("<I", content, 4)
    if len(content) < 8 + length:
        raise damaged()
    pictures = 0
    for kind, start, length in _chunks(content):
        if kind in (b"ANIM", b"ANMF") or (kind == b"VP8X" and content[start] & 2):
            raise Problem("it is an animated WebP; save the picture to judge as a file of its own")
        if kind in (b"VP8 ", b"VP8L"):
            pictures += 1
            if _picture_size(content, kind, start, length) != size(content) or start + length > len(content):
                raise damaged()
            refuse_lost_blocks(memoryview(content)[start : start + length])
    if pictures != 1:
        raise damaged()


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and length of each chunk."""
    (length,) = struct.unpack_from("<I", content, 4)
    position, end = 12, 8 + length
    while position + 8 <= min(end, len(content)):
        kind, length = struct.unpack_from("<4sI", content, position)
        yield kind, position + 8, length
        position += 8 + length + length % 2


def _picture_size(content: bytes, kind: bytes, start: int, length: int) -> tuple[int, int]:
    if kind == b"VP8L":
        mark, bits = struct.unpack_from("<BI", content, start)
        if mark != 0x2F:
            raise damaged()
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if length < 10 or content[start + 3 : start + 6] != b"\x9d\x01\x2a":
        raise damaged()
    width, height = struct.unpack_from("<HH", content, start + 6)
    return width & 0x3FFF, height & 0x3FFF
