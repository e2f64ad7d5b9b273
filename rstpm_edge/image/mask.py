"""A picture that says where anomalies count: white does, black does not."""

import os
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.errors import ImageError, UsageError
from rstpm_edge.image.decode import decode_stored, decode_unchanged, read_encoded
from rstpm_edge.image.grid import Grid
from rstpm_edge.image.roi import crop
from rstpm_edge.image.stored_mask import MOST_PIXELS, StoredMask, pack

WHITE = 128  # from this grey up a pixel counts
COLOUR = 64  # channels of a black and white picture differ by less, whatever a JPEG made of it
CLOSE = 32  # grey levels from black or white that a JPEG makes of them
NEARLY_ALL, NOTHING = 0.97, 2  # share of pixels that lie within so many grey levels of black or white
BETWEEN = 0.1  # share of the pixels, at most, that may be neither: those of smooth edges
REACH = 8  # pixels of an edge, at most, to which they lie: the side of a JPEG's block


@dataclass(frozen=True, eq=False)
class Mask:
    """`white` (h, w) uint8, 255 where anomalies count and 0 where they do not. `name` is for messages; `sha256` is that
    of the file it was read from, in hexadecimal."""

    white: NDArray[np.uint8]
    name: str
    sha256: str | None = None

    def ignored(self, grid: Grid, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Cells of the model's input, `size` (H, W), that do not count: those that lie less than half in white.

        The mask is of the photo, at its size or scaled, or of the part that is judged: of exactly its size or, where
        no photo has its shape, scaled.
        Raises UsageError when it fits neither, or when nothing is left to judge.
        """
        height, width = self.white.shape
        part, photo = self.white, grid.photo_size
        if part.shape != (grid.height, grid.width):
            if not _has_shape(self.white.shape, photo):
                if _has_shape(self.white.shape, (grid.height, grid.width)):
                    return self._ignored(self.white, grid, size)
                raise UsageError(
                    f"{self.name} measures {width}×{height} pixels, which fits no photo of "
                    f"{photo[1]}×{photo[0]}: draw the mask on such a photo."
                )
            whole = cv2.resize(self.white, photo[::-1], interpolation=cv2.INTER_NEAREST)
            part = crop(np.asarray(whole, np.uint8), (grid.x, grid.y, grid.width, grid.height))
        return self._ignored(part, grid, size)

    def stored(self) -> StoredMask:
        """The mask as a model file keeps it; a huge one smaller."""
        white = self.white
        while white.size > MOST_PIXELS:
            size = (max(white.shape[1] // 2, 1), max(white.shape[0] // 2, 1))
            white = np.asarray(cv2.resize(white, size, interpolation=cv2.INTER_AREA), np.uint8)
        height, width = white.shape
        return pack(height, width, np.packbits(white >= WHITE, axis=1).tobytes())

    def _ignored(self, part: NDArray[np.uint8], grid: Grid, size: tuple[int, int]) -> NDArray[np.bool_]:
        placed = grid.placement
        share = cv2.resize(part, (placed.width, placed.height), interpolation=cv2.INTER_AREA)
        inside = np.asarray(share) < WHITE
        if inside.all():
            raise UsageError(f"{self.name} leaves nothing to judge; black is ignored, white is judged.")
        # Padding counts, as it does without a mask, but not beside black: what lies there shows in it.
        below, right = size[0] - placed.top - placed.height, size[1] - placed.left - placed.width
        return np.pad(inside, ((placed.top, below), (placed.left, right)), mode="edge")


def _has_shape(mask: tuple[int, ...], image: tuple[int, int]) -> bool:
    """Whether a mask has an image's aspect ratio, except that each side may be a pixel off."""
    height, width = mask
    return abs(width * image[0] - height * image[1]) <= max(image)


def stored_mask(stored: StoredMask) -> Mask:
    """The mask that a model file keeps."""
    rows = np.frombuffer(stored.unpacked(), np.uint8).reshape(stored.height, stored.row_bytes)
    bits = np.unpackbits(rows, axis=1, count=stored.width)
    return Mask(bits * np.uint8(255), "The model's mask")


def load_mask(mask: NDArray[Any] | str | os.PathLike[str]) -> Mask:
    """Take a mask from an image file, or from an array (h, w), bool, uint8 or uint16: see `black_and_white`.

    Raises UsageError for a file that is no image, an array of another type or shape, a picture that is no mask, and a
    mask without white.
    """
    digest = None
    if isinstance(mask, (str, os.PathLike)):
        name = f"The mask {mask}"
        try:
            content = read_encoded(mask)
            digest = sha256(content).hexdigest()
            pixels: NDArray[Any] = one_channel(decode_stored(content, str(mask)))
            _refuse_transparent(content, str(mask))
        except ImageError as error:
            raise UsageError(f"{name} cannot be used. {error}") from error
    else:
        name, pixels = "The mask", mask
        if pixels.ndim != 2 or pixels.dtype not in (np.bool_, np.uint8, np.uint16) or pixels.size == 0:
            raise UsageError(
                f"A mask is an array (height, width) of bool or uint8, not {pixels.dtype} of shape {pixels.shape}."
            )
    try:
        counts = black_and_white(pixels)
    except ImageError as error:
        raise UsageError(f"{name} cannot be used. {error}") from error
    if not counts.any():
        raise UsageError(f"{name} is black all over, so nothing would be judged; black is ignored, white is judged.")
    return Mask(np.where(counts, np.uint8(255), np.uint8(0)), name, digest)


def _refuse_transparent(content: bytes, name: str) -> None:
    """What was erased in a drawing program still has a colour, which nobody sees."""
    image = decode_unchanged(content, name)
    if image.ndim < 3 or image.shape[2] < 4:
        return
    opaque = 65535 if image.dtype == np.uint16 else 255
    if image[:, :, 3].min() < opaque:
        raise ImageError("It is transparent in places: make them black or white.")


def one_channel(image: NDArray[Any]) -> NDArray[Any]:
    """The grey values (h, w) of a picture (h, w, 3). Raises ImageError where it has colours."""
    highest, lowest = image.max(axis=2), image.min(axis=2)
    white = 255 if image.dtype == np.uint8 else max(int(highest.max()), 1)
    if int((highest - lowest).max()) >= COLOUR * white / 255:
        raise ImageError("It has colours; a mask is black and white.")
    return np.asarray(highest)


def black_and_white(pixels: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a mask (h, w), bool, uint8 or uint16, is white.

    Of two values, whatever they are (0 and 1, say), the higher one is white. Otherwise nearly all of it must be black
    or white, or there are other greys at the edges between them only, where pens and JPEGs smooth. Raises ImageError
    for other pictures: a photo, or numbers of several objects.
    """
    if pixels.dtype == np.bool_:
        return pixels
    low, high = int(pixels.min()), int(pixels.max())
    if low == high:
        return np.asarray(pixels >= (WHITE if pixels.dtype == np.uint8 else WHITE << 8))
    if not ((pixels != low) & (pixels != high)).any():
        return np.asarray(pixels == high)
    # Of 16 bits, fewer may be used: the highest value is white.
    grey = pixels if pixels.dtype == np.uint8 else np.asarray(pixels * (255 / high), np.uint8)
    black, white = grey <= CLOSE, grey >= 255 - CLOSE
    between = ~(black | white)
    if between.any() and (np.minimum(grey, 255 - grey) <= NOTHING).mean() < NEARLY_ALL:
        reach = np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8)
        edges = np.logical_and(*(cv2.dilate(one.astype(np.uint8), reach) for one in (black, white)))
        if between.mean() > BETWEEN or not edges[between].all():
            raise ImageError(
                "It is no mask but a picture with shades of grey: a mask is black and white, without other areas."
            )
    counts = np.asarray(grey >= WHITE)
    if not counts.any():
        raise ImageError(f"Its values go from {low} to {high}, so nothing is white: draw what counts in white (255).")
    return counts
