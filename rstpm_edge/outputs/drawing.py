"""What pictures for people are drawn with: colours, sizes, and text in OpenCV's font."""

import unicodedata
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.uint8]  # (H, W, 3) RGB
Colour: TypeAlias = tuple[int, int, int]

BACKGROUND, TEXT, FAINT = (24, 26, 30), (240, 240, 240), (165, 170, 178)
# Vermilion, bluish green and reddish purple stay apart for colour-blind eyes; the badges differ in shape as well.
ANOMALOUS, NORMAL, INVALID = (213, 94, 0), (0, 158, 115), (204, 121, 167)
FONT = cv2.FONT_HERSHEY_SIMPLEX
LARGE, MEDIUM, SMALL = 0.75, 0.45, 0.38


def scaled(image: Image, scale: float) -> Image:
    """`image` (H, W, 3) uint8, so many times as large, and a pixel each way at least."""
    size = scaled_size(image.shape[0], image.shape[1], scale)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)


def scaled_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """(width, height) of `scaled`."""
    return max(round(width * scale), 1), max(round(height * scale), 1)


def heat_colours(level: NDArray[np.float32]) -> Image:
    """Levels (H, W) in 0…1 as colours (H, W, 3): dark blue, red, yellow."""
    coloured = cv2.applyColorMap((level * 255).astype(np.uint8), cv2.COLORMAP_PLASMA)
    return np.asarray(cv2.cvtColor(coloured, cv2.COLOR_BGR2RGB), np.uint8)


def drawable(text: str) -> str:
    """`text` in ASCII, since OpenCV's fonts know no more: letters without their accents, a "?" for any other sign."""
    letters = unicodedata.normalize("NFKD", text.replace("×", "x").replace("ß", "ss"))
    return "".join(sign for sign in letters if not unicodedata.combining(sign)).encode("ascii", "replace").decode()


def text_width(text: str, scale: float, thickness: int = 1) -> int:
    """Pixels."""
    return int(cv2.getTextSize(text, FONT, scale, thickness)[0][0])


def shortened(text: str, room: int, scale: float, thickness: int = 1) -> str:
    """`text` as it can be drawn into `room` pixels: its end, since that tells more of a file name than its start."""
    text = drawable(text)
    if text_width(text, scale, thickness) <= room:
        return text
    while len(text) > 1 and text_width("..." + text, scale, thickness) > room:
        text = text[1:]
    return "..." + text
