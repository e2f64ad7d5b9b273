"""Reading an image file."""

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.errors import ImageError
from rstpm_edge.image.file_checks import problem_in_file
from rstpm_edge.image.preprocess import Channels, eight_bits, to_rgb


def read_image(path: str | os.PathLike[str], *, channels: Channels = "rgb") -> NDArray[np.uint8]:
    """Read a PNG, JPEG, BMP or TIFF file as (H, W, 3) uint8, its channels in the order asked for.

    EXIF orientation is applied; grey becomes three equal channels; alpha is dropped; 16-bit values are scaled
    from 0…65535 to 0…255.

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
    name = str(path)
    return to_rgb(image, "bgr", name) if channels == "rgb" else eight_bits(image, name)
