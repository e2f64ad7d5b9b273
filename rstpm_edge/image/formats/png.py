"""PNG: its chunks, each with its checksum. The decoder itself refuses image data that is damaged or too short."""

import struct
import zlib

from rstpm_edge.image.formats.problem import Problem, damaged


def size(content: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", content, 16)
    return width, height


def check(content: bytes) -> None:
    view, position = memoryview(content), 8
    while position + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 8 + length
        if end + 4 > len(content):
            break
        if zlib.crc32(view[position + 4 : end]) != struct.unpack_from(">I", content, end)[0]:
            break
        if (kind == b"IHDR") != (position == 8):  # the first chunk, and no other
            break
        if kind == b"acTL":
            raise Problem("it is an animated PNG; save the picture to judge as a file of its own")
        if kind == b"IEND":
            return
        position = end + 4
    raise damaged()
