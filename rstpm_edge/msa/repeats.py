"""Whether photos are repeats: exposures of their own, and not one of them saved twice.

Two exposures of a part that was put in anew differ in noise, and mostly in position. What a file says cannot prove an
exposure; what is refused here is what no second exposure gives. docs/msa.md says what passes.
"""

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.errors import DatasetError
from rstpm_edge.image.formats import jpeg

# Grey levels of 255. Of a photo of 12 bits, one of 8 bits differs by up to 0.21, and a copy in JPEG by up to 0.06 from
# what is saved as it was; two exposures with a noise of half a grey level by 0.41 and more, unless JPEG has taken that
# away (docs/msa.md).
LEAST_DIFFERENCE = 0.3
COMPARED, TILES, BLOCK = 1024, 4, 16  # pixels a side, at most; in so many tiles; a block of JPEG with halved colours
_JPEG = b"\xff\xd8\xff"
_QUANTIZERS, _FRAMES = 0xDB, (0xC0, 0xC1, 0xC2)
_SAMPLINGS = {  # by the first component's
    0x11: cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    0x21: cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    0x22: cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    0x12: cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440,
    0x41: cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411,
}


class SavedAs(NamedTuple):
    """How a JPEG file was saved: libjpeg's quality, and how coarse colours are, as OpenCV numbers it; None for grey."""

    quality: int
    sampling: int | None


@dataclass(frozen=True, eq=False)
class Exposure:
    """What is kept of a photo to compare others with: its file's hash, its pixels', and some of these.

    `sample` is (h, w, 3) BGR in levels of 0 to 255, uint8, or float32 of a photo of 16 bits, and `size` that of the
    whole. `saved_as` is None of what is no JPEG file, or was not saved with libjpeg's tables.
    """

    path: Path
    file_sha256: str
    pixels_sha256: bytes
    size: tuple[int, int]  # height, width
    sample: NDArray[Any]
    saved_as: SavedAs | None


def exposure(path: Path, content: bytes, pixels: NDArray[Any], bits: int = 16) -> Exposure:
    """`pixels` (H, W, 3) BGR are what `content`, the bytes of a file, holds: uint8, or uint16 that uses `bits`."""
    shown = repr((pixels.shape, pixels.dtype.str)).encode()
    return Exposure(
        path,
        sha256(content).hexdigest(),
        sha256(np.ascontiguousarray(pixels).tobytes() + shown).digest(),
        (pixels.shape[0], pixels.shape[1]),
        _sample(pixels, bits),
        _saved_as(content),
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
    """How far two photos differ: the standard deviation of their difference, in grey levels of 255.

    The smallest of two: as they are, and with one saved as the other's JPEG file was. Infinite for photos of two sizes.
    """
    if one.size != other.size:
        return float("inf")
    found = [_difference(one.sample, other.sample)]
    for copy, original in ((one, other), (other, one)):
        if copy.saved_as is not None:
            found.append(_difference(_saved(original.sample, copy.saved_as), copy.sample))
    return min(found)


def _refusal(one: Path, other: Path, why: str) -> DatasetError:
    return DatasetError(
        f"{one} and {other} {why}: a replay is no repeat. Take one of them out, put the part in anew, and photograph "
        "it again."
    )


def _sample(pixels: NDArray[Any], bits: int) -> NDArray[Any]:
    """Parts of a photo from edge to edge. Each begins with a block of JPEG, so that it can be saved as that was."""
    rows, columns = map(_spread, pixels.shape[:2])
    part: NDArray[Any] = pixels[np.ix_(rows, columns)]
    return part if part.dtype == np.uint8 else part.astype(np.float32) * np.float32(255 / ((1 << bits) - 1))


def _spread(side: int) -> NDArray[np.int64]:
    """All rows or columns, or, of more than COMPARED, those of TILES tiles from the first edge to the other."""
    if side <= COMPARED:
        return np.arange(side)
    length = COMPARED // TILES
    starts = np.linspace(0, side - length, TILES).astype(np.int64) // BLOCK * BLOCK
    return (starts[:, None] + np.arange(length)).ravel()


def _difference(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(np.std(_grey(one) - _grey(other)))


def _grey(sample: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(sample.astype(np.float32), cv2.COLOR_BGR2GRAY), np.float32)


def _saved(sample: NDArray[Any], saved_as: SavedAs) -> NDArray[np.uint8]:
    options = [cv2.IMWRITE_JPEG_QUALITY, saved_as.quality]
    if saved_as.sampling is None:
        sample = _grey(sample)
    else:
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, saved_as.sampling]
    encoded = cv2.imencode(".jpg", np.rint(sample).clip(0, 255).astype(np.uint8), options)[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)


def _saved_as(content: bytes) -> SavedAs | None:
    if not content.startswith(_JPEG):
        return None
    quality = _qualities().get(_quantizer(content))
    frame = next((segment.body for segment in jpeg.segments(content) if segment.marker in _FRAMES), None)
    if quality is None or frame is None:
        return None
    # Precision, height, width, components, and of each its number, its sampling and its table.
    components, sampling = content[frame + 5], content[frame + 7]
    return SavedAs(quality, None if components == 1 else _SAMPLINGS.get(sampling, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420))


def _quantizer(content: bytes) -> bytes:
    """The first one of a JPEG file, that of luminance: its number, and 64 values of a byte."""
    found = (segment.body for segment in jpeg.segments(content) if segment.marker == _QUANTIZERS)
    start = next(found, len(content))
    return content[start : start + 65]


@lru_cache(maxsize=1)
def _qualities() -> dict[bytes, int]:
    """The quality by the quantizer of libjpeg, which most programs save with."""
    empty = np.zeros((8, 8), np.uint8)
    return {
        _quantizer(cv2.imencode(".jpg", empty, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()): quality
        for quality in range(1, 101)
    }
