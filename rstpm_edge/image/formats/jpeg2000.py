"""JPEG 2000: a codestream, alone or in the boxes of a JP2 file."""

import struct
from typing import NamedTuple

from rstpm_edge.image.formats.problem import Problem, damaged, refuse_lost_blocks

MAX_PIXELS = 1 << 26  # the decoder takes some 16 bytes for each
MAX_TILES = 4096


class _Codestream(NamedTuple):
    start: int
    end: int
    width: int
    height: int
    tiles: int


def _codestream(content: bytes) -> _Codestream:
    start, end, promised = 0, len(content), None
    if not content.startswith(b"\xff\x4f"):
        start, end, promised = _find_box(content)
    marks, width, height, left, top, tile_w, tile_h, tile_x, tile_y = struct.unpack_from(">I4x8I", content, start)
    if marks != 0xFF4FFF51 or not (tile_w and tile_h) or tile_x > left or tile_y > top:
        raise damaged()
    found = (width - left, height - top)
    if promised not in (None, found) or min(found) < 1:
        raise damaged()
    tiles = -(-(width - tile_x) // tile_w) * -(-(height - tile_y) // tile_h)
    return _Codestream(start, end, *found, tiles)


def _find_box(content: bytes) -> tuple[int, int, tuple[int, int]]:
    """Start and end of the codestream, and the size in the header in front of it."""
    position, promised = 0, None
    while True:
        length, kind = struct.unpack_from(">I4s", content, position)
        start, end = position + 8, position + length
        if length == 1:
            start, end = position + 16, position + struct.unpack_from(">Q", content, position + 8)[0]
        elif length == 0:
            end = len(content)
        if end < start:
            raise damaged()
        if kind == b"jp2h" and struct.unpack_from(">4s", content, start + 4)[0] == b"ihdr":
            height, width = struct.unpack_from(">II", content, start + 8)
            promised = (width, height)
        elif kind == b"jp2c":
            if promised is None:
                raise damaged()
            return start, end, promised
        position = end


def size(content: bytes) -> tuple[int, int]:
    found = _codestream(content)
    return found.width, found.height


def check(content: bytes) -> None:
    stream = _codestream(content)
    if stream.width * stream.height > MAX_PIXELS or stream.tiles > MAX_TILES:
        raise Problem(f"it has more than {MAX_PIXELS >> 20} megapixels or {MAX_TILES} tiles; save it as PNG or TIFF")
    if stream.end > len(content):
        raise damaged()
    position, seen = stream.start + 2, set()
    while True:  # the main header's segments, then each part of a tile
        (marker,) = struct.unpack_from(">H", content, position)
        if marker == 0xFFD9:
            break
        (length,) = struct.unpack_from(">H", content, position + 2)
        if marker == 0xFF90:
            tile, part = struct.unpack_from(">HI", content, position + 4)
            seen.add(tile)
            end = position + part if part else stream.end - 2
            if (part and part < 14) or end > stream.end - 2:
                raise damaged()
            refuse_lost_blocks(memoryview(content)[position:end])
            position = end
        elif seen:
            raise damaged()
        else:
            position += 2 + length
    if seen != set(range(stream.tiles)):
        raise damaged()
