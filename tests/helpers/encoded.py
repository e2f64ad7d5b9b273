"""Encoded images for tests, of kinds that OpenCV does not write."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

SHORT, LONG, LONG8 = 3, 4, 16
_LETTERS = {SHORT: "H", LONG: "I", LONG8: "Q"}
RAW, LZW, JPEG, DEFLATE, PACKBITS = 1, 5, 7, 8, 32773


def photo(height: int, width: int, *rest: int) -> NDArray[np.uint8]:
    """Something that compresses like a photo: soft shapes and a little noise."""
    rng = np.random.default_rng(3)
    soft = cv2.resize(rng.integers(0, 256, (9, 9, *rest), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    soft = soft.reshape(height, width, *rest)
    return np.clip(soft + rng.normal(0, 3, soft.shape), 0, 255).astype(np.uint8)


def encode(extension: str, image: NDArray[Any], *options: int) -> bytes:
    return cv2.imencode(extension, image, list(options))[1].tobytes()


class Page:
    """A TIFF's directory and its data: `tags` by number as (type, values)."""

    def __init__(self, tags: Mapping[int, tuple[int, Sequence[int]]], data: Sequence[bytes] = ()) -> None:
        self.tags, self.data = dict(tags), data


def page(image: NDArray[np.uint8], *, compression: int = RAW, rows: int = 16, kind: int = 0, tile: int = 0) -> Page:
    """Grey or RGB in strips of `rows` rows, or in square tiles."""
    height, width = image.shape[:2]
    samples = 1 if image.ndim == 2 else image.shape[2]
    if tile:
        padded = np.zeros((-(-height // tile) * tile, -(-width // tile) * tile, *image.shape[2:]), np.uint8)
        padded[:height, :width] = image
        parts = [padded[y : y + tile, x : x + tile] for y in range(0, height, tile) for x in range(0, width, tile)]
    else:
        parts = [image[y : y + rows] for y in range(0, height, rows)]
    tags: dict[int, tuple[int, Sequence[int]]] = {
        254: (LONG, [kind]),
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [8] * samples),
        259: (SHORT, [compression]),
        262: (SHORT, [1 if samples == 1 else 2]),
        277: (SHORT, [samples]),
    }
    tags |= {322: (LONG, [tile]), 323: (LONG, [tile])} if tile else {278: (LONG, [rows])}
    return Page(tags, [_compress(part, compression) for part in parts])


def _compress(part: NDArray[np.uint8], compression: int) -> bytes:
    raw = part.tobytes()
    if compression == DEFLATE:
        return zlib.compress(raw)
    if compression == PACKBITS:
        return b"".join(bytes([len(raw[i : i + 128]) - 1]) + raw[i : i + 128] for i in range(0, len(raw), 128))
    if compression == LZW:  # each byte for itself; the table is cleared before its codes need ten bits
        codes = [code for i, byte in enumerate(raw) for code in ((256, byte) if i % 200 == 0 else (byte,))] + [257]
        bits = "".join(f"{code:09b}" for code in codes)
        return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    if compression == JPEG:
        return encode(".jpg", part if part.ndim == 2 else part[..., ::-1])
    return raw


def tiff(*pages: Page, order: str = "<", big: bool = False, extra: Sequence[tuple[int, int, int]] = ()) -> bytes:
    """A TIFF file. `extra` are entries (tag, type, value) that are put in front of the first page's."""
    pointer, header = ("Q", 16) if big else ("I", 8)
    mark = b"II" if order == "<" else b"MM"
    head = mark + (struct.pack(order + "HHHQ", 43, 8, 0, 0) if big else struct.pack(order + "HI", 42, 0))
    content, link = bytearray(head), header - struct.calcsize(pointer)
    for number, one in enumerate(pages):
        starts = []
        for part in one.data:
            starts.append(len(content))
            content += part + bytes(len(part) % 2)
        tags = dict(one.tags)
        tiled = 322 in tags
        tags.setdefault(324 if tiled else 273, (LONG, starts))
        tags.setdefault(325 if tiled else 279, (LONG, [len(part) for part in one.data]))
        entries = [(tag, kind, [value]) for tag, kind, value in (extra if number == 0 else ())]
        entries += [(tag, kind, list(values)) for tag, (kind, values) in sorted(tags.items())]
        fixed = []
        for tag, kind, values in entries:
            packed = struct.pack(f"{order}{len(values)}{_LETTERS[kind]}", *values)
            if len(packed) > struct.calcsize(pointer):
                packed, at = struct.pack(order + pointer, len(content)), packed
                content += at
            entry = struct.pack(order + "HH" + pointer, tag, kind, len(values))
            fixed.append(entry + packed.ljust(struct.calcsize(pointer), b"\0"))
        struct.pack_into(order + pointer, content, link, len(content))
        content += struct.pack(order + ("Q" if big else "H"), len(fixed)) + b"".join(fixed)
        link = len(content)
        content += bytes(struct.calcsize(pointer))
    return bytes(content)


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def png_chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    chunks, position = [], 8
    while position < len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        chunks.append((kind, content[position + 8 : position + 8 + length]))
        position += 12 + length
    return chunks


def jpeg_scan(content: bytes) -> tuple[int, int]:
    """Where a JPEG's first scan begins and its last ends."""
    start = content.index(b"\xff\xda")
    return start + 2 + int.from_bytes(content[start + 2 : start + 4], "big"), content.rindex(b"\xff\xd9")


def bmp_rle8(rows: Sequence[Sequence[int]], end: bytes = b"\0\1") -> bytes:
    """A BMP file of run-length encoded rows, from the bottom up."""
    data = b"".join(b"".join(bytes([1, value]) for value in row) + b"\0\0" for row in rows) + end
    palette = b"".join(bytes([i, i, i, 0]) for i in range(256))
    header = struct.pack("<IiiHHIIiiII", 40, len(rows[0]), len(rows), 1, 8, 1, len(data), 0, 0, 256, 0)
    at = 14 + len(header) + len(palette)
    return struct.pack("<2sIHHI", b"BM", at + len(data), 0, 0, at) + header + palette + data
