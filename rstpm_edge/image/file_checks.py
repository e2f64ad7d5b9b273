"""What is wrong with an encoded image, found before it is decoded.

OpenCV decodes past damage without a word, and allocates what a header asks for.
"""

import struct
from types import ModuleType

from rstpm_edge.image.file_sizes import MAX_PIXELS, MAX_SIDE, impossible_size, is_possible_size
from rstpm_edge.image.formats import bmp, jpeg, jpeg2000, png, pnm, tiff, webp
from rstpm_edge.image.formats.problem import DAMAGED, Problem

__all__ = ["HEAD", "MAX_PIXELS", "MAX_SIDE", "check_encoded", "format_of", "impossible_size", "is_possible_size"]

HEAD = 1 << 16  # bytes at a file's start that tell its format, and mostly its size
MAX_BYTES_BESIDE = 1 << 26  # notes, previews, padding
MAX_BYTES_PER_PIXEL = 8  # four samples of 16 bits

# A module's `size` gives (width, height) as the header has it, its `check` raises Problem unless all is there and
# whole. Both raise struct.error or IndexError where the content ends too early.
_FORMATS: tuple[tuple[bytes, ModuleType], ...] = (
    (b"\x89PNG\r\n\x1a\n", png),
    (b"\xff\xd8\xff", jpeg),
    (b"BM", bmp),
    (b"II*\0", tiff),
    (b"MM\0*", tiff),
    (b"II+\0", tiff),
    (b"MM\0+", tiff),
    (b"\0\0\0\x0cjP  \r\n\x87\n", jpeg2000),
    (b"\xff\x4f\xff\x51", jpeg2000),
)
_FOREIGN = {
    b"GIF8": "a GIF",
    b"\x76\x2f\x31\x01": "an OpenEXR",
    b"#?RADIANCE": "a Radiance",
    b"#?RGBE": "a Radiance",
    b"PF": "a PFM",
    b"Pf": "a PFM",
    b"P7": "a PAM",
    b"8BPS": "a Photoshop",
    b"\xff\x0a": "a JPEG XL",
    b"\0\0\0\x0cJXL ": "a JPEG XL",
    b"\x59\xa6\x6a\x95": "a Sun raster",
}
_FOREIGN_BRANDS = {b"avif": "an AVIF", b"avis": "an AVIF"}  # any other is HEIC, or as good as


def format_of(head: bytes) -> ModuleType:
    """The module for an encoded image, by its first bytes. Raises Problem where there is none."""
    if not head:
        raise Problem("the file is empty")
    for magic, module in _FORMATS:
        if head.startswith(magic):
            return module
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return webp
    if head[:1] == b"P" and head[1:2] in (b"1", b"2", b"3", b"4", b"5", b"6") and head[2:3].isspace():
        return pnm
    kind = next((name for magic, name in _FOREIGN.items() if head.startswith(magic)), None)
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1", *_FOREIGN_BRANDS):
        kind = _FOREIGN_BRANDS.get(head[8:12], "a HEIC")
    if kind:
        raise Problem(f"it is {kind} image, not a PNG, JPEG, BMP or TIFF; convert it to PNG")
    raise Problem("it is not a PNG, JPEG, BMP or TIFF image")


def check_length(head: bytes, length: int) -> None:
    """Raise Problem for a file whose first bytes are `head` and that is longer than any image of its size."""
    module, pixels = format_of(head), MAX_PIXELS
    try:
        width, height = module.size(head)
        if is_possible_size(width, height):
            pixels = width * height
    except (Problem, struct.error, IndexError, OverflowError):
        pass  # the head is too short to tell
    if length > pixels * MAX_BYTES_PER_PIXEL + MAX_BYTES_BESIDE:
        raise Problem(f"the file has {length:,} bytes, more than an image of its size can have")


def check_encoded(content: bytes) -> tuple[int, int]:
    """(width, height) of an encoded image. Raises Problem for one that is not whole, not one picture or too large."""
    module = format_of(content)
    try:
        width, height = module.size(content)
        if not is_possible_size(width, height):
            raise Problem(f"it {impossible_size(width, height)}")
        module.check(content)
    except (struct.error, IndexError, OverflowError):  # OverflowError: an offset of 64 bits
        raise Problem(DAMAGED) from None
    return width, height
