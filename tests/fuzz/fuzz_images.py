"""Image files: bytes through the checks of each format and the decoder, to the model's input."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import cv2
import numpy as np
from encoded import DEFLATE, JPEG, LZW, PACKBITS, RAW, bmp_rle8, encode, page, photo, tiff
from fuzz_sentences import check_sentence

from rstpm_edge.errors import ImageError
from rstpm_edge.image.decode import decode_stored, decode_unchanged
from rstpm_edge.image.file_checks import HEAD, check_length
from rstpm_edge.image.formats.problem import Problem
from rstpm_edge.image.preprocess import to_input

TWICE = 1 << 20  # pixels up to which an image is decoded twice, to see that it is the same
PNG = b"\x89PNG\r\n\x1a\n"


def seeds() -> list[bytes]:
    """A small image of each kind that is taken."""
    colour, grey = photo(20, 24, 3), photo(20, 24)
    deep = colour.astype(np.uint16) * 257
    alpha = np.dstack([colour, grey])
    found = [encode(".png", one) for one in (colour, grey, deep, alpha, deep[..., 0])]
    found += [
        encode(".jpg", one, *options) for one in (colour, grey) for options in ([], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    ]
    found += [
        encode(".jpg", colour, cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
        encode(".jpg", colour, cv2.IMWRITE_JPEG_QUALITY, 20),
    ]
    found += [encode(".bmp", colour), encode(".bmp", grey), encode(".bmp", alpha), bmp_rle8(grey[:6, :8].tolist())]
    found += [encode(".webp", colour), encode(".webp", colour, cv2.IMWRITE_WEBP_QUALITY, 101), encode(".webp", alpha)]
    found += [encode(ending, one) for ending, one in ((".ppm", colour), (".pgm", grey), (".ppm", deep), (".pbm", grey))]
    found += [b"P3\n# text\n2 1\n255\n1 2 3 4 5 6\n", b"P1 4 2\n0101 1010\n", b"P2 2 2 9\n1 2 3 4\n"]
    found += [tiff(page(colour, compression=kind)) for kind in (RAW, LZW, DEFLATE, PACKBITS)]
    found += [tiff(page(grey, compression=JPEG)), tiff(page(colour, tile=16)), tiff(page(grey), order=">", big=True)]
    found += [tiff(page(grey, kind=1), page(grey), order=">"), encode(".tiff", deep)]
    found += [encode(".jp2", photo(40, 40, 3)), encode(".jp2", photo(40, 40).astype(np.uint16) * 200)]
    return found


def check(data: bytes) -> bool:
    """An image of a possible shape, the same each time, or an ImageError."""
    for content in _as_given_and_repaired(data):
        _check(content)
    return True


def _check(content: bytes) -> None:
    try:
        check_length(content[:HEAD], len(content))
    except Problem as error:
        check_sentence(error)
    try:
        image = decode_stored(content)
    except ImageError as error:
        check_sentence(error)
        return
    height, width, channels = image.shape
    assert channels == 3, image.shape
    assert image.dtype in (np.uint8, np.uint16), image.dtype
    if height * width > TWICE:
        return
    np.testing.assert_array_equal(decode_stored(content), image)
    try:
        unchanged = decode_unchanged(content)
    except ImageError as error:
        check_sentence(error)
    else:
        assert sorted(unchanged.shape[:2]) == sorted((height, width)), unchanged.shape
    for policy in ("stretch", "letterbox"):
        row, placement = to_input(image, (16, 24), policy, channels="bgr", bits=12)
        assert row.shape == (16, 24, 3)
        assert row.dtype == np.uint8
        assert placement.height >= 1 <= placement.width


def _as_given_and_repaired(data: bytes) -> Iterator[bytes]:
    """Also with the checksums that a PNG's changed chunks should have, or nothing behind them would be reached."""
    yield data
    if data.startswith(PNG):
        repaired, position = bytearray(data), 8
        while position + 12 <= len(data):
            end = position + 8 + struct.unpack_from(">I", data, position)[0]
            if end + 4 > len(data):
                break
            struct.pack_into(">I", repaired, end, zlib.crc32(data[position + 4 : end]))
            position = end + 4
        if repaired != data:
            yield bytes(repaired)
