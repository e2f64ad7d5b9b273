"""JPEG, decoded by libjpeg-turbo in its strict mode (simplejpeg), since OpenCV decodes past damage without a word.

The pixels are those of OpenCV, which uses the same library. simplejpeg is imported when a JPEG is there to be read.

Strict mode goes past some damage too: a block with more coefficients than places, or a few bytes too many at the end.
"""

import re
import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.image.file_sizes import MAX_PIXELS
from rstpm_edge.image.formats.problem import Problem, damaged
from rstpm_edge.native import _native

MAX_SCANS = 100  # encoders write ten or so
MAX_SCANNED = 4 * MAX_PIXELS  # pixels × scans: each scan goes over the whole picture

_MARKER = re.compile(rb"\xff+([^\x00\xff])")
_END, _SCAN, _EXIF, _QUANTIZERS, _TABLES, _INTERVAL = 0xD9, 0xDA, 0xE1, 0xDB, 0xC4, 0xDD
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_PROGRESSIVE, _HUFFMAN = 0xC2, (0xC0, 0xC1, 0xC2)
_NO_TABLE = (bytes(16), b"")
_MOST_DC = 1024 + 128  # eight times what a sample can differ from grey, and some room
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # no length follows


class Segment(NamedTuple):
    """A segment: its marker, where the one before it ended, and where it begins, its content begins, and it ends."""

    marker: int
    before: int
    start: int
    body: int
    end: int


def segments(content: bytes) -> Iterator[Segment]:
    """The segments after the first mark, found as the decoder finds them: it skips what is no marker."""
    position = search = 2
    while True:
        found = _MARKER.search(content, search)
        if found is None:
            return
        marker, body, end = found.group(1)[0], found.end(), found.end()
        if marker not in _ALONE and marker != _END:
            if end + 2 > len(content):
                return
            end += int.from_bytes(content[end : end + 2], "big")
            body += 2
        yield Segment(marker, position, found.start(), body, end)
        if marker == _END:
            return
        position = end
        search = _native.scan_end(content, end) if marker == _SCAN else end


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
            raise Problem("it has too many scans for its size; save it as a baseline JPEG")


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
    if not has_whole_scans(content):
        raise damaged()
    return None if four or _may_be_turned(content) else pixels


def without_padding(content: bytes) -> bytes:
    """`content` without the bytes that cameras leave between segments, and that the decoder skips with a warning.

    Zeros after a scan, and what stands between the segments of the header, unless it has the length of a segment
    whose marker was damaged.
    """
    kept, scan = [content[:2]], False
    for marker, before, start, _, end in segments(content):
        gap = content[before:start]
        if scan:
            kept.append(gap.rstrip(b"\0") + (b"\0" if gap.rstrip(b"\0").endswith(b"\xff") else b""))
        elif len(gap) >= 4 and 2 + int.from_bytes(gap[2:4], "big") == len(gap):
            return content
        kept.append(content[start:end])
        scan = marker == _SCAN
    return b"".join(kept)


def has_whole_scans(content: bytes) -> bool:
    """Whether each Huffman-coded scan holds its blocks and nothing else. True of other kinds, unseen."""
    try:
        return _has_whole_scans(content)
    except (KeyError, IndexError, ValueError, struct.error):
        return False  # a header that does not hold what it should


def _has_whole_scans(content: bytes) -> bool:
    quantizers: dict[int, int] = {}  # the first value of each table
    tables: dict[int, tuple[bytes, bytes]] = {}  # by class and number, as the file has them
    planes: dict[int, _Plane] = {}
    interval = units = 0
    progressive = False
    for segment, following in pairwise(segments(content)):
        note = content[segment.body : segment.end]
        if segment.marker == _QUANTIZERS:
            while note:
                size, number = 1 + (note[0] >> 4), note[0] & 15
                quantizers[number] = int.from_bytes(note[1 : 1 + size], "big")
                note = note[1 + 64 * size :]
        elif segment.marker == _TABLES:
            while note:
                count = sum(note[1:17])
                tables[note[0]] = (note[1:17], note[17 : 17 + count])
                note = note[17 + count :]
        elif segment.marker == _INTERVAL:
            interval = int.from_bytes(note[:2], "big")
        elif segment.marker in _FRAMES:
            if segment.marker not in _HUFFMAN or note[0] != 8:
                return True
            progressive = segment.marker == _PROGRESSIVE
            planes, units = _planes(note, progressive)
        elif segment.marker == _SCAN:
            chosen = [(planes[note[i]], note[i + 1]) for i in range(1, 1 + 2 * note[0], 2)]
            first, last, bits = note[1 + 2 * note[0] :][:3]
            data = memoryview(content)[segment.end : following.start]
            if progressive and first > 0:
                (plane, selected), *others = chosen
                table = tables.get(0x10 | (selected & 15))
                if table is None:
                    return True  # the decoder's own
                if others or not plane.known.is_whole_scan(data, table, first, last, bits >= 16, interval):
                    return False
                continue
            refines = progressive and bits >= 16
            parts = []
            for plane, selected in chosen:
                dc = _NO_TABLE if refines else tables.get(selected >> 4)
                ac = _NO_TABLE if progressive else tables.get(0x10 | (selected & 15))
                if dc is None or ac is None:
                    return True
                quantizer = max(quantizers[plane.quantizer], 1) << (bits & 15 if progressive else 0)
                parts.append((1 if len(chosen) == 1 else plane.unit, dc, ac, _MOST_DC // quantizer + 1))
            # Alone, a component comes without the blocks that only fill up units.
            wanted = chosen[0][0].blocks if len(chosen) == 1 else units
            if not _native.is_whole_scan(data, parts, wanted, interval, progressive, refines):
                return False
    return True


class _Plane(NamedTuple):
    """A component of a frame: its blocks in a unit and in all, its quantizer, and what earlier scans told of it."""

    unit: int
    blocks: int
    quantizer: int
    known: _native.ProgressiveComponent


def _planes(frame: bytes, progressive: bool) -> tuple[dict[int, _Plane], int]:
    """The components by their names, and how many minimum coded units there are."""
    height, width = struct.unpack_from(">HH", frame, 1)
    found = [(frame[i], frame[i + 1] >> 4, frame[i + 1] & 15, frame[i + 2]) for i in range(6, len(frame), 3)]
    across, down = max(plane[1] for plane in found), max(plane[2] for plane in found)
    planes = {}
    for name, own_across, own_down, quantizer in found:
        columns, rows = -(-width * own_across // across), -(-height * own_down // down)
        blocks = -(-columns // 8) * -(-rows // 8)
        known = _native.ProgressiveComponent(blocks if progressive else 0)
        planes[name] = _Plane(own_across * own_down, blocks, quantizer, known)
    return planes, -(-width // (8 * across)) * -(-height // (8 * down))


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
