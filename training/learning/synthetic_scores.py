"""How many synthetic defects a finished model finds: what a rate trades for false rejects, where none are real.

They are painted into held-out photos, a quarter of them each of `synthetic_defects.KINDS`. The segmentation head has
learned from such paint, in other photos. So the share found compares rates, and is no measure of real defects.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.calibration import Calibration
from rstpm_edge.model.training_summary import KEY
from rstpm_edge.postprocess.scoring import Scorer

from ..data.synthetic_defects import KINDS, spoiled
from ..model.rstpm import RSTPM
from .map_calibration import BATCH, MapCalibration

LEAST = 100  # of them, so that a share is known to within ten points; they take less time than an epoch


def synthetic_count(photos: int) -> int:
    """How many are painted into so many held-out photos: 100, or a few more, so that all kinds are as many."""
    images, rounds = _layout(photos)
    return images * rounds * len(KINDS)


def synthetic_scores(
    model: RSTPM,
    photos: NDArray[np.uint8],
    found: MapCalibration,
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[float, ...]:
    """The scores, ascending, that `model` gives to defects in held-out `photos` (N, H, W, 3), calibrated as `found`.

    The same photos give the same defects. `progress` is called with the number of them done.
    """
    images, rounds = _layout(len(photos))
    chosen = [photos[i * len(photos) // images] for i in range(images)]
    spoiled_photos = spoiled(chosen, per_image=rounds * len(KINDS))
    model.eval()
    scorer, scores = None, []
    while batch := list(islice(spoiled_photos, BATCH)):
        outputs = model.outputs(np.stack(batch))
        if scorer is None:
            size = (photos.shape[1], photos.shape[2])
            scorer = Scorer(found.fusion, found.score_fusion, outputs.level_sizes, size)
        scores += scorer(outputs).score.tolist()
        progress(len(scores))
    return tuple(sorted(map(float, scores)))


def share_found(scores: Sequence[float], threshold: float) -> float:
    """The share, 0…1, of ascending `scores` above the threshold."""
    return 1 - bisect_right(scores, threshold) / len(scores)


def synthetic_summary(scores: Sequence[float], calibration: Calibration) -> Mapping[str, Any]:
    """What a model file keeps of it: nothing without scores, else their number and the share found at each rate."""
    if not scores:
        return {}
    found = [
        {"alpha": alpha, "found": round(share_found(scores, threshold), 4)}
        for alpha, threshold in calibration.thresholds.items()
    ]
    return {KEY: {"count": len(scores), "rates": found}}


def _layout(photos: int) -> tuple[int, int]:
    """Into how many of the photos defects are painted, and how many of each kind into each."""
    of_each = -(-LEAST // len(KINDS))
    rounds = -(-of_each // photos)
    return -(-of_each // rounds), rounds
