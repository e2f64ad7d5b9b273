"""Reading images and bringing them to the model's input: the one path that training and runtime share."""

import os
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.bundle import ResizePolicy
from rstpm_edge.errors import ImageError
from rstpm_edge.native import _native

Channels = Literal["bgr", "rgb"]
EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
MAX_PIXELS = 1 << 28  # 268 megapixels: above any inspection camera, below what exhausts a small box's memory
MAX_SIDE = 1 << 23  # as csrc/rstpm_edge.h has it: sums over a row or column stay exact
THREADED_PIXELS = 1 << 20  # below it, a thread takes longer to start than it saves
PADDING = 127  # becomes zero, or nearly, after the teachers' own normalisation


@dataclass(frozen=True)
class Placement:
    """Where an image lies inside the model's input, in input pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the input that show the image."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


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
    problem = _problem_in_file(content)
    if problem:
        raise ImageError(f"Cannot read {path}: {problem}.")
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise ImageError(f"Cannot read {path}: {error.err.strip() or 'it cannot be decoded'}.") from error
    if image is None:
        raise ImageError(f"Cannot read {path}: it is damaged, or of a kind that OpenCV does not decode.")
    name = str(path)
    return to_rgb(image, "bgr", name) if channels == "rgb" else _eight_bits(image, name)


def find_images(folder: str | os.PathLike[str], *, recursive: bool = True) -> list[Path]:
    """Image files in a folder and (`recursive`) the folders below it, in natural order: 2.png before 10.png.

    Judged by their extension; hidden files and folders are left out. Raises ImageError where a folder cannot
    be listed.
    """
    found: list[Path] = []

    def give_up(error: OSError) -> None:
        raise ImageError(f"Cannot list the folder {error.filename}: {error.strerror}.") from error

    for parent, folders, names in os.walk(folder, onerror=give_up):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        found += [Path(parent, name) for name in names if is_image_name(name)]
    return sorted(found, key=natural_order)


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for an image: by its extension, unless it is hidden."""
    return Path(name).suffix.lower() in EXTENSIONS and not name.startswith(".")


def natural_order(path: Path) -> tuple[tuple[tuple[int, str, int], ...], ...]:
    """Sort key: 2.png before 10.png, and each folder's files together."""

    # Part by part. Numbers sort before text, and by value.
    def key(run: str) -> tuple[int, str, int]:
        return (0, "", int(run)) if run.isdecimal() else (1, run.lower(), 0)

    return tuple(tuple(key(run) for run in re.findall(r"\d+|\D+", part)) for part in path.parts)


def to_rgb(image: NDArray[Any], channels: Channels, name: str = "the image") -> NDArray[np.uint8]:
    """Convert an array to (H, W, 3) uint8 RGB.

    Taken: (H, W), (H, W, 1), (H, W, 3) and (H, W, 4), uint8 or uint16; `channels` says how three and four
    channels are ordered ("bgr" with four means BGRA). Alpha is dropped; uint16 is scaled from 0…65535 to
    0…255.

    Raises ImageError for anything else: other types are refused rather than guessed at.
    """
    image = np.ascontiguousarray(_eight_bits(image, name))
    depth = image.shape[2]
    if depth == 1:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), np.uint8)
    if channels == "bgr":
        code = cv2.COLOR_BGR2RGB if depth == 3 else cv2.COLOR_BGRA2RGB
        return np.asarray(cv2.cvtColor(image, code), np.uint8)
    return image if depth == 3 else np.asarray(cv2.cvtColor(image, cv2.COLOR_RGBA2RGB), np.uint8)


def to_input(
    image: NDArray[Any],
    size: tuple[int, int],
    policy: ResizePolicy,
    *,
    channels: Channels = "rgb",
    out: NDArray[np.uint8] | None = None,
    threads: int = 1,
    kernel: str | None = None,
) -> tuple[NDArray[np.uint8], Placement]:
    """Bring an image to the model's input: `size` (height, width), three channels, RGB.

    Takes what `to_rgb` takes, and raises ImageError as it does. Each input pixel is read once. Along an axis
    that shrinks, pixels are averaged, so that fine texture does not alias; along one that grows, they are
    interpolated. "stretch" fills the input and gives up the aspect ratio; "letterbox" keeps it, centred on grey.

    out: where to write, uint8 (height, width, 3) with contiguous rows; a new array if None.
    threads: how many may share the work on an image of a megapixel or more.
    kernel: which of `fusion.kernels().available` does it; by default the active one. The result depends on
        neither.
    """
    image = _eight_bits(image)
    if not image[0].flags.c_contiguous:
        image = np.ascontiguousarray(image)
    placement = _place(image.shape[0], image.shape[1], size, policy)
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


def _place(image_height: int, image_width: int, size: tuple[int, int], policy: ResizePolicy) -> Placement:
    height, width = size
    if policy == "stretch":
        return Placement(0, 0, height, width)
    scale = min(height / image_height, width / image_width)
    inner_height = min(max(round(image_height * scale), 1), height)
    inner_width = min(max(round(image_width * scale), 1), width)
    return Placement((height - inner_height) // 2, (width - inner_width) // 2, inner_height, inner_width)


def _eight_bits(image: NDArray[Any], name: str = "the image") -> NDArray[np.uint8]:
    """`image` as (H, W, C) uint8, if it is one that can be judged: see `to_rgb`."""
    if not isinstance(image, np.ndarray):
        raise ImageError(f"An image must be a NumPy array or a path, but {name} is {type(image).__name__}.")
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4):
        raise ImageError(f"An image must have shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), not {image.shape}.")
    height, width, _ = image.shape
    if not _possible(width, height):
        raise ImageError(f"Cannot judge {name}: it {_impossible(width, height)}.")
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.uint16:
        eight = cv2.convertScaleAbs(np.ascontiguousarray(image), alpha=255 / 65535)
        return np.asarray(eight, np.uint8).reshape(image.shape)
    raise ImageError(
        f"An image must be uint8 (0 to 255) or uint16 (0 to 65535), but {name} is {image.dtype}: convert it first."
    )


def _possible(width: int, height: int) -> bool:
    return min(width, height) >= 1 and max(width, height) <= MAX_SIDE and width * height <= MAX_PIXELS


def _impossible(width: int, height: int) -> str:
    if max(width, height) > MAX_SIDE and width * height <= MAX_PIXELS:
        return f"measures {width}×{height} pixels; at most {MAX_SIDE:,} in a row or column are possible"
    return f"measures {width}×{height} pixels; at least one and at most {MAX_PIXELS:,} in all are possible"


def _problem_in_file(content: bytes) -> str | None:
    """What is wrong with an encoded image, found before it is decoded.

    OpenCV before 5 pads a truncated file without a word, and every version allocates what a header asks for.
    """
    if not content:
        return "the file is empty"
    inspect = next((check for magic, check in _FORMATS.items() if content.startswith(magic)), None)
    if inspect is None:
        return "it is not a PNG, JPEG, BMP or TIFF image"
    try:
        (width, height), whole = inspect(content)
    except struct.error:
        return "the file is truncated; copy it again"
    if not _possible(width, height):
        return f"it {_impossible(width, height)}"
    return None if whole else "the file is truncated or damaged; copy it again"


# Each takes an encoded image and gives its (width, height) and whether it is all there. One that ends inside
# its header raises struct.error.


def _inspect_png(content: bytes) -> tuple[tuple[int, int], bool]:
    size = struct.unpack_from(">II", content, 16)
    view, position = memoryview(content), 8
    while position + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 8 + length
        if end + 4 > len(content):
            break
        if zlib.crc32(view[position + 4 : end]) != struct.unpack_from(">I", content, end)[0]:
            break
        if kind == b"IEND":
            return size, True
        position = end + 4
    return size, False


def _inspect_jpeg(content: bytes) -> tuple[tuple[int, int], bool]:
    position = 2
    while True:
        fill, marker, length = struct.unpack_from(">BBH", content, position)
        if fill != 0xFF:
            raise struct.error("no marker where one must stand")
        if marker == 0xFF:  # any number of fill bytes may come before a marker
            position += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            height, width = struct.unpack_from(">HH", content, position + 5)
            # Behind the frame header, since the thumbnail in front of it has an end mark of its own.
            return (width, height), content.find(b"\xff\xd9", position) >= 0
        else:
            position += 2 + length


def _inspect_bmp(content: bytes) -> tuple[tuple[int, int], bool]:
    pixels_at, header_size = struct.unpack_from("<II", content, 10)
    if header_size == 12:  # OS/2 and Windows 2
        width, height, _, depth = struct.unpack_from("<HHHH", content, 18)
        compression = 0
    else:
        width, height, _, depth, compression = struct.unpack_from("<iiHHI", content, 18)
    height = abs(height)  # negative where the rows run from the top
    # Run-length encoded rows (1 and 2) have no length to check. The file size in the header is often wrong.
    stored = 0 if compression in (1, 2) else (width * depth + 31) // 32 * 4 * height
    return (width, height), len(content) > pixels_at and len(content) >= pixels_at + stored


def _inspect_tiff(content: bytes) -> tuple[tuple[int, int], bool]:
    order = "<" if content.startswith(b"II") else ">"
    (directory,) = struct.unpack_from(order + "I", content, 4)
    (entries,) = struct.unpack_from(order + "H", content, directory)
    size = {256: 0, 257: 0}  # the tags of width and height
    for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind = struct.unpack_from(order + "HH", content, entry)
        if tag in size:
            (size[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), content, entry + 8)
    return (size[256], size[257]), True  # the decoder itself notices missing strips


_FORMATS = {
    b"\x89PNG\r\n\x1a\n": _inspect_png,
    b"\xff\xd8\xff": _inspect_jpeg,
    b"BM": _inspect_bmp,
    b"II*\0": _inspect_tiff,
    b"MM\0*": _inspect_tiff,
}
