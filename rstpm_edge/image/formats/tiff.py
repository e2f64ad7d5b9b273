"""TIFF and BigTIFF: whether all data of the picture is there and whole.

OpenCV takes the first page, and decodes past what libtiff finds damaged. So compressed data is gone through once to see
that it can be decoded, and to as many bytes as there should be: a length that is right by chance is rare.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rstpm_edge.image.formats import jpeg
from rstpm_edge.image.formats.problem import Problem, damaged
from rstpm_edge.image.formats.tiff_pages import Page, Tag, picture_page, reader_of
from rstpm_edge.native import _native

MAX_TILE = 4096  # a side; larger only where the picture is
_TURNED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))

NONE, LZW, JPEG, DEFLATE, OLD_DEFLATE, PACKBITS = 1, 5, 7, 8, 32946, 32773
OTHERS = {2: "CCITT", 3: "CCITT", 4: "CCITT", 6: "old JPEG", 34712: "JPEG 2000", 34925: "LZMA", 50000: "Zstandard"}
YCBCR, CFA, RAW = 6, 32803, 34892


def size(content: bytes) -> tuple[int, int]:
    page = picture_page(reader_of(content))
    return page.number(Tag.WIDTH), page.number(Tag.HEIGHT)


def only_the_picture(content: bytes) -> bytes:
    """`content` with its picture's page as the first, where OpenCV looks for it."""
    reader = reader_of(content)
    offset = picture_page(reader).offset
    if offset == reader.first:
        return content
    at, pointer = (8, "Q") if reader.big else (4, "I")
    pointed = struct.pack(reader.order + pointer, offset)
    return content[:at] + pointed + content[at + len(pointed) :]


def check(content: bytes) -> None:
    page = picture_page(reader_of(content))
    compression, samples, bits = page.number(Tag.COMPRESSION), page.number(Tag.SAMPLES), page.number(Tag.BITS)
    if page.next is None:
        raise damaged()
    if page.number(Tag.PHOTOMETRIC) in (CFA, RAW):
        raise Problem("it is a camera's raw image; convert it to PNG or TIFF")
    if compression not in (NONE, LZW, JPEG, DEFLATE, OLD_DEFLATE, PACKBITS):
        name = OTHERS.get(compression, "of a kind that is not known")
        raise Problem(f"its compression ({name}, {compression}) is not supported; save it with LZW, deflate or none")
    if not 1 <= samples <= 4 or bits not in (1, 2, 4, 8, 16, 32, 64) or page.number(Tag.PLANES) not in (1, 2):
        raise Problem(
            f"its {samples} samples of {bits} bits are not supported; save it as PNG or as TIFF of RGB or grey"
        )
    for part in _parts(page, len(content)):
        data = memoryview(content)[part.start : part.start + part.length]
        if compression == NONE and part.length < part.bytes:
            raise damaged()
        if compression in (DEFLATE, OLD_DEFLATE):
            _check_deflate(data, part.bytes, part.most)
        if compression in (LZW, PACKBITS):
            if page.number(Tag.FILL_ORDER) == 2:
                data = memoryview(bytes(data).translate(_TURNED_BITS))
            length = _native.lzw_length if compression == LZW else _native.packbits_length
            if not part.bytes <= length(data, part.most) <= part.most:
                raise damaged()
        if compression == JPEG:
            tables = page.tags.get(Tag.JPEG_TABLES)
            _check_jpeg(bytes(data), b"" if tables is None else tables.tobytes(), part)


@dataclass(frozen=True)
class _Part:
    """A strip or tile: where its data is, what it holds decoded, and at most, in bytes, and its size in pixels."""

    start: int
    length: int
    bytes: int
    most: int
    width: int
    rows: int
    most_rows: int


def _parts(page: Page, file_length: int) -> Iterator[_Part]:
    """The strips or tiles. Raises Problem where one is missing, lies outside the file, or is too large."""
    width, height = page.number(Tag.WIDTH), page.number(Tag.HEIGHT)
    tiled = Tag.TILES in page.tags or Tag.TILE_WIDTH in page.tags
    part_width, part_rows = width, min(page.number(Tag.ROWS), height)
    if tiled:
        part_width, part_rows = page.number(Tag.TILE_WIDTH), page.number(Tag.TILE_HEIGHT)
        if part_width > max(MAX_TILE, width + 15) or part_rows > max(MAX_TILE, height + 15):
            raise Problem(f"its tiles of {part_width}×{part_rows} pixels are larger than it is; save it again")
    if min(part_width, part_rows) < 1:
        raise damaged()
    down, across = -(-height // part_rows), -(-width // part_width)
    planes = page.number(Tag.SAMPLES) if page.number(Tag.PLANES) == 2 else 1
    starts, lengths = (
        page.tags.get(tag) for tag in ((Tag.TILES, Tag.TILE_BYTES) if tiled else (Tag.STRIPS, Tag.STRIP_BYTES))
    )
    count = down * across * planes
    if starts is None or lengths is None or not len(starts) == len(lengths) == count:
        raise damaged()
    starts, lengths = starts.astype(np.uint64), lengths.astype(np.uint64)
    last = np.uint64(file_length)
    if (starts == 0).any() or (lengths == 0).any() or (starts > last).any() or (lengths > last - starts).any():
        raise damaged()
    most = _bytes_of(page, part_width, part_rows)
    for index, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
        rows = part_rows
        if not tiled:
            rows = min(part_rows, height - index % down * part_rows)
        stored = most if rows == part_rows else _bytes_of(page, part_width, rows)
        yield _Part(start, length, stored, most, part_width, rows, part_rows)


def _bytes_of(page: Page, width: int, rows: int) -> int:
    samples = 1 if page.number(Tag.PLANES) == 2 else page.number(Tag.SAMPLES)
    if page.number(Tag.PHOTOMETRIC) == YCBCR and samples == 3 and page.number(Tag.COMPRESSION) != JPEG:
        across, down = (int(value) for value in page.tags.get(Tag.SUBSAMPLING, np.array([2, 2]))[:2])
        if across not in (1, 2, 4) or down not in (1, 2, 4):
            raise damaged()
        return -(-width // across) * -(-rows // down) * (across * down + 2)
    return (width * samples * page.number(Tag.BITS) + 7) // 8 * rows


def _check_deflate(data: memoryview, wanted: int, most: int) -> None:
    """Raise Problem unless `data` gives `wanted` bytes, or up to `most`, and its checksum is right."""
    decoder, found = zlib.decompressobj(), 0
    try:
        for at in range(0, len(data), 1 << 16):
            rest: bytes | memoryview = data[at : at + (1 << 16)]
            while rest and not decoder.eof:
                found += len(decoder.decompress(rest, 1 << 20))
                rest = decoder.unconsumed_tail
                if found > most:
                    raise damaged()
        found += len(decoder.flush())
    except zlib.error:
        raise damaged() from None
    if not decoder.eof or not wanted <= found <= most:
        raise damaged()


def _check_jpeg(data: bytes, tables: bytes, part: _Part) -> None:
    if tables:
        if not (tables.startswith(b"\xff\xd8") and tables.endswith(b"\xff\xd9") and data.startswith(b"\xff\xd8")):
            raise damaged()
        data = tables[:-2] + data[2:]
    width, rows = jpeg.size(data)
    if width != part.width or not part.rows <= rows <= part.most_rows:
        raise damaged()
    jpeg.check(data)
    jpeg.decode(data)
