"""A picture that says where anomalies count: white does, black does not."""

import os
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.errors import ImageError, UsageError
from rstpm_edge.image.decode import decode_image, decode_unchanged, read_encoded
from rstpm_edge.image.roi import crop
from rstpm_edge.regions import Grid

WHITE = 128  # from this grey up a pixel counts
COLOUR = 64  # channels of a black and white picture differ by less, whatever a JPEG made of it


@dataclass(frozen=True, eq=False)
class Mask:
    """`white` (h, w) uint8, 255 where anomalies count and 0 where they do not. `name` is for messages."""

    white: NDArray[np.uint8]
    name: str

    def ignored(self, grid: Grid, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Cells of the model's input, `size` (H, W), that do not count: those that lie less than half in white.

        The mask is of the photo, at its size or scaled, or has exactly the size of the part that is judged.
        Raises UsageError when it fits neither, or when nothing is left to judge.
        """
        height, width = self.white.shape
        part, photo = self.white, grid.photo_size
        if part.shape != (grid.height, grid.width):
            # Of the photo's aspect ratio, except that each side may be a pixel off.
            if abs(width * photo[0] - height * photo[1]) > max(photo):
                raise UsageError(
                    f"{self.name} measures {width}×{height} pixels, which fits no photo of "
                    f"{photo[1]}×{photo[0]}: draw the mask on such a photo."
                )
            whole = cv2.resize(self.white, photo[::-1], interpolation=cv2.INTER_NEAREST)
            part = crop(np.asarray(whole, np.uint8), (grid.x, grid.y, grid.width, grid.height))
        placed = grid.placement
        share = cv2.resize(part, (placed.width, placed.height), interpolation=cv2.INTER_AREA)
        ignored = np.zeros(size, np.bool_)  # padding counts, as it does without a mask
        ignored[placed.window] = np.asarray(share) < WHITE
        if ignored[placed.window].all():
            raise UsageError(f"{self.name} leaves nothing to judge; black is ignored, white is judged.")
        return ignored


def load_mask(mask: NDArray[Any] | str | os.PathLike[str]) -> Mask:
    """Take a mask from an image file, or from an array (h, w), bool or uint8.

    Raises UsageError for a file that is no image, an array of another type or shape, and a mask without white.
    """
    if isinstance(mask, (str, os.PathLike)):
        name = f"The mask {mask}"
        try:
            content = read_encoded(mask)
            pixels: NDArray[Any] = _grey(decode_image(content, str(mask)))
            _refuse_transparent(content, str(mask))
        except ImageError as error:
            raise UsageError(f"{name} cannot be used. {error}") from error
    else:
        name, pixels = "The mask", mask
        if pixels.ndim != 2 or pixels.dtype not in (np.bool_, np.uint8) or pixels.size == 0:
            raise UsageError(
                f"A mask is an array (height, width) of bool or uint8, not {pixels.dtype} of shape {pixels.shape}."
            )
    counts = pixels if pixels.dtype == np.bool_ else pixels >= WHITE
    if not counts.any():
        raise UsageError(f"{name} is black all over, so nothing would be judged; black is ignored, white is judged.")
    return Mask(np.where(counts, np.uint8(255), np.uint8(0)), name)


def _refuse_transparent(content: bytes, name: str) -> None:
    """What was erased in a drawing program still has a colour, which nobody sees."""
    image = decode_unchanged(content, name)
    if image.ndim < 3 or image.shape[2] < 4:
        return
    opaque = 65535 if image.dtype == np.uint16 else 255
    if image[:, :, 3].min() < opaque:
        raise ImageError("It is transparent in places: make them black or white.")


def _grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    highest, lowest = image.max(axis=2), image.min(axis=2)
    if int((highest - lowest).max()) >= COLOUR:
        raise ImageError("It has colours; a mask is black and white.")
    return np.asarray(highest, np.uint8)
