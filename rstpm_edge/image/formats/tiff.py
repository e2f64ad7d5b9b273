"""TIFF and BigTIFF: which page is the picture, and whether all of its data is there and whole.

OpenCV takes the first page, and decodes past what libtiff finds damaged. So the directory is read strictly here (where
it leaves no two ways to read it, libtiff reads the same), and compressed data is gone through once to see that it can
be decoded, and to as many bytes as there should be: a length that is right by chance is rare.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.image.formats import jpeg
from rstpm_edge.image.formats.problem import Problem, damaged
from rstpm_edge.native import _native

MAX_PAGES = 64  # a pyramid has ten or so
MAX_TILE = 4096  # a side; larger only where the picture is
_TURNED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))

# Tags
KIND_OF_PAGE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
FILL_ORDER, STRIPS, SAMPLES, ROWS, STRIP_BYTES, PLANES, SUBSAMPLING = 266, 273, 277, 278, 279, 284, 530
TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, SUB_DIRECTORIES, JPEG_TABLES = 322, 323, 324, 325, 330, 347
DEFAULTS = {
    KIND_OF_PAGE: 0,
    BITS: 1,
    COMPRESSION: 1,
    FILL_ORDER: 1,
    SAMPLES: 1,
    ROWS: 0xFFFFFFFF,
    PLANES: 1,
    PHOTOMETRIC: 1,
}

NONE, LZW, JPEG, DEFLATE, OLD_DEFLATE, PACKBITS = 1, 5, 7, 8, 32946, 32773
OTHERS = {2: "CCITT", 3: "CCITT", 4: "CCITT", 6: "old JPEG", 34712: "JPEG 2000", 34925: "LZMA", 50000: "Zstandard"}
YCBCR, CFA, RAW = 6, 32803, 34892

_TYPES = {1: "u1", 2: "S1", 3: "u2", 4: "u4", 5: "u8", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 10: "i8", 11: "f4", 12: "f8"}
_TYPES |= {13: "u4", 16: "u8", 17: "i8", 18: "u8"}
_COUNTING = (3, 4, 13, 16, 18)  # types of sizes and offsets


@dataclass(frozen=True)
class _Page:
    """A directory: what its tags hold. One tag comes once."""

    tags: dict[int, NDArray[Any]]
    offset: int
    next: int | None  # None where the file ends in front of it

    def number(self, tag: int) -> int:
        values = self.tags.get(tag)
        if values is None:
            if tag not in DEFAULTS:
                raise damaged()
            return DEFAULTS[tag]
        # libtiff takes the samples' bits one by one, if they are equal.
        if len(values) == 0 or (len(values) > 1 and tag != BITS) or (values != values[0]).any():
            raise damaged()
        return int(values[0])

    @property
    def pixels(self) -> int:
        return self.number(WIDTH) * self.number(HEIGHT)

    @property
    def is_lesser(self) -> bool:
        """Whether it is marked as a reduced picture (a thumbnail, a pyramid's level) or as a mask of another."""
        return bool(self.number(KIND_OF_PAGE) & 0b101)


@dataclass(frozen=True)
class _Reader:
    content: bytes
    order: str  # "<" or ">"
    big: bool

    @property
    def first(self) -> int:
        return int(struct.unpack_from(self.order + ("Q" if self.big else "I"), self.content, 8 if self.big else 4)[0])

    def page(self, offset: int) -> _Page:
        count_format, entry_size, pointer = ("Q", 20, "Q") if self.big else ("H", 12, "I")
        (entries,) = struct.unpack_from(self.order + count_format, self.content, offset)
        start = offset + struct.calcsize(count_format)
        if not 0 < entries <= 4096:
            raise damaged()
        tags: dict[int, NDArray[Any]] = {}
        for at in range(start, start + entry_size * entries, entry_size):
            tag, kind, count = struct.unpack_from(self.order + "HH" + pointer, self.content, at)
            if tag in tags:
                raise damaged()
            if tag in _NEEDED:
                tags[tag] = self._values(tag, kind, count, at + 4 + struct.calcsize(pointer))
        end = start + entry_size * entries
        whole = end + struct.calcsize(pointer) <= len(self.content)
        return _Page(tags, offset, struct.unpack_from(self.order + pointer, self.content, end)[0] if whole else None)

    def _values(self, tag: int, kind: int, count: int, at: int) -> NDArray[Any]:
        allowed = (1, 7) if tag == JPEG_TABLES else _COUNTING
        if kind not in allowed or (kind in (16, 18) and not self.big):
            raise damaged()
        dtype = np.dtype(_TYPES[kind]).newbyteorder(self.order)  # type: ignore[arg-type]
        if count * dtype.itemsize > (8 if self.big else 4):
            (at,) = struct.unpack_from(self.order + ("Q" if self.big else "I"), self.content, at)
        if at + count * dtype.itemsize > len(self.content):
            raise damaged()
        return np.frombuffer(self.content, dtype, count, at)


_NEEDED = {*DEFAULTS, WIDTH, HEIGHT, STRIPS, STRIP_BYTES, SUBSAMPLING, SUB_DIRECTORIES, JPEG_TABLES}
_NEEDED |= {TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES}


def _reader(content: bytes) -> _Reader:
    order = "<" if content.startswith(b"II") else ">"
    (version,) = struct.unpack_from(order + "H", content, 2)
    if version == 43 and struct.unpack_from(order + "HH", content, 4) != (8, 0):
        raise damaged()
    return _Reader(content, order, version == 43)


def _picture(reader: _Reader) -> _Page:
    """The one page of full resolution. Raises Problem where there are several, or none."""
    pages, offset, seen = list[_Page](), reader.first or None, set[int]()
    while offset is not None:
        if offset in seen or len(seen) >= MAX_PAGES:
            raise damaged() if offset in seen else Problem(_several())
        seen.add(offset)
        pages.append(reader.page(offset))
        offset = pages[-1].next or None
    full = [page for page in pages if not page.is_lesser]
    below = list(_below(reader, pages))
    if len(full) == 1 and all(page.pixels <= full[0].pixels for page in below):
        return full[0]
    if not full and len(below) == 1:
        return below[0]
    if full:
        raise Problem(_several())
    raise Problem("it holds only a reduced picture, a thumbnail say; save the full one as a file of its own")


def _several() -> str:
    return "it holds several pictures, and which one is meant is not said; save it as a file of its own"


def _below(reader: _Reader, pages: list[_Page]) -> Iterator[_Page]:
    """Directories below those of the pages that are not marked as lesser ones."""
    count = 0
    for page in pages:
        for offset in page.tags.get(SUB_DIRECTORIES, ()):
            count += 1
            if count > MAX_PAGES:
                raise Problem(_several())
            below = reader.page(int(offset))
            if not below.is_lesser:
                yield below


def size(content: bytes) -> tuple[int, int]:
    page = _picture(_reader(content))
    return page.number(WIDTH), page.number(HEIGHT)


def only_the_picture(content: bytes) -> bytes:
    """`content` with its picture's page as the first, where OpenCV looks for it."""
    reader = _reader(content)
    offset = _picture(reader).offset
    if offset == reader.first:
        return content
    at, pointer = (8, "Q") if reader.big else (4, "I")
    pointed = struct.pack(reader.order + pointer, offset)
    return content[:at] + pointed + content[at + len(pointed) :]


def check(content: bytes) -> None:
    page = _picture(_reader(content))
    compression, samples, bits = page.number(COMPRESSION), page.number(SAMPLES), page.number(BITS)
    if page.next is None:
        raise damaged()
    if page.number(PHOTOMETRIC) in (CFA, RAW):
        raise Problem("it is a camera's raw image; convert it to PNG or TIFF")
    if compression not in (NONE, LZW, JPEG, DEFLATE, OLD_DEFLATE, PACKBITS):
        name = OTHERS.get(compression, "of a kind that is not known")
        raise Problem(f"its compression ({name}, {compression}) is not supported; save it with LZW, deflate or none")
    if not 1 <= samples <= 4 or bits not in (1, 2, 4, 8, 16, 32, 64) or page.number(PLANES) not in (1, 2):
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
            if page.number(FILL_ORDER) == 2:
                data = memoryview(bytes(data).translate(_TURNED_BITS))
            length = _native.lzw_length if compression == LZW else _native.packbits_length
            if not part.bytes <= length(data, part.most) <= part.most:
                raise damaged()
        if compression == JPEG:
            tables = page.tags.get(JPEG_TABLES)
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


def _parts(page: _Page, file_length: int) -> Iterator[_Part]:
    """The strips or tiles. Raises Problem where one is missing, lies outside the file, or is too large."""
    width, height = page.number(WIDTH), page.number(HEIGHT)
    tiled = TILES in page.tags or TILE_WIDTH in page.tags
    part_width, part_rows = width, min(page.number(ROWS), height)
    if tiled:
        part_width, part_rows = page.number(TILE_WIDTH), page.number(TILE_HEIGHT)
        if part_width > max(MAX_TILE, width + 15) or part_rows > max(MAX_TILE, height + 15):
            raise Problem(f"its tiles of {part_width}×{part_rows} pixels are larger than it is; save it again")
    if min(part_width, part_rows) < 1:
        raise damaged()
    down, across = -(-height // part_rows), -(-width // part_width)
    planes = page.number(SAMPLES) if page.number(PLANES) == 2 else 1
    starts, lengths = (page.tags.get(tag) for tag in ((TILES, TILE_BYTES) if tiled else (STRIPS, STRIP_BYTES)))
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


def _bytes_of(page: _Page, width: int, rows: int) -> int:
    samples = 1 if page.number(PLANES) == 2 else page.number(SAMPLES)
    if page.number(PHOTOMETRIC) == YCBCR and samples == 3 and page.number(COMPRESSION) != JPEG:
        across, down = (int(value) for value in page.tags.get(SUBSAMPLING, np.array([2, 2]))[:2])
        if across not in (1, 2, 4) or down not in (1, 2, 4):
            raise damaged()
        return -(-width // across) * -(-rows // down) * (across * down + 2)
    return (width * samples * page.number(BITS) + 7) // 8 * rows


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
