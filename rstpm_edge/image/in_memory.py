"""What users give as an image besides paths and arrays: pictures of PIL and encoded bytes; others are explained."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.errors import ImageError
from rstpm_edge.image.preprocess import Channels

PIL_MODES = ("L", "I;16", "RGB", "RGBA")  # the others hold colours in another way, or an alpha without them
ORIENTATION = 0x0112  # of EXIF


class Picture(Protocol):
    """A picture of PIL, which is not imported for it."""

    @property
    def mode(self) -> str:
        """How its pixels hold colours."""
        ...

    @property
    def __array_interface__(self) -> dict[str, Any]: ...


def as_array(image: Any, channels: Channels, name: str = "the image") -> tuple[NDArray[Any], Channels]:
    """`image` as an array, and the order of its channels: `channels` unless the image knows better.

    Raises ImageError for what is no image, saying how to make one of it.
    """
    if isinstance(image, np.ndarray):
        return image, channels
    kind = type(image)
    if isinstance(image, (bytes, bytearray, memoryview)):
        from rstpm_edge.image.decode import decode_stored

        return decode_stored(bytes(image), name), "bgr"
    if hasattr(image, "__array_interface__") and hasattr(image, "getexif") and isinstance(image.mode, str):
        return _of_pil(image, name), "rgb"
    if hasattr(image, "detach") and hasattr(image, "cpu"):
        raise ImageError(
            f"{_wanted(name, kind)} From a tensor (C, H, W) of 0 to 1, give "
            "(255 * tensor).round().byte().permute(1, 2, 0).cpu().numpy(), and say channels='rgb' if it is RGB."
        )
    if isinstance(image, (list, tuple)):
        raise ImageError(
            f"{_wanted(name, kind)} Give numpy.array(image, numpy.uint8), or several images to predict_batch."
        )
    if hasattr(image, "__array__"):
        raise ImageError(f"{_wanted(name, kind)} Give numpy.asarray(image), of uint8 or uint16.")
    raise ImageError(_wanted(name, kind))


def _wanted(name: str, kind: type) -> str:
    return f"An image must be a NumPy array or a path, but {name} is {kind.__name__}."


def _of_pil(image: Any, name: str) -> NDArray[Any]:
    if image.mode not in PIL_MODES:
        raise ImageError(f"Cannot judge {name}, a picture of PIL in the mode {image.mode}: give image.convert('RGB').")
    if image.getexif().get(ORIENTATION, 1) != 1:  # as files are turned, and these are not
        raise ImageError(
            f"Cannot judge {name}: its EXIF data say that it lies on its side; give PIL.ImageOps.exif_transpose(image)."
        )
    try:
        return np.asarray(image)
    except (OSError, ValueError, SyntaxError) as error:  # PIL decodes only now
        raise ImageError(f"Cannot read {name}: {error}.") from error
