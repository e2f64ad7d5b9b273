"""A picture of many photos for a person to look at: each with a second picture beside it, a title, and a reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.image.decode import read_image
from rstpm_edge.image.roi import Roi, crop
from rstpm_edge.outputs.drawing import (
    ANOMALOUS,
    BACKGROUND,
    FAINT,
    FONT,
    TEXT,
    Colour,
    Image,
    heat_colours,
    scaled,
    shortened,
    text_width,
)

COLUMNS = 3
PANEL = 250  # longest side of a photo in pixels; two of them stand side by side
GAP, MARGIN = 6, 16
ROOM = 2 * PANEL - 8  # for a line of text
LINE, LINES = 17, 4  # height of a line of text, and lines below a pair of pictures
SCALE = 0.42
CELLS = 60  # images on a sheet: more make a picture that nobody can open


@dataclass(frozen=True, eq=False)
class Cell:
    """One photo of a sheet: none, one or two pictures side by side, a title, and a text below it. A mark is a bar."""

    pictures: Sequence[Image]
    title: str
    text: str
    marked: bool


def draw_cells(title: str, cells: Sequence[Cell]) -> Image:
    """The sheet as (H, W, 3) uint8 RGB, its first `CELLS` cells."""
    rows = [cells[i : i + COLUMNS] for i in range(0, min(len(cells), CELLS), COLUMNS)]
    width = COLUMNS * (2 * PANEL + GAP) + (COLUMNS + 1) * MARGIN
    head = np.full((3 * LINE, width, 3), BACKGROUND, np.uint8)
    left_out = f" (the first {CELLS} are shown)" if len(cells) > CELLS else ""
    _write(head, title + left_out, MARGIN, 2 * LINE, TEXT, width - 2 * MARGIN)
    return np.concatenate([head, *(_row(row, width) for row in rows)])


def encode(sheet: Image, extension: str) -> bytes:
    """A sheet as a file: `extension` is .png, .jpg or .jpeg."""
    return cv2.imencode(extension, cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1].tobytes()


def panel(path: Path, roi: Roi | None, bits: int) -> Image:
    """A photo, or its ROI, at the size of a sheet. Raises ImageError."""
    image = crop(read_image(path, bits=bits), roi, path)
    return scaled(image, PANEL / max(image.shape[:2]))


def coloured(photo: Image, level: NDArray[np.float32]) -> Image:
    """A photo (H, W, 3) under the colours of a map of any size, 0…1, that covers it: the higher, the more."""
    height, width = photo.shape[:2]
    large = np.clip(cv2.resize(level, (width, height), interpolation=cv2.INTER_LINEAR), 0, 1)
    alpha = 0.5 * np.clip(4 * large, 0, 1)[..., None]
    mixed: Image = (photo * (1 - alpha) + heat_colours(np.asarray(large, np.float32)) * alpha + 0.5).astype(np.uint8)
    return mixed


def _row(cells: Sequence[Cell], width: int) -> Image:
    pairs = [_pair(cell) for cell in cells]
    height = max(pair.shape[0] for pair in pairs)
    row = np.full((height + (LINES + 1) * LINE + MARGIN, width, 3), BACKGROUND, np.uint8)
    for column, (cell, pair) in enumerate(zip(cells, pairs, strict=True)):
        left = MARGIN + column * (2 * PANEL + GAP + MARGIN)
        row[: pair.shape[0], left : left + pair.shape[1]] = pair
        top = height + LINE
        if cell.marked:
            cv2.rectangle(row, (left, top - LINE + 6), (left + 3, top + 3), ANOMALOUS, -1)
        _write(row, cell.title, left + 8, top, TEXT)
        for line, text in enumerate(_wrapped(cell.text, LINES - 1), start=1):
            _write(row, text, left + 8, top + line * LINE, FAINT)
    return row


def _pair(cell: Cell) -> Image:
    if not cell.pictures:
        return np.full((2 * LINE, PANEL, 3), BACKGROUND, np.uint8)
    height = max(picture.shape[0] for picture in cell.pictures)
    pair = np.full((height, 2 * PANEL + GAP, 3), BACKGROUND, np.uint8)
    for place, picture in enumerate(cell.pictures):
        left = place * (PANEL + GAP)
        pair[: picture.shape[0], left : left + picture.shape[1]] = picture
    return pair


def _wrapped(text: str, most: int) -> list[str]:
    """The words of `text` in lines that fit below a pair of pictures; what does not fit into `most` is left out."""
    lines: list[str] = []
    for word in text.split():
        if lines and text_width(f"{lines[-1]} {word}", SCALE) <= ROOM:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines if len(lines) <= most else [*lines[: most - 1], lines[most - 1] + " ..."]


def _write(canvas: Image, text: str, x: int, y: int, colour: Colour, room: int = ROOM) -> None:
    cv2.putText(canvas, shortened(text, room, SCALE), (x, y), FONT, SCALE, colour, 1, cv2.LINE_AA)
