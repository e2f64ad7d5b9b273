"""JPEG, decoded by libjpeg-turbo in its strict mode (simplejpeg), since OpenCV decodes past damage without a word.

The pixels are those of OpenCV, which uses the same library. simplejpeg is imported when a JPEG is there to be read.
"""

import re
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.image.file_sizes import MAX_PIXELS
from rstpm_edge.image.formats.problem import Problem, damaged

MAX_SCANS = 100  # encoders write ten or so
MAX_SCANNED = 16 * MAX_PIXELS  # pixels × scans: each scan goes over the whole picture

_MARKER = re.compile(rb"\xff+([^\x00\xff])")
_MARKER_AFTER_DATA = re.compile(rb"\xff+([^\x00\x01\xd0-\xd7\xff])")  # restart marks are part of the data
_END, _SCAN, _EXIF = 0xD9, 0xDA, 0xE1
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # no length follows


class Segment(NamedTuple):
    """A segment's marker, where it begins (the marker's first byte) and where the one before it ended."""

    marker: int
    start: int
    before: int
    end: int


def segments(content: bytes) -> Iterator[Segment]:
    """The segments after the first mark, found as the decoder finds them: it skips what is no marker."""
    position, pattern = 2, _MARKER
    while True:
        found = pattern.search(content, position)
        if found is None:
            return
        marker, end = found.group(1)[0], found.end()
        if marker not in _ALONE and marker != _END:
            if end + 2 > len(content):
                return
            end += int.from_bytes(content[end : end + 2], "big")
        yield Segment(marker, found.start(), position, end)
        if marker == _END:
            return
        position, pattern = end, _MARKER_AFTER_DATA if marker == _SCAN else _MARKER


def size(content: bytes) -> tuple[int, int]:
    width, height, _ = _header(content)
    return width, height


def _header(content: bytes) -> tuple[int, int, str]:
    """Width, height and the name of the colour space."""
    import simplejpeg

    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content, strict=False)
    except (ValueError, KeyError):  # KeyError: a colour space that it has no name for
        raise damaged() from None
    return width, height, colours


def check(content: bytes) -> None:
    width, height = size(content)
    scans = 0
    for segment in segments(content):
        scans += segment.marker == _SCAN
        if scans > MAX_SCANS or scans * width * height > MAX_SCANNED:
            raise Problem(f"it has {MAX_SCANS} scans or more, or too many for its size; save it again as a JPEG or PNG")


def decode(content: bytes) -> NDArray[np.uint8] | None:
    """The pixels, BGR; None where they are for OpenCV to decode: a file without damage, but turned or of four inks.

    Raises Problem for a file in which libjpeg-turbo finds anything wrong.
    """
    import simplejpeg

    four = _header(content)[2] in ("CMYK", "YCCK")
    pixels: NDArray[Any]
    try:
        pixels = simplejpeg.decode_jpeg(content, "CMYK" if four else "BGR")
    except ValueError:
        cured = without_padding(content)
        if cured == content:
            raise damaged() from None
        try:
            pixels = simplejpeg.decode_jpeg(cured, "CMYK" if four else "BGR")
        except ValueError:
            raise damaged() from None
    return None if four or _may_be_turned(content) else pixels


def without_padding(content: bytes) -> bytes:
    """`content` without the bytes that cameras leave between segments, and that the decoder skips with a warning.

    Zeros after a scan, and what stands between the segments of the header, unless it has the length of a segment
    whose marker was damaged.
    """
    kept, scan = [content[:2]], False
    for marker, start, before, end in segments(content):
        gap = content[before:start]
        if scan:
            kept.append(gap.rstrip(b"\0") + (b"\0" if gap.rstrip(b"\0").endswith(b"\xff") else b""))
        elif len(gap) >= 4 and 2 + int.from_bytes(gap[2:4], "big") == len(gap):
            return content
        kept.append(content[start:end])
        scan = marker == _SCAN
    return b"".join(kept)


def _may_be_turned(content: bytes) -> bool:
    """Whether a note in the header may say that the picture is to be turned: OpenCV reads those its own way."""
    for segment in segments(content):
        if segment.marker == _SCAN:
            return False
        note = content[segment.start : segment.end]
        if segment.marker == _EXIF and b"Exif" in note[:16] and not _is_upright(note[note.index(b"Exif") + 6 :]):
            return True
    return False


def _is_upright(exif: bytes) -> bool:
    """Whether an EXIF note is well-formed, and has no orientation, or only 1."""
    try:
        order = {b"II*\0": "<", b"MM\0*": ">"}[exif[:4]]
        (directory,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, directory)
        found = [struct.unpack_from(order + "HHIH", exif, directory + 2 + 12 * i) for i in range(entries)]
    except (KeyError, struct.error):
        return False
    return all(entry[1:] == (3, 1, 1) for entry in found if entry[0] == 0x0112)
