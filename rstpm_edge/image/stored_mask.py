"""A mask inside a model file: its bits, compressed, and in base64, since the document is text."""

import base64
import binascii
import zlib
from dataclasses import dataclass
from typing import Any

from rstpm_edge import document as read

MOST_PIXELS = 1 << 24  # a larger mask is stored at half its size, or less
_MOST_TEXT = 1 << 23


@dataclass(frozen=True)
class StoredMask:
    """`height` rows of `width` pixels, white ones 1; `bits` are rows of whole bytes, deflated, in base64."""

    height: int
    width: int
    bits: str

    @property
    def row_bytes(self) -> int:
        """The bytes of a row, whose last bits may be of no pixel."""
        return (self.width + 7) // 8

    def unpacked(self) -> bytes:
        """The rows. Raises ValueError where they are not what the size says."""
        length = self.height * self.row_bytes
        try:
            inflate = zlib.decompressobj()
            rows = inflate.decompress(base64.b64decode(self.bits, validate=True), length + 1)
        except (zlib.error, binascii.Error) as error:
            raise ValueError("the mask's bits are damaged") from error
        if len(rows) != length or not inflate.eof:
            raise ValueError("the mask's bits are of another size")
        return rows


def pack(height: int, width: int, rows: bytes) -> StoredMask:
    """What `StoredMask.unpacked` gives back."""
    return StoredMask(height, width, base64.b64encode(zlib.compress(rows, 9)).decode())


def parse_mask(value: Any) -> StoredMask:
    """What `dataclasses.asdict` made of a mask, and JSON of that. Raises ValueError."""
    found = read.fields(value, "the mask", ("height", "width", "bits"))
    height, width = (read.whole(found[name], f"the mask's {name}", 1, MOST_PIXELS) for name in ("height", "width"))
    if height * width > MOST_PIXELS:
        raise ValueError(f"the mask has more than {MOST_PIXELS} pixels")
    mask = StoredMask(height, width, read.text(found["bits"], "the mask's bits", _MOST_TEXT))
    if not any(mask.unpacked()):
        raise ValueError("the mask has nothing white")
    return mask
