"""Reading an image file."""

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.errors import ImageError
from rstpm_edge.image.file_checks import problem_in_file
from rstpm_edge.image.preprocess import Channels, check_array, eight_bits, to_rgb


def read_image(path: str | os.PathLike[str], *, channels: Channels = "rgb", bits: int = 16) -> NDArray[np.uint8]:
    """Read a PNG, JPEG, BMP or TIFF file as (H, W, 3) uint8, its channels in the order asked for.

    As `read_stored`, but 16-bit values are scaled from 0 to 2^`bits` - 1 to 0…255: see `preprocess.eight_bits`.
    """
    image, name = read_stored(path), str(path)
    return to_rgb(image, "bgr", name, bits) if channels == "rgb" else eight_bits(image, name, bits)


def read_stored(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read a PNG, JPEG, BMP or TIFF file as (H, W, 3), BGR, uint8 or uint16, with the values that the file holds.

    EXIF orientation is applied; grey becomes three equal channels; alpha is dropped.

    Raises ImageError for a file that is missing, no image, truncated, or larger than 268 megapixels.
    """
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise ImageError(f"Cannot read {path}: {reason}.") from error
    problem = problem_in_file(content)
    if problem:
        raise ImageError(f"Cannot read {path}: {problem}.")
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise ImageError(f"Cannot read {path}: {error.err.strip() or 'it cannot be decoded'}.") from error
    if image is None:
        raise ImageError(f"Cannot read {path}: it is damaged, or of a kind that OpenCV does not decode.")
    check_array(image, str(path))  # of floats, say
    return image
