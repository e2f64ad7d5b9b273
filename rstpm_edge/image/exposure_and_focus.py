"""How a photo was taken, in a few figures of the model's input: exposure, contrast, focus."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

WHITE, BLACK = 250, 5  # grey levels from which, and up to which, a pixel is burnt out or drowned


@dataclass(frozen=True)
class ExposureAndFocus:
    """Figures of one image in grey levels of 0…255.

    `brightness` is the mean, `contrast` the standard deviation. `white` and `black` are the shares, 0…1, of pixels
    that are burnt out or drowned. `detail` is the natural logarithm of the mean square of the Laplacian beside the
    square of the brightness, so that a longer exposure is no sharper photo; out of focus it falls.
    """

    brightness: float
    contrast: float
    white: float
    black: float
    detail: float


def measure_exposure_and_focus(image: NDArray[np.uint8]) -> ExposureAndFocus:
    """The figures of an image (H, W, 3), RGB, which may be the window of a model's input."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    (mean,), (deviation,) = (value[0] for value in cv2.meanStdDev(grey))
    levels = cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel() / grey.size
    energy = cv2.norm(cv2.Laplacian(grey, cv2.CV_16S), cv2.NORM_L2SQR) / grey.size
    return ExposureAndFocus(
        brightness=float(mean),
        contrast=float(deviation),
        white=float(levels[WHITE:].sum()),
        black=float(levels[: BLACK + 1].sum()),
        detail=float(np.log((energy + 1e-3) / (float(mean) + 8) ** 2)),
    )
