"""The directories of TIFF and BigTIFF: what each says of its page, and which page is the picture.

They are read strictly, in the one way that they leave; libtiff reads the same.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.image.formats.problem import Problem, damaged

MAX_PAGES = 64  # a pyramid has ten or so


class Tag(IntEnum):
    """What a directory says of its page."""

    KIND_OF_PAGE = 254
    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    STRIPS = 273
    SAMPLES = 277
    ROWS = 278
    STRIP_BYTES = 279
    PLANES = 284
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILES = 324
    TILE_BYTES = 325
    SUB_DIRECTORIES = 330
    JPEG_TABLES = 347
    SUBSAMPLING = 530


_DEFAULTS = {
    Tag.KIND_OF_PAGE: 0,
    Tag.BITS: 1,
    Tag.COMPRESSION: 1,
    Tag.FILL_ORDER: 1,
    Tag.SAMPLES: 1,
    Tag.ROWS: 0xFFFFFFFF,
    Tag.PLANES: 1,
    Tag.PHOTOMETRIC: 1,
}

_TYPES = {1: "u1", 2: "S1", 3: "u2", 4: "u4", 5: "u8", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 10: "i8", 11: "f4", 12: "f8"}
_TYPES |= {13: "u4", 16: "u8", 17: "i8", 18: "u8"}
_TAGS = frozenset(Tag)
_COUNTING = (3, 4, 13, 16, 18)  # types of sizes and offsets


@dataclass(frozen=True)
class Page:
    """A directory: what its tags hold. One tag comes once."""

    tags: dict[Tag, NDArray[Any]]
    offset: int
    next: int | None  # None where the file ends in front of it

    def number(self, tag: Tag) -> int:
        """The one value of a tag, or what holds without it. Raises Problem."""
        values = self.tags.get(tag)
        if values is None:
            if tag not in _DEFAULTS:
                raise damaged()
            return _DEFAULTS[tag]
        # libtiff takes the samples' bits one by one, if they are equal.
        if len(values) == 0 or (len(values) > 1 and tag != Tag.BITS) or (values != values[0]).any():
            raise damaged()
        return int(values[0])

    @property
    def pixels(self) -> int:
        """How many the page has."""
        return self.number(Tag.WIDTH) * self.number(Tag.HEIGHT)

    @property
    def is_lesser(self) -> bool:
        """Whether it is marked as a reduced picture (a thumbnail, a pyramid's level) or as a mask of another."""
        return bool(self.number(Tag.KIND_OF_PAGE) & 0b101)


@dataclass(frozen=True)
class Reader:
    """A file's bytes, and how numbers stand in it."""

    content: bytes
    order: str  # "<" or ">"
    big: bool

    @property
    def first(self) -> int:
        """Where the first directory is."""
        return int(struct.unpack_from(self.order + ("Q" if self.big else "I"), self.content, 8 if self.big else 4)[0])

    def page(self, offset: int) -> Page:
        """The directory there. Raises Problem where it can be read in more ways than one."""
        count_format, entry_size, pointer = ("Q", 20, "Q") if self.big else ("H", 12, "I")
        (entries,) = struct.unpack_from(self.order + count_format, self.content, offset)
        start = offset + struct.calcsize(count_format)
        if not 0 < entries <= 4096:
            raise damaged()
        tags: dict[Tag, NDArray[Any]] = {}
        for at in range(start, start + entry_size * entries, entry_size):
            number, kind, count = struct.unpack_from(self.order + "HH" + pointer, self.content, at)
            if number in tags:
                raise damaged()
            if number in _TAGS:
                tag = Tag(number)
                tags[tag] = self._values(tag, kind, count, at + 4 + struct.calcsize(pointer))
        end = start + entry_size * entries
        whole = end + struct.calcsize(pointer) <= len(self.content)
        return Page(tags, offset, struct.unpack_from(self.order + pointer, self.content, end)[0] if whole else None)

    def _values(self, tag: Tag, kind: int, count: int, at: int) -> NDArray[Any]:
        allowed = (1, 7) if tag == Tag.JPEG_TABLES else _COUNTING
        if kind not in allowed or (kind in (16, 18) and not self.big):
            raise damaged()
        dtype = np.dtype(_TYPES[kind]).newbyteorder(self.order)  # type: ignore[arg-type]
        if count * dtype.itemsize > (8 if self.big else 4):
            (at,) = struct.unpack_from(self.order + ("Q" if self.big else "I"), self.content, at)
        if at + count * dtype.itemsize > len(self.content):
            raise damaged()
        return np.frombuffer(self.content, dtype, count, at)


def reader_of(content: bytes) -> Reader:
    """Of a TIFF or BigTIFF. Raises Problem."""
    order = "<" if content.startswith(b"II") else ">"
    (version,) = struct.unpack_from(order + "H", content, 2)
    if version == 43 and struct.unpack_from(order + "HH", content, 4) != (8, 0):
        raise damaged()
    return Reader(content, order, version == 43)


def picture_page(reader: Reader) -> Page:
    """The one page of full resolution. Raises Problem where there are several, or none."""
    pages, offset, seen = list[Page](), reader.first or None, set[int]()
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


def _below(reader: Reader, pages: list[Page]) -> Iterator[Page]:
    """Directories below those of the pages that are not marked as lesser ones."""
    count = 0
    for page in pages:
        for offset in page.tags.get(Tag.SUB_DIRECTORIES, ()):
            count += 1
            if count > MAX_PAGES:
                raise Problem(_several())
            below = reader.page(int(offset))
            if not below.is_lesser:
                yield below
