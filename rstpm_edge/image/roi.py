"""The part of a photo that is judged: a rectangle, in pixels of the photo."""

import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from rstpm_edge.errors import ImageError, UsageError

if TYPE_CHECKING:  # reading a model's document takes no NumPy
    from numpy.typing import NDArray

Roi: TypeAlias = tuple[int, int, int, int]  # x, y, width, height
ROI_FORM = "x,y,width,height in pixels of the photo, such as 100,50,640,480"


def check_roi(roi: Iterable[Any]) -> Roi:
    """`roi` as a tuple of four integers. Raises UsageError when it is no rectangle of at least one pixel."""
    values = tuple(roi)
    try:
        x, y, width, height = map(operator.index, values)
    except (TypeError, ValueError) as error:
        raise UsageError(f"A ROI is {ROI_FORM}, not {values}.") from error
    if min(x, y) < 0 or min(width, height) < 1:
        raise UsageError(f"A ROI is {ROI_FORM}; its corner lies in the photo, and it is not empty: not {values}.")
    return x, y, width, height


def scaled_roi(roi: Roi, drawn_on: tuple[int, int], size: tuple[int, int]) -> Roi | None:
    """The same part of a photo of `size` that `roi` is of one of size `drawn_on`, each (height, width).

    None where the sizes have not the same shape, to a pixel.
    """
    (before_height, before_width), (height, width) = drawn_on, size
    if abs(width * before_height - height * before_width) > max(*drawn_on, *size):
        return None
    x, y, roi_width, roi_height = roi
    left, right = (round(edge * width / before_width) for edge in (x, x + roi_width))
    top, bottom = (round(edge * height / before_height) for edge in (y, y + roi_height))
    left, top = min(left, width - 1), min(top, height - 1)
    return left, top, max(min(right, width) - left, 1), max(min(bottom, height) - top, 1)


def crop(image: "NDArray[Any]", roi: Roi | None, name: object = "the image") -> "NDArray[Any]":
    """A view of `image` (H, W, …) in the ROI; all of it for None. Raises ImageError where the ROI reaches beyond it."""
    if roi is None:
        return image
    x, y, width, height = roi
    if image.ndim < 2 or y + height > image.shape[0] or x + width > image.shape[1]:
        size = f"{image.shape[1]}×{image.shape[0]} pixels" if image.ndim > 1 else f"the shape {image.shape}"
        raise ImageError(f"The ROI {','.join(map(str, roi))} reaches beyond {name}, which has {size}.")
    return image[y : y + height, x : x + width]
