"""What is wrong with an encoded image, found before it is decoded."""

import struct
import zlib

MAX_PIXELS = 1 << 28  # 268 megapixels: above any inspection camera, below what exhausts a small box's memory
MAX_SIDE = 1 << 23  # as csrc/rstpm_edge.h has it: sums over a row or column stay exact


def is_possible_size(width: int, height: int) -> bool:
    return min(width, height) >= 1 and max(width, height) <= MAX_SIDE and width * height <= MAX_PIXELS


def impossible_size(width: int, height: int) -> str:
    if max(width, height) > MAX_SIDE and width * height <= MAX_PIXELS:
        return f"measures {width}×{height} pixels; at most {MAX_SIDE:,} in a row or column are possible"
    return f"measures {width}×{height} pixels; at least one and at most {MAX_PIXELS:,} in all are possible"


def problem_in_file(content: bytes) -> str | None:
    """What is wrong with an encoded image, found before it is decoded.

    OpenCV before 5 pads a truncated file without a word, and every version allocates what a header asks for.
    """
    if not content:
        return "the file is empty"
    inspect = next((check for magic, check in _FORMATS.items() if content.startswith(magic)), None)
    if inspect is None:
        return "it is not a PNG, JPEG, BMP or TIFF image"
    try:
        (width, height), whole = inspect(content)
    except struct.error:
        return "the file is truncated; copy it again"
    if not is_possible_size(width, height):
        return f"it {impossible_size(width, height)}"
    return None if whole else "the file is truncated or damaged; copy it again"


# Each takes an encoded image and gives its (width, height) and whether it is all there. One that ends inside
# its header raises struct.error.


def _inspect_png(content: bytes) -> tuple[tuple[int, int], bool]:
    size = struct.unpack_from(">II", content, 16)
    view, position = memoryview(content), 8
    while position + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 8 + length
        if end + 4 > len(content):
            break
        if zlib.crc32(view[position + 4 : end]) != struct.unpack_from(">I", content, end)[0]:
            break
        if kind == b"IEND":
            return size, True
        position = end + 4
    return size, False


def _inspect_jpeg(content: bytes) -> tuple[tuple[int, int], bool]:
    position = 2
    while True:
        fill, marker, length = struct.unpack_from(">BBH", content, position)
        if fill != 0xFF:
            raise struct.error("no marker where one must stand")
        if marker == 0xFF:  # any number of fill bytes may come before a marker
            position += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            height, width = struct.unpack_from(">HH", content, position + 5)
            # Behind the frame header, since the thumbnail in front of it has an end mark of its own.
            return (width, height), content.find(b"\xff\xd9", position) >= 0
        else:
            position += 2 + length


def _inspect_bmp(content: bytes) -> tuple[tuple[int, int], bool]:
    pixels_at, header_size = struct.unpack_from("<II", content, 10)
    if header_size == 12:  # OS/2 and Windows 2
        width, height, _, depth = struct.unpack_from("<HHHH", content, 18)
        compression = 0
    else:
        width, height, _, depth, compression = struct.unpack_from("<iiHHI", content, 18)
    height = abs(height)  # negative where the rows run from the top
    # Run-length encoded rows (1 and 2) have no length to check. The file size in the header is often wrong.
    stored = 0 if compression in (1, 2) else (width * depth + 31) // 32 * 4 * height
    return (width, height), len(content) > pixels_at and len(content) >= pixels_at + stored


def _inspect_tiff(content: bytes) -> tuple[tuple[int, int], bool]:
    order = "<" if content.startswith(b"II") else ">"
    (directory,) = struct.unpack_from(order + "I", content, 4)
    (entries,) = struct.unpack_from(order + "H", content, directory)
    size = {256: 0, 257: 0}  # the tags of width and height
    for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind = struct.unpack_from(order + "HH", content, entry)
        if tag in size:
            (size[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), content, entry + 8)
    return (size[256], size[257]), True  # the decoder itself notices missing strips


_FORMATS = {
    b"\x89PNG\r\n\x1a\n": _inspect_png,
    b"\xff\xd8\xff": _inspect_jpeg,
    b"BM": _inspect_bmp,
    b"II*\0": _inspect_tiff,
    b"MM\0*": _inspect_tiff,
}
