"""A photo with a grid of pixel numbers over it, from which a ROI can be read."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.image.grid import Grid
from rstpm_edge.image.mask import Mask
from rstpm_edge.image.placement import Placement
from rstpm_edge.image.roi import Roi, crop
from rstpm_edge.outputs.drawing import scaled_size

SMALLEST, LARGEST = 900, 1600  # pixels that the photo's longer side is brought to, where it is smaller or larger
MARGIN, FOOTER = 52, 34  # pixels around the photo, for numbers
APART, CLOSER = 56, 24  # pixels between two lines at least: numbers of five digits fit; in the height of a low photo
BACKGROUND, TEXT = (30, 26, 24), (240, 240, 240)  # BGR, as everything here
ROI_COLOUR, IGNORED = (0, 94, 213), (213, 0, 170)  # vermilion, violet
MARK, HEAD = b"rstpm-edge roi", 128  # in the file, and among so many bytes
FONT, SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.44


def encode_roi_picture(drawn: NDArray[np.uint8], suffix: str) -> bytes:
    """What `draw_grid` gave, as a file of this kind (.png, .jpg, .jpeg) with a mark for `is_roi_picture`."""
    content = cv2.imencode(suffix, drawn)[1].tobytes()
    if suffix.lower() == ".png":  # a text chunk behind the first one, which is 25 bytes long, as is the signature 8
        chunk = b"tEXt" + b"Software\0" + MARK
        place, added = 33, struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    else:  # a comment behind the first segment, JFIF's
        place, added = 4 + int.from_bytes(content[4:6], "big"), b"\xff\xfe" + struct.pack(">H", len(MARK) + 2) + MARK
    return content[:place] + added + content[place:]


def is_roi_picture(file: Path) -> bool:
    """Whether `file` is a picture that `encode_roi_picture` made; False for one that cannot be read."""
    try:
        if not file.is_file():
            return False
        with open(file, "rb") as opened:
            return MARK in opened.read(HEAD)
    except OSError:
        return False


def draw_grid(photo: NDArray[np.uint8], roi: Roi | None = None, mask: Mask | None = None) -> NDArray[np.uint8]:
    """`photo` (H, W, 3) BGR, scaled to a handy size, with lines at round numbers of its own pixels.

    With a ROI, what it leaves out is dark; what a mask ignores is hatched. Raises ImageError for a ROI that reaches
    beyond the photo, UsageError for a mask that does not fit.
    """
    height, width = photo.shape[:2]
    crop(photo, roi, "the photo")
    longest = max(height, width)
    scale = min(max(SMALLEST, min(longest, LARGEST)) / longest, 64.0)
    size = scaled_size(height, width, scale)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    shown = np.asarray(cv2.resize(photo, size, interpolation=method), np.uint8)
    if mask is not None:
        _hatch(shown, _ignored(mask, roi or (0, 0, width, height), (height, width)))
    if roi is not None:
        _darken(shown, roi, scale)
    columns, rows = _lines(width, scale, APART), _lines(height, scale, APART)
    if len(rows) < 4:
        rows = _lines(height, scale, CLOSER)
    _draw_lines(shown, [round(x * scale) for x in columns], [round(y * scale) for y in rows])
    if roi is not None:
        x, y, w, h = (round(value * scale) for value in roi)
        cv2.rectangle(shown, (x, y), (x + w - 1, y + h - 1), (255, 255, 255), 4)
        cv2.rectangle(shown, (x, y), (x + w - 1, y + h - 1), ROI_COLOUR, 2)
    text = f"{width}x{height} pixels" + (f";  --roi {','.join(map(str, roi))}" if roi else "")
    (needed, _), _ = cv2.getTextSize(text, FONT, SIZE, 1)
    canvas_width = max(size[0], needed) + 2 * MARGIN
    canvas = np.full((size[1] + 2 * MARGIN + FOOTER, canvas_width, 3), BACKGROUND, np.uint8)
    canvas[MARGIN : MARGIN + size[1], MARGIN : MARGIN + size[0]] = shown
    for x in columns:
        for y in (MARGIN - 14, MARGIN + size[1] + 14):
            _write(canvas, str(x), MARGIN + round(x * scale), y, align=0.5)
    for y in rows:
        _write(canvas, str(y), MARGIN - 8, MARGIN + round(y * scale), align=1)
        _write(canvas, str(y), MARGIN + size[0] + 8, MARGIN + round(y * scale), align=0)
    _write(canvas, text, MARGIN, MARGIN + size[1] + MARGIN + FOOTER // 2 - 8, align=0)
    return canvas


def _lines(length: int, scale: float, apart: int) -> list[int]:
    """Where lines lie: at multiples of 1, 2 or 5 times a power of ten that are far enough apart."""
    power = 1
    while True:
        for step in (power, 2 * power, 5 * power):
            if step * scale >= apart or step >= length:
                return list(range(0, length + 1, step))
        power *= 10


def _draw_lines(image: NDArray[np.uint8], columns: list[int], rows: list[int]) -> None:
    """Thin lines, white beside black, so that they can be seen on anything and hide little."""
    for offset, colour in ((0, 255), (1, 0)):
        for x in columns:
            _blend(image[:, x + offset : x + offset + 1], colour)
        for y in rows:
            _blend(image[y + offset : y + offset + 1], colour)


def _blend(part: NDArray[np.uint8], colour: int) -> None:
    part[...] = (0.55 * part + 0.45 * colour).astype(np.uint8)


def _darken(image: NDArray[np.uint8], roi: Roi, scale: float) -> None:
    x, y, w, h = (round(value * scale) for value in roi)
    inside = image[y : y + h, x : x + w].copy()
    image[...] = (0.35 * image).astype(np.uint8)
    image[y : y + h, x : x + w] = inside


def _ignored(mask: Mask, roi: Roi, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels of a photo of `size` (H, W) that the mask ignores."""
    x, y, width, height = roi
    grid = Grid(Placement(0, 0, height, width), height, width, x, y, size)
    ignored = np.zeros(size, np.bool_)
    ignored[y : y + height, x : x + width] = mask.ignored(grid, (height, width))
    return ignored


def _hatch(image: NDArray[np.uint8], ignored: NDArray[np.bool_]) -> None:
    height, width = image.shape[:2]
    there = cv2.resize(ignored.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
    stripes = (np.add.outer(np.arange(height), np.arange(width)) % 14) < 5
    image[there] = (0.5 * image[there]).astype(np.uint8)
    image[there & stripes] = IGNORED
    contours, _ = cv2.findContours(there.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(image, contours, -1, IGNORED, 2)


def _write(canvas: NDArray[np.uint8], text: str, x: int, y: int, *, align: float) -> None:
    """Text that stands at `x` with the share `align` of its width left of it, and in the middle of `y`."""
    (width, height), _ = cv2.getTextSize(text, FONT, SIZE, 1)
    origin = (round(x - align * width), y + height // 2)
    cv2.putText(canvas, text, origin, FONT, SIZE, TEXT, 1, cv2.LINE_AA)
