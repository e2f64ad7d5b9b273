"""Reading an image: from a file, or from what a file would hold."""

import os
import stat
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.errors import ImageError
from rstpm_edge.image.file_checks import HEAD, check_encoded, check_length, format_of
from rstpm_edge.image.formats import jpeg, tiff
from rstpm_edge.image.formats.problem import DAMAGED, Problem
from rstpm_edge.image.preprocess import Channels, check_array, eight_bits, to_rgb

Encoded = bytes | bytearray | memoryview
AS_STORED = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH


def read_image(path: str | os.PathLike[str], *, channels: Channels = "rgb", bits: int = 16) -> NDArray[np.uint8]:
    """Read an image file as (H, W, 3) uint8, its channels in the order asked for.

    As `read_stored`, but 16-bit values are scaled from 0 to 2^`bits` - 1 to 0…255: see `preprocess.eight_bits`.
    """
    return decode_image(read_encoded(path), str(path), channels=channels, bits=bits)


def read_stored(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read an image file as (H, W, 3), BGR, uint8 or uint16, with the values that the file holds.

    As `decode_stored`. Raises ImageError also for what is missing or no regular file.
    """
    return decode_stored(read_encoded(path), str(path))


def decode_image(
    content: Encoded, name: str = "the image", *, channels: Channels = "rgb", bits: int = 16
) -> NDArray[np.uint8]:
    """Decode what an image file holds, as `read_image` does. `name` is for messages."""
    image = decode_stored(content, name)
    return to_rgb(image, "bgr", name, bits) if channels == "rgb" else eight_bits(image, name, bits)


def decode_stored(content: Encoded, name: str = "the image") -> NDArray[Any]:
    """Decode a PNG, JPEG, BMP, TIFF, WebP, PNM or JPEG 2000 image as (H, W, 3), BGR, uint8 or uint16.

    EXIF orientation is applied; grey becomes three equal channels; alpha is dropped. Of a TIFF file with several
    pages the one is taken that is not marked as a reduced one or a mask.

    Raises ImageError for content that is no image, truncated or damaged (whatever the decoder warns of counts),
    animated, of several pages, or larger than 268 megapixels. `name` is for messages.
    """
    try:
        image = _decode(bytes(content), AS_STORED)
    except Problem as problem:
        raise ImageError(f"Cannot read {name}: {problem}.") from problem
    check_array(image, name)  # of floats, say
    return image


def decode_unchanged(content: Encoded, name: str = "the image") -> NDArray[Any]:
    """As `decode_stored`, but with the channels that the content has, alpha too: (H, W) or (H, W, C)."""
    try:
        return _decode(bytes(content), cv2.IMREAD_UNCHANGED)
    except Problem as problem:
        raise ImageError(f"Cannot read {name}: {problem}.") from problem


def read_encoded(path: str | os.PathLike[str]) -> bytes:
    """Read an image file without decoding it: a regular file that begins as an image does, and is not too long.

    Raises ImageError for anything else. A pipe or a device neither blocks nor is read.
    """
    try:
        # Without O_NONBLOCK, opening a pipe waits for somebody to write to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with open(descriptor, "rb", buffering=0) as file:
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                raise ImageError(f"Cannot read {path}: Is a directory.")
            if not stat.S_ISREG(status.st_mode):
                raise ImageError(f"Cannot read {path}: it is not a regular file.")
            head = file.read(HEAD)
            check_length(head, status.st_size)
            rest = bytearray()
            while len(head) + len(rest) < status.st_size:  # a file may shrink, or grow, as it is read
                part = file.read(status.st_size - len(head) - len(rest))
                if not part:
                    break
                rest += part
    except Problem as problem:
        raise ImageError(f"Cannot read {path}: {problem}.") from problem
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "the name has a null byte"
        raise ImageError(f"Cannot read {path}: {reason}.") from error
    return b"".join((head, rest))


def _decode(content: bytes, flags: int) -> NDArray[Any]:
    width, height = check_encoded(content)
    image: NDArray[Any] | None = None
    module = format_of(content)
    if module is jpeg:
        image = jpeg.decode(content)
    elif module is tiff:
        content = tiff.only_the_picture(content)
    if image is None:
        try:
            image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
        except cv2.error as error:
            raise Problem(error.err.strip() or "it cannot be decoded") from error
    if image is None:
        raise Problem("it is damaged, or of a kind that OpenCV does not decode")
    if sorted(image.shape[:2]) != sorted((width, height)):
        raise Problem(DAMAGED)
    return image
