"""The colours of an image in a few figures, by which photos of one station resemble each other."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.image.input_profile import QUARTERS

STEP = 4  # every fourth pixel of every fourth row says as much


@dataclass(frozen=True)
class Colours:
    """Figures in grey levels: see `InputProfile`."""

    brightness: float
    chroma: float
    tint: tuple[float, ...]


def measure_colours(image: NDArray[np.uint8]) -> Colours:
    """The figures of an image (H, W, 3), RGB, which may be the window of a model's input."""
    first_row, first_column = (min(side - 1, STEP) // 2 for side in image.shape[:2])
    pixels = image[first_row::STEP, first_column::STEP].reshape(-1, 3).astype(np.int16)
    grey = pixels.sum(axis=1)  # the same, however red and blue are ordered
    red_less_blue = pixels[:, 0] - pixels[:, 2]
    order = np.argsort(grey, kind="stable")
    quarters = (red_less_blue[part] for part in np.array_split(order, QUARTERS))
    return Colours(
        brightness=float(grey.mean()) / 3,
        chroma=float((pixels.max(axis=1) - pixels.min(axis=1)).mean()),
        tint=tuple(float(quarter.mean()) if quarter.size else 0.0 for quarter in quarters),
    )
