"""Bringing an array to the model's input."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.errors import ImageError
from rstpm_edge.image.file_sizes import impossible_size, is_possible_size
from rstpm_edge.image.grid import Grid
from rstpm_edge.image.placement import Placement, ResizePolicy, place
from rstpm_edge.image.roi import Roi, crop
from rstpm_edge.native import _native

Channels: TypeAlias = Literal["bgr", "rgb"]
THREADED_PIXELS = 1 << 20  # below it, a thread takes longer to start than it saves
PADDING = 127  # becomes zero, or nearly, after the teachers' own normalisation


def to_rgb(image: NDArray[Any], channels: Channels, name: str = "the image", bits: int = 16) -> NDArray[np.uint8]:
    """Convert an array to (H, W, 3) uint8 RGB.

    Taken: (H, W), (H, W, 1), (H, W, 3) and (H, W, 4), uint8 or uint16; `channels` says how three and four
    channels are ordered ("bgr" with four means BGRA). Alpha is dropped; uint16 is scaled as `eight_bits` does.

    Raises ImageError for anything else: other types are refused rather than guessed at.
    """
    return three_channels(eight_bits(image, name, bits), channels)


def three_channels(image: NDArray[Any], channels: Channels, name: str = "the image") -> NDArray[Any]:
    """`to_rgb` without the scaling: uint16 stays uint16."""
    image = np.ascontiguousarray(check_array(image, name))
    depth = image.shape[2]
    if depth == 1:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB))
    if channels == "bgr":
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB if depth == 3 else cv2.COLOR_BGRA2RGB))
    return image if depth == 3 else np.asarray(cv2.cvtColor(image, cv2.COLOR_RGBA2RGB))


def to_input(
    image: NDArray[Any],
    size: tuple[int, int],
    policy: ResizePolicy,
    *,
    channels: Channels = "rgb",
    out: NDArray[np.uint8] | None = None,
    threads: int = 1,
    kernel: str | None = None,
    bits: int = 16,
) -> tuple[NDArray[np.uint8], Placement]:
    """Bring an image to the model's input: `size` (height, width), three channels, RGB.

    Takes what `to_rgb` takes, and raises ImageError as it does. Each input pixel is read once. Along an axis
    that shrinks, pixels are averaged, so that fine texture does not alias; along one that grows, they are
    interpolated. "stretch" fills the input and gives up the aspect ratio; "letterbox" keeps it, centred on grey.

    out: where to write, uint8 (height, width, 3) with contiguous rows; a new array if None.
    threads: how many may share the work on an image of a megapixel or more.
    kernel: which of `fusion.kernels().available` does it; by default the active one. The result depends on
        neither.
    bits: the range of 16-bit values, as `eight_bits` takes it.
    """
    image = eight_bits(image, bits=bits)
    if not image[0].flags.c_contiguous:
        image = np.ascontiguousarray(image)
    placement = place(image.shape[0], image.shape[1], size, policy)
    if out is None:
        out = np.empty((*size, 3), np.uint8)
    window = out
    if (placement.height, placement.width) != size:
        out[...] = PADDING
        window = out[placement.window]
    if image.shape[0] * image.shape[1] < THREADED_PIXELS:
        threads = 1
    _native.resize(image, window, channels == "bgr", threads, kernel)
    return out, placement


@dataclass(frozen=True)
class InputFormat:
    """What a model takes: images of `size` (height, width), brought there by `resize`; `bits` is as in `eight_bits`."""

    size: tuple[int, int]
    resize: ResizePolicy
    bits: int = 16

    def prepare(
        self,
        photo: NDArray[Any],
        roi: Roi | None = None,
        name: object = "the image",
        *,
        channels: Channels = "rgb",
        out: NDArray[np.uint8] | None = None,
        threads: int = 1,
        kernel: str | None = None,
    ) -> tuple[NDArray[np.uint8], Grid]:
        """The input (H, W, 3) uint8 RGB for a photo, or for the part of it in `roi`, and how it lies on the photo.

        The other keywords are those of `to_input`. Raises ImageError as that does, and where the ROI reaches beyond the
        photo; `name` is for messages.
        """
        part = crop(photo, roi, name)
        row, placement = to_input(
            part, self.size, self.resize, channels=channels, out=out, threads=threads, kernel=kernel, bits=self.bits
        )
        x, y, *_ = roi or (0, 0)
        return row, Grid(placement, part.shape[0], part.shape[1], x, y, (photo.shape[0], photo.shape[1]))


def eight_bits(image: NDArray[Any], name: str = "the image", bits: int = 16) -> NDArray[np.uint8]:
    """`image` as (H, W, C) uint8, if it is one that can be judged: see `check_array`.

    uint16 is scaled from 0 to 2^`bits` - 1 to 0…255, and stops there; uint8 stays as it is.
    """
    image = check_array(image, name)
    if image.dtype == np.uint8:
        return image
    eight = cv2.convertScaleAbs(np.ascontiguousarray(image), alpha=255 / ((1 << bits) - 1))
    return np.asarray(eight, np.uint8).reshape(image.shape)


def check_array(image: NDArray[Any], name: str = "the image") -> NDArray[Any]:
    """`image` as (H, W, C). Raises ImageError where it is none that can be judged: see `to_rgb`."""
    if not isinstance(image, np.ndarray):
        raise ImageError(f"An image must be a NumPy array or a path, but {name} is {type(image).__name__}.")
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4):
        first = image.ndim == 3 and image.shape[0] in (1, 3, 4)
        how = " The channels seem to come first: give image.transpose(1, 2, 0)." if first else ""
        raise ImageError(f"An image must have shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), not {image.shape}.{how}")
    height, width, _ = image.shape
    if not is_possible_size(width, height):
        raise ImageError(f"Cannot judge {name}: it {impossible_size(width, height)}.")
    if image.dtype not in (np.uint8, np.uint16):
        how = " Where 1.0 is white: (255 * image).round().astype(numpy.uint8)." if image.dtype.kind == "f" else ""
        raise ImageError(
            f"An image must be uint8 (0 to 255) or uint16 (0 to 65535), but {name} is {image.dtype}: "
            f"convert it first.{how}"
        )
    return image
