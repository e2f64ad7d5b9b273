"""One picture of all the images that an audit named: each photo, what is unusual about it, and the reason."""

from collections.abc import Sequence

import cv2
import numpy as np

from rstpm_edge.errors import ImageError
from rstpm_edge.outputs.drawing import BACKGROUND, TEXT, Image

from .audit import Audit, Named
from .outliers import CELL
from .sheet import CELLS, Cell, coloured, draw_cells, encode, panel

LOW, HIGH = 1.0, 6.0  # deviations at which the colours begin and end


def draw_sheet(audit: Audit) -> Image:
    """The sheet as (H, W, 3) uint8 RGB; images that cannot be read have their reason only."""
    cells = [_cell(audit, one) if i < CELLS else Cell((), "", "", False) for i, one in enumerate(audit.named)]
    return draw_cells(f"{len(audit.named)} of {audit.images} images to look at", cells)


def encode_sheet(audit: Audit, extension: str) -> bytes:
    """`draw_sheet` as a file: `extension` is .png, .jpg or .jpeg."""
    return encode(draw_sheet(audit), extension)


def _cell(audit: Audit, one: Named) -> Cell:
    place = "" if one.rank is None else f"{one.rank}.  "
    score = "" if one.score is None else f"  (score {one.score:.2f})"
    reasons = "; ".join(remark.text for remark in one.remarks)
    return Cell(_pictures(audit, one), f"{place}{audit.name(one.path)}{score}", reasons, one.suspicious)


def _pictures(audit: Audit, named: Named) -> Sequence[Image]:
    """The photo, and beside it where it is unusual, or the photo of which it is a copy."""
    try:
        photo = panel(named.path, audit.roi, audit.bits)
        if named.twin is not None:
            return photo, panel(named.twin, audit.roi, audit.bits)
    except ImageError:
        return ()
    if named.row is not None and audit.ranking is not None:
        return photo, _marked(audit, named.row, photo)
    return (photo,)


def _marked(audit: Audit, row: int, photo: Image) -> Image:
    """The photo under the colours of its map, and a box around the most unusual place."""
    assert audit.ranking is not None
    places, inside = audit.ranking.maps[row], audit.photos[row].grid.placement
    height, width = photo.shape[:2]
    whole = cv2.resize(places, audit.size[::-1], interpolation=cv2.INTER_LINEAR)[inside.window]
    marked = coloured(photo, np.asarray((whole - LOW) / (HIGH - LOW), np.float32))
    worst = np.unravel_index(int(places.argmax()), places.shape)
    across, down = width / inside.width, height / inside.height
    left, top = (int(worst[1]) * CELL - inside.left) * across, (int(worst[0]) * CELL - inside.top) * down
    corner = (max(round(left), 1), max(round(top), 1))
    opposite = (min(round(left + CELL * across), width - 2), min(round(top + CELL * down), height - 2))
    for colour, thickness in ((BACKGROUND, 3), (TEXT, 1)):  # a light line with a dark rim shows on any part
        cv2.rectangle(marked, corner, opposite, colour, thickness)
    return marked
