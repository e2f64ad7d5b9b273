"""Whether photos are repeats: exposures of their own, and not one of them saved twice.

Two exposures of a part that was put in anew differ in noise, and mostly in position. What a file says cannot prove an
exposure; what is refused here is what no second exposure gives. docs/msa.md says what passes.
"""

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.errors import DatasetError
from rstpm_edge.image.formats import jpeg

# Grey levels of 255, root mean square. Copies in PNG, or in JPEG of quality 50 to 98, give up to 0.24; two exposures
# with a noise of half a grey level 0.41 and more, unless JPEG has taken it away (docs/msa.md).
LEAST_DIFFERENCE = 0.35
COMPARED = 1024  # pixels a side, at most
_JPEG = b"\xff\xd8\xff"
_QUANTIZERS = 0xDB


@dataclass(frozen=True, eq=False)
class Exposure:
    """What is kept of a photo to compare others with: its file's hash, its pixels', the middle, and JPEG's tables.

    `middle` is (h, w) float32, grey levels of 255. `tables` are the quantizers of a JPEG file, empty for others.
    """

    path: Path
    file_sha256: str
    pixels_sha256: bytes
    middle: NDArray[np.float32]
    tables: bytes


def exposure(path: Path, content: bytes, pixels: NDArray[Any], bits: int = 16) -> Exposure:
    """`pixels` (H, W, 3) BGR are what `content`, the bytes of a file, holds: uint8, or uint16 that uses `bits`."""
    shown = repr((pixels.shape, pixels.dtype.str)).encode()
    return Exposure(
        path,
        sha256(content).hexdigest(),
        sha256(np.ascontiguousarray(pixels).tobytes() + shown).digest(),
        _middle(pixels, bits),
        _tables(content),
    )


class Copies:
    """Looks for copies in the photos of a study, part by part."""

    def __init__(self) -> None:
        self._by_file: dict[str, Path] = {}
        self._by_pixels: dict[bytes, Path] = {}

    def check(self, photos: list[Exposure]) -> None:
        """Raises DatasetError where a photo of this part is that of another file, of any part, or nearly so of its own.

        The pixels of 8 and 16 bits, and those of a JPEG file saved once more, are compared within a part alone.
        """
        for photo in photos:
            first = self._by_file.setdefault(photo.file_sha256, photo.path)
            if first != photo.path:
                raise _refusal(first, photo.path, "are the same file")
            first = self._by_pixels.setdefault(photo.pixels_sha256, photo.path)
            if first != photo.path:
                raise _refusal(first, photo.path, "hold the same pixels")
        for one, other in combinations(photos, 2):
            difference = least_difference(one, other)
            if difference < LEAST_DIFFERENCE:
                raise _refusal(
                    one.path,
                    other.path,
                    f"differ by {difference:.2f} grey levels of 255, as one photo saved twice does",
                )


def least_difference(one: Exposure, other: Exposure) -> float:
    """Root mean square difference of two photos in grey levels of 255, the smallest of: as they are, and with one
    saved as the other's JPEG file was. Infinite for photos of two sizes."""
    if one.middle.shape != other.middle.shape:
        return float("inf")
    found = [_difference(one.middle, other.middle)]
    for copy, original in ((one, other), (other, one)):
        quality = _qualities().get(copy.tables)
        if quality is not None:
            found.append(_difference(_saved(original.middle, quality), copy.middle))
    return min(found)


def _refusal(one: Path, other: Path, why: str) -> DatasetError:
    return DatasetError(
        f"{one} and {other} {why}: a replay is no repeat. Take one of them out, put the part in anew, and photograph "
        "it again."
    )


def _middle(pixels: NDArray[Any], bits: int) -> NDArray[np.float32]:
    """The middle, which begins with a block of JPEG, in grey levels of 255."""
    height, width = pixels.shape[:2]
    top, left = ((side - min(side, COMPARED)) // 2 // 16 * 16 for side in (height, width))
    part = pixels[top : top + COMPARED, left : left + COMPARED].astype(np.float32)
    if pixels.dtype == np.uint16:
        part *= 255 / ((1 << bits) - 1)
    return np.asarray(cv2.cvtColor(part, cv2.COLOR_BGR2GRAY), np.float32)


def _difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(one - other))))


def _saved(grey: NDArray[np.float32], quality: int) -> NDArray[np.float32]:
    encoded = cv2.imencode(".jpg", np.rint(grey).clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), np.float32)


def _tables(content: bytes) -> bytes:
    """The first quantizer, that of luminance, of a JPEG file."""
    if not content.startswith(_JPEG):
        return b""
    for segment in jpeg.segments(content):
        if segment.marker == _QUANTIZERS:
            return content[segment.body : segment.body + 65]  # its number, and 64 values of a byte
    return b""


@lru_cache(maxsize=1)
def _qualities() -> dict[bytes, int]:
    """The quality by the quantizer of libjpeg, which most programs save with."""
    empty = np.zeros((8, 8), np.uint8)
    return {
        _tables(cv2.imencode(".jpg", empty, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()): quality
        for quality in range(1, 101)
    }
