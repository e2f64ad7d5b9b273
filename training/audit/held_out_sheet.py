"""The contact sheet of the highest held-out photos, for a person to look at."""

import numpy as np

from rstpm_edge.outputs.drawing import Image

from .held_out import Candidate, HeldOut
from .sheet import Cell, coloured, draw_cells, panel


def draw_held_out(held: HeldOut) -> Image:
    """The contact sheet of the candidates, (H, W, 3) uint8 RGB: each photo, and beside it what the map shows.

    Colours begin at the score of a typical good photo, and their middle is the threshold. Raises ImageError.
    """
    calibration = held.as_trained.calibration
    typical, threshold = calibration.median, calibration.threshold
    cells = []
    for one in held.candidates:
        photo = panel(one.path, held.config.roi, held.config.bits)
        inside = one.anomaly_map[one.placement.window]
        level = 0.5 * (inside - typical) / max(threshold - typical, 1e-6)
        title = f"{one.rank}.  {one.name}  (score {one.score:.4g})"
        pictures = (photo, coloured(photo, np.asarray(level, np.float32)))
        cells.append(Cell(pictures, title, state(held, one), one.score >= threshold))
    title = (
        f"The {len(cells)} highest of {len(held.config.holdout)} held-out photos, threshold {threshold:.4g}. Drop "
        "those that show a defect, and none that are merely odd."
    )
    return draw_cells(title, cells)


def state(held: HeldOut, one: Candidate) -> str:
    """Where a photo lies, in words."""
    threshold = held.as_trained.calibration.threshold
    tolerance = 1e-4 * max(abs(threshold), 1)  # computed again, on another machine perhaps
    if abs(one.score - threshold) <= tolerance:
        place = "sets the threshold"
    else:
        place = "above the threshold" if one.score > threshold else "below the threshold"
    return f"{place}; dropped as defective" if one.dropped else place
