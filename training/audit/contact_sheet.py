"""One picture of all the images that an audit named: each photo, what is unusual about it, and the reason."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from rstpm_edge.errors import ImageError
from rstpm_edge.image.decode import read_image
from rstpm_edge.image.roi import crop
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

from .audit import Audit, Named
from .outliers import CELL

COLUMNS = 3
PANEL = 250  # longest side of a photo in pixels; two of them stand side by side
GAP, MARGIN = 6, 16
ROOM = 2 * PANEL - 8  # for a line of text
LINE, LINES = 17, 4  # height of a line of text, and lines below a pair of pictures
SCALE = 0.42
CELLS = 60  # images on a sheet: more make a picture that nobody can open
LOW, HIGH = 1.0, 6.0  # deviations at which the colours begin and end


def draw_sheet(audit: Audit) -> Image:
    """The sheet as (H, W, 3) uint8 RGB; images that cannot be read have their reason only."""
    shown = audit.named[:CELLS]
    rows = [shown[i : i + COLUMNS] for i in range(0, len(shown), COLUMNS)]
    width = COLUMNS * (2 * PANEL + GAP) + (COLUMNS + 1) * MARGIN
    title = np.full((3 * LINE, width, 3), BACKGROUND, np.uint8)
    left_out = f" (the first {CELLS} are shown)" if len(audit.named) > CELLS else ""
    _write(title, f"{len(audit.named)} of {audit.images} images to look at{left_out}", MARGIN, 2 * LINE, TEXT)
    return np.concatenate([title, *(_row(audit, row, width) for row in rows)])


def encode_sheet(audit: Audit, extension: str) -> bytes:
    """`draw_sheet` as a file: `extension` is .png, .jpg or .jpeg."""
    return cv2.imencode(extension, cv2.cvtColor(draw_sheet(audit), cv2.COLOR_RGB2BGR))[1].tobytes()


def _row(audit: Audit, named: Sequence[Named], width: int) -> Image:
    pairs = [_pair(audit, one) for one in named]
    height = max(pair.shape[0] for pair in pairs)
    row = np.full((height + (LINES + 1) * LINE + MARGIN, width, 3), BACKGROUND, np.uint8)
    for column, (one, pair) in enumerate(zip(named, pairs, strict=True)):
        left = MARGIN + column * (2 * PANEL + GAP + MARGIN)
        row[: pair.shape[0], left : left + pair.shape[1]] = pair
        top = height + LINE
        if one.suspicious:
            cv2.rectangle(row, (left, top - LINE + 6), (left + 3, top + 3), ANOMALOUS, -1)
        place = "" if one.rank is None else f"{one.rank}.  "
        score = "" if one.score is None else f"  (score {one.score:.2f})"
        _write(row, f"{place}{one.path.name}{score}", left + 8, top, TEXT)
        for line, text in enumerate(_wrapped("; ".join(remark.text for remark in one.remarks), LINES - 1), start=1):
            _write(row, text, left + 8, top + line * LINE, FAINT)
    return row


def _pair(audit: Audit, named: Named) -> Image:
    """The photo, and beside it where it is unusual, or the photo of which it is a copy."""
    try:
        photo = _panel(named.path, audit)
        if named.twin is not None:
            second = _panel(named.twin, audit)
        elif named.row is not None and audit.ranking is not None:
            second = _marked(audit, named.row, photo)
        else:
            return photo
    except ImageError:
        return np.full((2 * LINE, PANEL, 3), BACKGROUND, np.uint8)
    pair = np.full((max(photo.shape[0], second.shape[0]), 2 * PANEL + GAP, 3), BACKGROUND, np.uint8)
    pair[: photo.shape[0], : photo.shape[1]] = photo
    pair[: second.shape[0], PANEL + GAP : PANEL + GAP + second.shape[1]] = second
    return pair


def _marked(audit: Audit, row: int, photo: Image) -> Image:
    """The photo under the colours of its map, and a box around the most unusual place."""
    assert audit.ranking is not None
    places, inside = audit.ranking.maps[row], audit.photos[row].grid.placement
    height, width = photo.shape[:2]
    whole = cv2.resize(places, audit.size[::-1], interpolation=cv2.INTER_LINEAR)[inside.window]
    level = np.clip((cv2.resize(whole, (width, height), interpolation=cv2.INTER_LINEAR) - LOW) / (HIGH - LOW), 0, 1)
    alpha = 0.5 * np.clip(4 * level, 0, 1)[..., None]
    marked: Image = (photo * (1 - alpha) + heat_colours(np.asarray(level, np.float32)) * alpha + 0.5).astype(np.uint8)
    worst = np.unravel_index(int(places.argmax()), places.shape)
    across, down = width / inside.width, height / inside.height
    left, top = (int(worst[1]) * CELL - inside.left) * across, (int(worst[0]) * CELL - inside.top) * down
    corner = (max(round(left), 1), max(round(top), 1))
    opposite = (min(round(left + CELL * across), width - 2), min(round(top + CELL * down), height - 2))
    for colour, thickness in ((BACKGROUND, 3), (TEXT, 1)):  # a light line with a dark rim shows on any part
        cv2.rectangle(marked, corner, opposite, colour, thickness)
    return marked


def _panel(path: Path, audit: Audit) -> Image:
    image = crop(read_image(path, bits=audit.bits), audit.roi, path)
    return scaled(image, PANEL / max(image.shape[:2]))


def _wrapped(text: str, most: int) -> list[str]:
    """The words of `text` in lines that fit below a pair of pictures; what does not fit into `most` is left out."""
    lines: list[str] = []
    for word in text.split():
        if lines and text_width(f"{lines[-1]} {word}", SCALE) <= ROOM:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines if len(lines) <= most else [*lines[: most - 1], lines[most - 1] + " ..."]


def _write(canvas: Image, text: str, x: int, y: int, colour: Colour) -> None:
    cv2.putText(canvas, shortened(text, ROOM, SCALE), (x, y), FONT, SCALE, colour, 1, cv2.LINE_AA)
