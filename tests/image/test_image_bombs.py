"""Small files that would decode to a huge picture, or for minutes, are refused at once; so are pipes and devices."""

from __future__ import annotations

import os
import resource
import socket
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from encoded import DEFLATE, LONG, SHORT, encode, page, photo, png, png_chunks, tiff

from rstpm_edge.errors import ImageError
from rstpm_edge.image.decode import decode_stored, read_image

GREY = photo(64, 64)
SIDE = 60000


def bomb(kind: str) -> bytes:
    """A file whose picture would have 3.6 gigapixels, or is gone over ten thousand times."""
    jpeg = bytearray(encode(".jpg", GREY))
    frame = jpeg.index(b"\xff\xc0")
    if kind.startswith("jpeg "):
        small = bytes(jpeg)
        struct.pack_into(">HH", jpeg, frame + 5, SIDE, SIDE)
        # A marker without a length, whose "length" leads a careless reader to a small frame.
        marker = {"TEM": b"\xff\x01", "RST": b"\xff\xd3", "fill": b"\xff" * 9}[kind[5:]]
        return bytes(jpeg[:2] + marker + jpeg[2:]) + small[frame:]
    if kind == "scans":
        progressive = encode(".jpg", np.zeros((1600, 1600), np.uint8), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
        first = progressive.rindex(b"\xff\xda")
        return progressive[:-2] + progressive[first:-2] * 10_000 + progressive[-2:]
    if kind.startswith("tiff twice"):
        content = page(GREY, compression=DEFLATE)
        extra = {"first": [(256, LONG, SIDE), (257, LONG, SIDE)], "short": [(256, SHORT, SIDE), (257, SHORT, SIDE)]}
        return tiff(content, extra=extra[kind.split()[-1]])
    content = page(GREY)
    if kind == "tiff tiles":
        content = page(GREY, tile=64, compression=DEFLATE)
        content.tags |= {322: (LONG, [SIDE]), 323: (LONG, [SIDE])}
    elif kind == "tiff two widths":
        content.tags |= {256: (LONG, [64, SIDE])}
    elif kind == "tiff samples":
        content.tags |= {277: (SHORT, [60000]), 258: (SHORT, [8] * 60000)}
    elif kind == "tiff jpeg":
        strip = bytearray(encode(".jpg", GREY))
        struct.pack_into(">HH", strip, strip.index(b"\xff\xc0") + 5, SIDE, SIDE)
        content = page(GREY, compression=7, rows=64)
        content.data = [bytes(strip)]
    elif kind == "tiff deflate":
        content = page(GREY, compression=DEFLATE, rows=64)
        content.data = [zlib.compress(bytes(1 << 28))]
    else:
        raise ValueError(kind)
    return tiff(content)


BOMBS = (
    "jpeg TEM", "jpeg RST", "jpeg fill", "scans", "tiff twice first", "tiff twice short", "tiff tiles",
    "tiff two widths", "tiff samples", "tiff jpeg", "tiff deflate",
)  # fmt: skip

REFUSE = """
import resource, sys
from rstpm_edge.errors import ImageError
from rstpm_edge.image.decode import decode_stored, read_image
decode_stored(open(sys.argv[2], "rb").read())  # whatever is imported when it is needed
used = resource.getrusage(resource.RUSAGE_SELF)
try:
    read_image(sys.argv[1])
except ImageError as error:
    print(error)
else:
    print("read")
after = resource.getrusage(resource.RUSAGE_SELF)
print(after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime)
print((after.ru_maxrss - used.ru_maxrss) / 1024)
"""


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_are_refused_at_once(tmp_path: Path, kind: str) -> None:
    path, harmless = tmp_path / "bomb", tmp_path / "harmless.jpg"
    path.write_bytes(bomb(kind))
    harmless.write_bytes(encode(".jpg", GREY))
    run = subprocess.run(
        [sys.executable, "-c", REFUSE, path, harmless], capture_output=True, text=True, check=True, timeout=60
    )
    message, seconds, megabytes = run.stdout.splitlines()
    assert message.startswith(f"Cannot read {path}: ")
    assert float(seconds) < 1  # of processor time
    assert float(megabytes) < 100


def test_a_png_or_bmp_with_two_headers_or_an_odd_one() -> None:
    header, *rest = png_chunks(encode(".png", GREY))
    large = (b"IHDR", struct.pack(">II", SIDE, SIDE) + header[1][8:])
    for chunks in ((header, large, *rest), (large, header, *rest), (rest[0], header, *rest)):
        with pytest.raises(ImageError, match=r"60000×60000|damaged|pixels"):
            decode_stored(png(*chunks))
    for at, value in ((14, 13), (14, 0xFFFFFFF0), (18, -64), (18, SIDE * 10_000), (22, -(2**31)), (28, 7), (30, 5)):
        bmp = bytearray(encode(".bmp", GREY))
        struct.pack_into("<I" if value > 0 else "<i", bmp, at, value)
        with pytest.raises(ImageError, match="Cannot read"):
            decode_stored(bytes(bmp))


def test_a_webp_whose_canvas_is_not_its_frame() -> None:
    frame = encode(".webp", photo(64, 64, 3))[12:]
    for width in (63, 65, 16000):
        extended = b"VP8X" + struct.pack("<IIHBHB", 10, 0, width - 1, 0, 63, 0)
        webp = b"WEBP" + extended + frame
        with pytest.raises(ImageError, match="damaged"):
            decode_stored(b"RIFF" + struct.pack("<I", len(webp)) + webp)


def test_a_jpeg_2000_whose_two_sizes_differ() -> None:
    content = bytearray(encode(".jp2", photo(64, 64, 3)))
    header = content.index(b"ihdr")
    struct.pack_into(">I", content, header + 4, 65)
    with pytest.raises(ImageError, match="damaged"):
        decode_stored(bytes(content))


def test_a_bigtiff_of_impossible_offsets() -> None:
    content = bytearray(tiff(page(GREY), big=True))
    for at in (8, struct.unpack_from("<Q", content, 8)[0]):
        broken = bytearray(content)
        struct.pack_into("<Q", broken, at, 2**64 - 1)
        with pytest.raises(ImageError, match="damaged"):
            decode_stored(bytes(broken))


# What is no regular file


def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"Cannot read .*a\.png: it is not a regular file\.$"):
        read_image(tmp_path / "a.png")


def test_devices_and_sockets_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    with pytest.raises(ImageError, match="not a regular file"):
        read_image(tmp_path / "zero.png")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.png"))
        with pytest.raises(ImageError, match=r"Cannot read .*s\.png: "):
            read_image(tmp_path / "s.png")


@pytest.mark.parametrize(
    "head",
    [b"", b"\x89PNG\r\n\x1a\n", encode(".png", GREY), encode(".jpg", GREY), encode(".bmp", GREY), tiff(page(GREY))],
    ids=["zeros", "magic", "png", "jpeg", "bmp", "tiff"],
)
def test_a_sparse_file_is_not_read_whole(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "image.png"
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(3 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError, match=r"bytes, more than an image of its size can have|not a PNG"):
        read_image(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(".png", GREY))
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "b.png")[..., 0], GREY)
