"""The colours of an image in a few figures, by which photos of one station resemble each other."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.image.input_profile import QUARTERS, InputProfile

STEP = 4  # every fourth pixel of every fourth row says as much
IN_COLOUR = 5.0  # a chroma that a grey product does not have
CLEARLY = 5.0  # deviations from what is usual, and a third of it with red and blue exchanged


@dataclass(frozen=True)
class Colours:
    """Figures in grey levels: see `InputProfile`."""

    brightness: float
    chroma: float
    tint: tuple[float, ...]


def measure_colours(image: NDArray[np.uint8]) -> Colours:
    """The figures of an image (H, W, 3), RGB, which may be the window of a model's input."""
    some = _some(image)
    pixels = some.astype(np.int16)
    grey = pixels.sum(axis=1)  # the same, however red and blue are ordered
    red_less_blue = pixels[:, 0] - pixels[:, 2]
    order = np.argsort(grey, kind="stable")
    quarters = (red_less_blue[part] for part in np.array_split(order, QUARTERS))
    return Colours(
        brightness=float(grey.mean()) / 3,
        chroma=float(_chroma(some).mean()),
        tint=tuple(float(quarter.mean()) if quarter.size else 0.0 for quarter in quarters),
    )


def share_in_colour(image: NDArray[np.uint8]) -> float:
    """The share of pixels of an image (H, W, 3), 0…1, that a grey product does not have."""
    return float((_chroma(_some(image)) > IN_COLOUR).mean())


def looks_exchanged(tint: tuple[float, ...], profile: InputProfile) -> bool:
    """Whether an image of this tint resembles what was learned from only with red and blue exchanged."""
    given, usual, deviation = np.array(tint), np.array(profile.tint), np.maximum(profile.tint_std, 1.0)
    as_given, exchanged = (float(np.sqrt(np.mean(((t - usual) / deviation) ** 2))) for t in (given, -given))
    return as_given > CLEARLY and exchanged < as_given / 3


def _some(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Evenly spread pixels of an image, (N, 3)."""
    first_row, first_column = (min(side - 1, STEP) // 2 for side in image.shape[:2])
    return image[first_row::STEP, first_column::STEP].reshape(-1, 3)


def _chroma(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    red, green, blue = pixels.T  # a tenth of the time of a maximum over rows of three
    highest, lowest = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    return np.asarray(highest - lowest)
