"""Damage that a decoder would go past is refused; what real cameras leave in their files is not."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from encoded import (
    DEFLATE,
    JPEG,
    LONG,
    LZW,
    PACKBITS,
    RAW,
    SHORT,
    bmp_rle8,
    encode,
    jpeg_scan,
    page,
    photo,
    png,
    png_chunks,
    tiff,
)
from numpy.typing import NDArray

from rstpm_edge.errors import ImageError
from rstpm_edge.image.decode import decode_image, decode_stored
from rstpm_edge.native import _native

GREY = photo(96, 130)
COLOUR = photo(96, 130, 3)


def opencv(content: bytes) -> NDArray[Any]:
    return np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH))


def refused(content: bytes, message: str = "truncated or damaged|is damaged") -> None:
    with pytest.raises(ImageError, match=rf"^Cannot read photo: .*({message})"):
        decode_stored(content, "photo")


# JPEG

JPEGS = {
    "baseline": (),
    "progressive": (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restarts": (cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
    "progressive restarts": (cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
    "optimised": (cv2.IMWRITE_JPEG_OPTIMIZE, 1),
    "4:4:4": (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
}


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
@pytest.mark.parametrize("image", [GREY, COLOUR], ids=["grey", "colour"])
def test_jpegs_have_the_pixels_of_opencv(options: tuple[int, ...], image: NDArray[np.uint8]) -> None:
    content = encode(".jpg", image, *options)
    np.testing.assert_array_equal(decode_stored(content), opencv(content))
    np.testing.assert_array_equal(decode_image(content, channels="rgb"), opencv(content)[..., ::-1])


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
@pytest.mark.parametrize("damage", ["missing", "zeros", "noise"])
def test_a_jpeg_with_damage_in_its_middle(options: tuple[int, ...], damage: str) -> None:
    content = encode(".jpg", COLOUR, *options)
    start, end = jpeg_scan(content)
    noise = np.random.default_rng(0).integers(0, 255, 400, np.uint8).tobytes()
    for part in (0.2, 0.5, 0.8):
        at = int(start + part * (end - start - 400))
        filling = {"missing": b"", "zeros": bytes(400), "noise": noise}[damage]
        refused(content[:at] + filling + content[at + 400 :])


def test_a_jpeg_that_ends_early_before_another_picture() -> None:
    content = encode(".jpg", COLOUR)
    refused(content[: len(content) // 2] + encode(".jpg", GREY))
    refused(content[: len(content) // 2] + b"\xff\xd9")


@pytest.mark.parametrize(
    "harmless",
    [
        lambda jpeg: jpeg + bytes(5000),
        lambda jpeg: jpeg + b"some camera's notes",
        lambda jpeg: jpeg + encode(".jpg", GREY),  # an MPO file's second picture, or a preview
        lambda jpeg: jpeg[:-2] + bytes(7) + jpeg[-2:],  # padding in front of the end
        lambda jpeg: jpeg[:-2] + b"\xff" * 7 + jpeg[-2:],
        lambda jpeg: jpeg[:2] + b"\xff\xe4\0\x06abcd" + b"padding" + jpeg[2:],  # a segment longer than it says
        lambda jpeg: jpeg[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(jpeg) % 60000) + jpeg[:60000] + jpeg[2:],
        lambda jpeg: jpeg[:2] + b"\xff\xfe\0\x07hello" + jpeg[2:],
    ],
    ids=["zeros", "notes", "picture", "padding", "fill", "gap", "thumbnail", "comment"],
)
@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
def test_what_cameras_leave_in_a_jpeg_does_no_harm(
    harmless: Callable[[bytes], bytes], options: tuple[int, ...]
) -> None:
    plain = encode(".jpg", COLOUR, *options)
    np.testing.assert_array_equal(decode_stored(harmless(plain)), opencv(plain))


def test_units_without_blocks_are_no_scan() -> None:
    """Whose number alone said when to stop, and that is the file's."""
    assert not _native.is_whole_scan(b"", [], 1 << 20, 0)


def test_a_jpeg_whose_table_lost_its_marker() -> None:
    content = bytearray(encode(".jpg", COLOUR, cv2.IMWRITE_JPEG_OPTIMIZE, 1))
    content[content.index(b"\xff\xc4")] = 0
    refused(bytes(content))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_turned_jpeg_is_turned_as_opencv_turns_it(orientation: int, order: str) -> None:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    note = mark + struct.pack(order + "IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    content = encode(".jpg", COLOUR)
    content = content[:2] + b"\xff\xe1" + struct.pack(">H", 8 + len(note)) + b"Exif\0\0" + note + content[2:]
    image = decode_stored(content)
    assert image.shape == ((96, 130, 3) if orientation < 5 else (130, 96, 3))
    np.testing.assert_array_equal(image, opencv(content))


# TIFF

COMPRESSIONS = {"raw": RAW, "LZW": LZW, "deflate": DEFLATE, "PackBits": PACKBITS}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True], ids=["classic", "big"])
@pytest.mark.parametrize("tile", [0, 32], ids=["strips", "tiles"])
@pytest.mark.parametrize("image", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("compression", COMPRESSIONS.values(), ids=COMPRESSIONS)
def test_tiffs_that_are_fine(compression: int, image: NDArray[np.uint8], tile: int, big: bool, order: str) -> None:
    content = tiff(page(image, compression=compression, tile=tile), order=order, big=big)
    expected = np.stack([image] * 3, -1) if image.ndim == 2 else image
    np.testing.assert_array_equal(decode_image(content), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [*COMPRESSIONS.values(), 32946])
def test_tiffs_of_opencv_with_and_without_zeros_in_their_data(compression: int, dtype: Any) -> None:
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (300, 200, 3)).astype(dtype)
    content = encode(".tif", image, cv2.IMWRITE_TIFF_COMPRESSION, compression)
    np.testing.assert_array_equal(decode_stored(content), image)
    if compression != RAW:  # uncompressed, zeros are black
        half = len(content) // 2
        refused(content[:half] + bytes(int(0.4 * len(content))) + content[half + int(0.4 * len(content)) :])


@pytest.mark.parametrize("tile", [0, 32], ids=["strips", "tiles"])
@pytest.mark.parametrize("compression", [LZW, DEFLATE, PACKBITS, JPEG])
def test_a_tiff_with_damaged_data(compression: int, tile: int) -> None:
    good = page(GREY, compression=compression, tile=tile)
    np.testing.assert_array_equal(decode_stored(tiff(good)).shape, (96, 130, 3))
    for damage in (
        lambda part: bytes(len(part)),
        lambda part: part[: len(part) // 2] + bytes(len(part) - len(part) // 2),
        lambda part: part[: len(part) // 2],
        lambda part: part[: len(part) // 2] + part[len(part) // 2 + 40 :],
    ):
        good = page(GREY, compression=compression, tile=tile)
        good.data = [*good.data[:2], damage(good.data[2]), *good.data[3:]]
        refused(tiff(good))


@pytest.mark.parametrize("compression", COMPRESSIONS.values(), ids=COMPRESSIONS)
def test_a_tiff_with_missing_strips(compression: int) -> None:
    for change in ("no offset", "beyond the end", "no length", "too few", "none"):
        content = page(GREY, compression=compression)
        whole = tiff(content)
        lengths = [len(part) for part in content.data]
        starts = [whole.index(part) for part in content.data]
        if change == "no offset":
            starts[2] = 0
        elif change == "beyond the end":
            starts[2] = len(whole) - 5
        elif change == "no length":
            lengths[2] = 0
        elif change == "too few":
            starts, lengths = starts[:-1], lengths[:-1]
        content.tags |= {} if change == "none" else {273: (LONG, starts)}
        content.tags |= {279: (LONG, lengths)}
        changed = tiff(content)
        refused(
            changed.replace(struct.pack("<HH", 273, LONG), struct.pack("<HH", 272, LONG))
            if change == "none"
            else changed
        )


@pytest.mark.parametrize(("compression", "name"), [(3, "CCITT"), (50000, "Zstandard"), (34925, "LZMA"), (999, "999")])
def test_a_tiff_of_another_compression(compression: int, name: str) -> None:
    content = page(GREY)
    content.tags[259] = (SHORT, [compression])
    refused(tiff(content), f"compression .*{name}.* is not supported; save it with LZW, deflate or none")


def test_tags_that_nobody_knows_do_no_harm() -> None:
    content = page(GREY)
    content.tags |= {40000: (LONG, list(range(99))), 65000: (SHORT, [1])}
    np.testing.assert_array_equal(decode_image(tiff(content))[..., 0], GREY)


# Several pages


def test_a_tiff_of_several_pages_is_refused() -> None:
    refused(tiff(page(GREY), page(GREY)), "it holds several pictures")
    refused(tiff(page(GREY[:9, :9]), page(GREY), big=True), "it holds several pictures")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True], ids=["classic", "big"])
@pytest.mark.parametrize("compression", [RAW, LZW])
def test_of_a_thumbnail_and_a_picture_the_picture_is_taken(compression: int, big: bool, order: str) -> None:
    thumbnail, picture = page(GREY[::8, ::8], kind=1), page(GREY, compression=compression)
    for pages in ((thumbnail, picture), (picture, thumbnail), (thumbnail, picture, thumbnail)):
        image = decode_image(tiff(*pages, order=order, big=big))
        np.testing.assert_array_equal(image[..., 0], GREY)
    refused(tiff(thumbnail, order=order, big=big), "only a reduced picture")
    refused(tiff(thumbnail, thumbnail, order=order, big=big), "only a reduced picture")


def test_pages_that_run_in_a_circle_are_refused() -> None:
    content = bytearray(tiff(page(GREY)))
    content[-4:] = content[4:8]
    refused(bytes(content))


def test_animated_pictures_are_refused() -> None:
    header, *rest = png_chunks(encode(".png", GREY))
    refused(png(header, (b"acTL", struct.pack(">II", 2, 0)), *rest), "it is an animated PNG")
    frame = encode(".webp", COLOUR)[12:]
    extended = b"VP8X" + struct.pack("<IIHBHB", 10, 2, 129, 0, 95, 0)
    webp = b"WEBP" + extended + b"ANIM" + struct.pack("<IIH", 6, 0, 0) + frame
    refused(b"RIFF" + struct.pack("<I", len(webp)) + webp, "it is an animated WebP")


# PNG


def test_a_png_whose_checksums_hide_the_damage() -> None:
    header, *data, end = png_chunks(encode(".png", COLOUR))
    stream = b"".join(content for kind, content in data if kind == b"IDAT")
    np.testing.assert_array_equal(decode_stored(png(header, (b"IDAT", stream), end)), COLOUR)
    middle = len(stream) // 2
    pixels = zlib.decompress(stream)
    stored = bytearray(zlib.compress(pixels, 0))
    stored[len(stored) // 2 : len(stored) // 2 + 500] = bytes(500)
    for broken in (
        stream[:middle],
        stream[:-8],
        stream[:middle] + bytes(80) + stream[middle + 80 :],
        stream[:middle] + stream[middle + 80 :],
        zlib.compress(pixels[: len(pixels) // 2]),
        bytes(stored),
        b"",
    ):
        refused(png(header, (b"IDAT", broken), end))


# The others


@pytest.mark.parametrize(
    ("extension", "options"),
    [
        (".webp", (cv2.IMWRITE_WEBP_QUALITY, 80)),
        (".webp", (cv2.IMWRITE_WEBP_QUALITY, 101)),
        (".jp2", ()),
        (".ppm", ()),
        (".bmp", ()),
    ],
    ids=["webp", "webp lossless", "jp2", "ppm", "bmp"],
)
def test_the_other_formats(extension: str, options: tuple[int, ...]) -> None:
    image = photo(400, 300, 3)
    content = encode(extension, image, *options)
    np.testing.assert_array_equal(decode_stored(content), opencv(content))
    for part in (0.3, 0.6, 0.9, 0.99):
        refused(content[: int(part * len(content))])
    middle = len(content) // 2
    refused(content[:middle] + content[middle + 500 :])
    if extension in (".webp", ".jp2"):  # the others hold zeros where the picture is black
        refused(content[:middle] + bytes(len(content) - middle))
        refused(content[:middle] + bytes(2000) + content[middle + 2000 :])


def test_pgm_in_text_and_in_bytes() -> None:
    text = (
        b"P2\n# a comment\n130 96\n255\n"
        + b"\n".join(b" ".join(b"%d" % v for v in row) for row in GREY.tolist())
        + b"\n"
    )
    for content in (encode(".pgm", GREY), text):
        np.testing.assert_array_equal(decode_stored(content)[..., 0], GREY)
    refused(text[:-2000])
    refused(encode(".pgm", GREY) * 2, "several pictures")


def test_a_run_length_encoded_bmp() -> None:
    rows = GREY[::-1].tolist()
    np.testing.assert_array_equal(decode_stored(bmp_rle8(rows))[..., 0], GREY)
    refused(bmp_rle8(rows)[:-3000])
    refused(bmp_rle8([*rows[:50], *([[]] * 46)]))  # rows that end at once
    whole = bmp_rle8(rows)
    refused(whole[:-3000] + bytes(3000))
    refused(whole[:-3002] + b"\0\1" + whole[-3000:])  # a picture that ends at once


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"GIF89a" + bytes(40), "a GIF"),
        (b"\0\0\0\x1cftypheic" + bytes(40), "a HEIC"),
        (b"\0\0\0\x1cftypmif1" + bytes(40), "a HEIC"),
        (b"\0\0\0\x1cftypavif" + bytes(40), "an AVIF"),
        (b"\x76\x2f\x31\x01" + bytes(40), "an OpenEXR"),
        (b"#?RADIANCE\n" + bytes(40), "a Radiance"),
        (b"Pf\n1 1\n-1.0\n" + bytes(40), "a PFM"),
        (b"P7\n" + bytes(40), "a PAM"),
    ],
)
def test_formats_that_are_not_read_are_named(content: bytes, name: str) -> None:
    refused(content, f"it is {name} image.*convert it")
