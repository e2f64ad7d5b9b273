"""BMP: a header, and rows that are stored as they are or run-length encoded."""

import struct
from typing import NamedTuple

from rstpm_edge.image.formats.problem import Problem, damaged

HEADERS = (12, 40, 52, 56, 64, 108, 124)  # OS/2 and Windows 2; then Windows 3 to 5, with longer and longer headers
RLE = {1: 8, 2: 4}  # by compression: the bits of a pixel


class _Header(NamedTuple):
    pixels_at: int
    width: int
    height: int  # negative where the rows run from the top
    depth: int
    compression: int


def _header(content: bytes) -> _Header:
    pixels_at, header_size = struct.unpack_from("<II", content, 10)
    if header_size not in HEADERS:
        raise Problem("its header is of a kind that is not supported; save it as PNG")
    if header_size == 12:
        width, height, _, depth = struct.unpack_from("<HHHH", content, 18)
        return _Header(pixels_at, width, height, depth, 0)
    width, height, _, depth, compression = struct.unpack_from("<iiHHI", content, 18)
    return _Header(pixels_at, width, height, depth, compression)


def size(content: bytes) -> tuple[int, int]:
    header = _header(content)
    return header.width, abs(header.height)


def check(content: bytes) -> None:
    pixels_at, width, height, depth, compression = _header(content)
    if depth not in (1, 4, 8, 16, 24, 32) or compression not in (0, 1, 2, 3, 6):
        raise Problem(f"its {depth} bits per pixel in compression {compression} are not supported; save it as PNG")
    if len(content) <= pixels_at:
        raise damaged()
    if compression in RLE:
        if depth != RLE[compression] or height < 0:
            raise damaged()
        _check_runs(memoryview(content)[pixels_at:], width, height, depth)
    # The file size in the header is often wrong.
    elif len(content) < pixels_at + (width * depth + 31) // 32 * 4 * abs(height):
        raise damaged()


def _check_runs(data: memoryview, width: int, height: int, depth: int) -> None:
    """Raise Problem unless every pixel is written: what is skipped or missing has no colour of its own."""
    x = y = position = 0
    if len(data) > 4 * width * height + 2 * height + 1024:  # longer than any encoder makes it
        raise damaged()
    try:
        while y < height:
            count, value = data[position], data[position + 1]
            position += 2
            if count:
                x += count
            elif value >= 3:  # pixels as they are, padded to whole words
                x += value
                position += ((value * depth + 7) // 8 + 1) // 2 * 2
            elif value == 2 or x < width:  # a jump; or a row or the picture that ends early
                raise damaged()
            elif value == 1:
                y += 1
                break
            else:
                x, y = 0, y + 1
            if x > width + 1:  # an odd row may be padded
                raise damaged()
            if y == height - 1 and x >= width:  # some writers leave out the last marks
                return
    except IndexError:
        raise damaged() from None
    if y < height:
        raise damaged()
