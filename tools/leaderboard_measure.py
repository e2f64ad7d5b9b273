"""What a leaderboard measures, the same for all contestants: figures over the test photos, and how sure they are.

Recall at a share of false rejects is read on the test photos themselves, so that it compares methods and not their
thresholds: the threshold is the smallest score that at most that share of the good test photos lie above, and a photo
is rejected when its score is above the threshold. With fewer than 100 good photos, 1 % of them is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.training.evaluation.metrics import image_metrics, ranked_metrics
from rstpm_edge.training.evaluation.pixel_curves import rank_pixels

METRICS = {
    "image_auroc": "image AUROC",
    "recall_01": "recall at 1 %",
    "recall_05": "recall at 5 %",
    "pixel_auroc": "pixel AUROC",
    "aupro_30": "AUPRO",
}
RESAMPLES = 2000
COVERED = 0.95  # by an interval
LIMIT = 0.3  # of AUPRO, false-positive rate
SAMPLE = 200_000  # good pixels that the levels of the curve are taken from
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class JudgedPhotos:
    """What a method made of N test photos. `map_at(i)` gives photo i's anomaly map (H, W) float32 at its own size.

    `masks`, (H, W) bool each, are None where the set has none.
    """

    defective: NDArray[np.bool_]  # (N,)
    scores: Floats  # (N,)
    masks: Sequence[NDArray[np.bool_]] | None
    map_at: Callable[[int], NDArray[np.float32]]


@dataclass(frozen=True)
class Figures:
    """All in 0…1; those of pixels are None where there are no masks."""

    image_auroc: float
    recall_01: float
    recall_05: float
    pixel_auroc: float | None = None
    aupro_30: float | None = None


def figures(judged: JudgedPhotos) -> Figures:
    """Raises ValueError for scores or maps that are not finite, or photos of one kind only."""
    auroc = image_metrics(judged.defective, judged.scores).auroc
    good, bad = judged.scores[~judged.defective], judged.scores[judged.defective]
    recalls = recall_at(good, bad, 0.01), recall_at(good, bad, 0.05)
    if judged.masks is None:
        return Figures(auroc, *recalls)
    maps = (judged.map_at(i) for i in range(len(judged.masks)))
    pixels = ranked_metrics([rank_pixels(judged.masks, maps)])
    return Figures(auroc, *recalls, pixels.auroc, pixels.aupro_30)


def recall_at(good: Floats, bad: Floats, share: float) -> float:
    """The share of the scores `bad` above the smallest threshold that at most `share` of the scores `good` exceed."""
    threshold = np.sort(good)[::-1][_allowed(len(good), share)]
    return float((bad > threshold).mean())


def intervals(
    judged: JudgedPhotos, point: Figures, resamples: int = RESAMPLES
) -> dict[str, tuple[float, float] | None]:
    """The 95 % percentile interval of each figure of `point`, over photos drawn again with replacement.

    Good and defective photos are drawn apart, as many as there are. The draws follow from their numbers alone, so
    those of two methods on the same photos are the same. Pixels are counted at about 200 levels for this, not at all.
    """
    draw = np.random.default_rng(0)
    weights = {}  # how often each photo is in each resample, (resamples, photos of that kind)
    for kind in (False, True):
        n = int((judged.defective == kind).sum())
        weights[kind] = draw.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)
    drawn = _image_replicates(judged, weights[False], weights[True])
    if judged.masks is not None:
        both = np.zeros((resamples + 1, len(judged.defective)))
        both[:-1, ~judged.defective], both[:-1, judged.defective] = weights[False], weights[True]
        both[-1] = 1.0  # all photos once: what the levels alone make of the figure
        for name, values in _pixel_replicates(judged, both).items():
            exact = getattr(point, name)
            drawn[name] = values[:-1] - values[-1] + exact
    tails = (1 - COVERED) / 2, (1 + COVERED) / 2
    found: dict[str, tuple[float, float] | None] = dict.fromkeys(asdict(point))
    for name, values in drawn.items():
        low, high = np.quantile(values, tails)
        found[name] = max(0.0, float(low)), min(1.0, float(high))
    return found


def _allowed(n_good: int, share: float) -> int:
    """How many good photos may lie above the threshold; the small number makes 5 % of 60 three, not two."""
    return math.floor(n_good * share + 1e-9)


def _image_replicates(judged: JudgedPhotos, w_good: Floats, w_bad: Floats) -> dict[str, Floats]:
    good, bad = judged.scores[~judged.defective], judged.scores[judged.defective]
    order = np.argsort(good)[::-1]
    good, w_good = good[order], w_good[:, order]
    wins = (bad[:, None] > good) + 0.5 * (bad[:, None] == good)  # (bad, good)
    found = {"image_auroc": ((w_bad @ wins) * w_good).sum(axis=1) / (len(bad) * len(good))}
    hits = w_bad @ (bad[:, None] > good).astype(np.float64)  # (resamples, good): found above each good score
    above = np.cumsum(w_good, axis=1)
    for name, share in (("recall_01", 0.01), ("recall_05", 0.05)):
        threshold = (above > _allowed(len(good), share)).argmax(axis=1)
        found[name] = hits[np.arange(len(hits)), threshold] / len(bad)
    return found


def _pixel_replicates(judged: JudgedPhotos, weights: Floats) -> dict[str, Floats]:
    """Pixel AUROC and AUPRO of each row of weights (rows, N)."""
    masks = judged.masks or []
    rates = np.concatenate([np.geomspace(1e-4, LIMIT, 150), np.linspace(LIMIT, 1, 51)[1:]])
    step = max(1, sum(mask.size for mask in masks) // SAMPLE)
    sample = np.concatenate([judged.map_at(i)[~mask][::step] for i, mask in enumerate(masks)])
    levels = np.quantile(sample, rates)  # ascending
    n, k = len(masks), len(levels) + 1
    good, bad, overlap = np.zeros((n, k)), np.zeros((n, k)), np.zeros((n, k))  # pixels, pixels, regions at each level
    for i, mask in enumerate(masks):
        level = np.searchsorted(levels, judged.map_at(i), side="right")  # (H, W), 0…k-1
        good[i] = np.bincount(level[~mask], minlength=k)
        if mask.any():
            bad[i] = np.bincount(level[mask], minlength=k)
            overlap[i] = np.bincount(level[mask], weights=_shares(mask), minlength=k)
    fpr, tpr, pro = (_rates(weights @ counts[:, ::-1]) for counts in (good, bad, overlap))
    return {"pixel_auroc": _area(fpr, tpr, 1.0), "aupro_30": _area(fpr, pro, LIMIT) / LIMIT}


def _shares(mask: NDArray[np.bool_]) -> Floats:
    """What each defective pixel is of its region; a region's shares add up to 1."""
    n, regions = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    region = regions[mask]
    shares: Any = 1.0 / np.bincount(region, minlength=n)[region]
    return np.asarray(shares, np.float64)


def _rates(counts: Floats) -> Floats:
    """Counts at each level, highest first, as shares at or above it, from 0."""
    total = np.cumsum(counts, axis=1)
    return np.pad(total / np.maximum(total[:, -1:], 1e-12), ((0, 0), (1, 0)))


def _area(x: Floats, y: Floats, limit: float) -> Floats:
    """Below the curves of each row, from 0 to `limit`."""
    clipped = np.minimum(x, limit)
    width, taken = np.diff(x, axis=1), np.diff(clipped, axis=1)
    end = y[:, :-1] + np.diff(y, axis=1) * np.divide(taken, width, out=np.zeros_like(width), where=width > 0)
    return np.asarray((taken * (y[:, :-1] + end)).sum(axis=1) / 2)
