"""Beyond what a photo is badly exposed, empty or out of focus: from what good photos are like."""

from collections.abc import Sequence

import numpy as np

from rstpm_edge.image.exposure_and_focus import ExposureAndFocus
from rstpm_edge.model.validity import Validity

# How far beyond all good photos a photo may lie. Wide: a defect must stay one, however large (docs/experiments.md).
BRIGHTER = 1.5  # times as bright, or as dark
CLIPPED = 0.5  # of the pixels that are burnt out, or drowned, in no good photo
FLATTER = 3.0  # times less contrast
BLURRED = 4.0  # times less energy in fine detail


def limits_of(photos: Sequence[ExposureAndFocus]) -> Validity:
    """The limits that good photos ask for, without novelty; at least one photo."""
    brightness, contrast, white, black, detail = (
        np.array([getattr(photo, name) for photo in photos])
        for name in ("brightness", "contrast", "white", "black", "detail")
    )
    low, high = float(brightness.min()) / BRIGHTER, float(brightness.max()) * BRIGHTER
    return Validity(
        brightness=(_rounded(low), _rounded(min(high, 256.0))),
        contrast=_rounded(contrast.min() / FLATTER),
        detail=_rounded(detail.min() - np.log(BLURRED)),
        white=_rounded(white.max() + CLIPPED * (1 - white.max())),
        black=_rounded(black.max() + CLIPPED * (1 - black.max())),
    )


def _rounded(value: float) -> float:
    return round(float(value), 4)
