"""PBM, PGM and PPM: a header in text, and the values, in text or as they are."""

import re
import struct
from typing import NamedTuple

from rstpm_edge.image.formats.problem import Problem, damaged

_GAP = rb"(?:\s|#[^\n]*\n)+"
_HEADER = {
    False: re.compile(rb"P([14])" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})\s"),  # black or white: no maximum
    True: re.compile(rb"P([2356])" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,5})\s"),
}
_MAX_TEXT = 1 << 26  # bytes: in text a value takes long to read


class _Header(NamedTuple):
    kind: int
    width: int
    height: int
    maximum: int
    pixels_at: int


def _header(content: bytes) -> _Header:
    found = _HEADER[content[1] in b"2356"].match(content[:65536])
    if found is None:
        raise struct.error("a header that does not end")
    kind, width, height, *maximum = (int(number) for number in found.groups())
    return _Header(kind, width, height, maximum[0] if maximum else 1, found.end())


def size(content: bytes) -> tuple[int, int]:
    header = _header(content)
    return header.width, header.height


def check(content: bytes) -> None:
    kind, width, height, maximum, pixels_at = _header(content)
    if not 1 <= maximum <= 65535:
        raise damaged()
    if kind <= 3:
        _check_text(content, 3 * width * height if kind == 3 else width * height, pixels_at, kind == 1)
        return
    row = (width + 7) // 8 if kind == 4 else width * (3 if kind == 6 else 1) * (2 if maximum > 255 else 1)
    end = pixels_at + row * height
    if len(content) < end:
        raise damaged()
    if re.match(rb"\s*P[1-7]\s", content[end : end + 64]):
        raise Problem("it holds several pictures; save the one to judge as a file of its own")


def _check_text(content: bytes, wanted: int, pixels_at: int, bits: bool) -> None:
    if len(content) > _MAX_TEXT:
        raise Problem("its values are written as text, in a file above 64 MiB; save it as PNG")
    text = content[pixels_at:]
    if not re.fullmatch(rb"[\d\s]*", text):
        text = re.sub(rb"#[^\n]*", b"", text)
    found = sum(text.count(digit) for digit in (b"0", b"1")) if bits else sum(1 for _ in re.finditer(rb"\d+", text))
    if found < wanted:
        raise damaged()
