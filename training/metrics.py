"""Numbers that an evaluation reports: AUROC, AP and F1 per image; AUROC, AP and AUPRO per pixel.

scikit-learn defines AUROC and AP, MVTec's evaluation code defines AUPRO, and the tests hold this module
to both. The pixel metrics are computed here because one evaluation ranks nine sets of maps: for 20 million
pixels scikit-learn takes 18 s and 1.4 GB to give AUROC and AP; here those and AUPRO take 1.2 s and 0.14 GB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy.stats import beta
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

Mask = npt.NDArray[np.bool_]
AnomalyMap = npt.NDArray[np.float32]
_Floats = npt.NDArray[np.float64]
_Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ImageMetrics:
    """How well one score per image tells defective from good images; AUROC, AP and F1 are in 0..1."""

    auroc: float
    ap: float  # average precision
    f1: float  # the best F1 over all thresholds: an upper bound, since the threshold saw the labels
    f1_threshold: float  # that F1 calls an image defective when score >= f1_threshold


@dataclass(frozen=True)
class PixelMetrics:
    """How well the anomaly maps tell defective from good pixels; every value is in 0..1."""

    auroc: float
    ap: float  # average precision
    aupro_30: float  # AUPRO up to a pixel FPR of 0.30, the limit that most papers use
    aupro_05: float  # up to 0.05: stricter, and nearer to what an operator would put up with


def image_metrics(labels: npt.ArrayLike, scores: npt.ArrayLike) -> ImageMetrics:
    """AUROC, average precision and best F1 of one score per image, by scikit-learn.

    labels: (N,) bool, True for a defective image. scores: (N,) finite numbers, higher is more anomalous.
    Where several thresholds reach the best F1, one of them is given.

    Raises ValueError for empty or mismatched arrays, labels that are not bool, a score that is NaN or
    infinite, or images of one kind only.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise ValueError(
            f"image metrics need one label and one score per image, not {labels.shape} and {scores.shape}."
        )
    if labels.size == 0:
        raise ValueError("image metrics need good and defective images, but there are none.")
    if labels.dtype != np.bool_:
        raise ValueError(f"labels must be bool (True: defective), but they are {labels.dtype}.")
    if not np.isfinite(scores).all():
        raise ValueError(f"score {np.flatnonzero(~np.isfinite(scores))[0]} is NaN or infinite.")
    n_defective = int(labels.sum())
    if n_defective in (0, labels.size):
        raise ValueError(
            "image metrics need good and defective images, "
            f"but all {labels.size} are {'defective' if n_defective else 'good'}."
        )

    precision, recall, thresholds = precision_recall_curve(labels, scores)
    # The curve ends in an artificial point (precision 1, recall 0) that belongs to no threshold.
    precision, recall = precision[:-1], recall[:-1]
    # 0/0 where a threshold finds no defect at all; its F1 is 0, as for any such threshold.
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(np.float64).tiny)
    best = int(np.argmax(f1))
    return ImageMetrics(
        auroc=float(roc_auc_score(labels, scores)),
        ap=float(average_precision_score(labels, scores)),
        f1=float(f1[best]),
        f1_threshold=float(thresholds[best]),
    )


def pixel_metrics(masks: Sequence[Mask], anomaly_maps: Sequence[AnomalyMap]) -> PixelMetrics:
    """AUROC, average precision and AUPRO over the pixels of all images, pooled; exact, ties included.

    masks: per image (H, W) bool, True where the product is defective; all False for a good image.
    anomaly_maps: per image (H, W) float32, finite, higher is more anomalous. Sizes may differ from image to
    image. Neither is changed.

    Memory: one float32 per good pixel, and about 80 bytes per defective pixel.

    Raises ValueError for empty or mismatched inputs, masks that are not bool, maps that float32 cannot hold
    exactly, values that are NaN or infinite, and where there is no defective or no good pixel at all.
    """
    curve = _rank(masks, anomaly_maps)
    return PixelMetrics(
        auroc=_auroc(curve),
        ap=_average_precision(curve),
        aupro_30=_aupro(curve, 0.30),
        aupro_05=_aupro(curve, 0.05),
    )


def aupro(masks: Sequence[Mask], anomaly_maps: Sequence[AnomalyMap], *, fpr_limit: float = 0.3) -> float:
    """Area under the per-region-overlap curve up to a pixel FPR of `fpr_limit`, divided by that limit; 0..1.

    A region is an 8-connected component of one image's mask. At each threshold, PRO is the share of a region
    that the map finds, averaged over the regions of all images, so that a scratch weighs as much as a stain;
    FPR is the share of all good pixels that the map calls defective. The curve runs from (0, 0) through
    every distinct value of the maps, is linear in between, and is interpolated at the limit, as in MVTec's
    code. A perfect map has 1. A constant map tells nothing, its curve is the diagonal, and it has
    fpr_limit / 2.

    Arguments and errors are those of `pixel_metrics`; also ValueError unless 0 < fpr_limit <= 1.

    Source: Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 129 (2021), and its evaluation code;
    PRO is from Bergmann et al., "Uninformed Students", CVPR 2020.
    """
    if not 0 < fpr_limit <= 1:
        raise ValueError(f"fpr_limit must be above 0 and at most 1, but it is {fpr_limit}.")
    return _aupro(_rank(masks, anomaly_maps), fpr_limit)


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact two-sided confidence interval (low, high) of a proportion, both in 0..1.

    It covers the true proportion with probability at least `confidence`, for any number of trials.

    Raises ValueError unless 0 <= successes <= trials, trials >= 1 and 0 < confidence < 1.

    Source: Clopper and Pearson, Biometrika 26 (1934).
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(
            f"{successes} of {trials} is no proportion: it needs trials >= 1 and 0 <= successes <= trials."
        )
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, but it is {confidence}.")
    tail = (1 - confidence) / 2
    # The beta quantile is undefined at the two ends, where the interval is one-sided anyway.
    low = beta.ppf(tail, successes, trials - successes + 1) if successes > 0 else 0.0
    high = beta.ppf(1 - tail, successes + 1, trials - successes) if successes < trials else 1.0
    return float(low), float(high)


@dataclass(frozen=True)
class _Curve:
    """The pixels, ranked: one entry for each of the K distinct values of defective pixels, highest first.

    That is all that AUROC, AP and AUPRO need. TP and PRO change at these K thresholds alone, so between two
    of them only FP moves; `fp_above` and `fp` hold where it stands on either side of each step.
    """

    n_good: int  # good pixels of all images
    n_defective: int
    tp: _Counts  # (K,) defective pixels at or above the value
    fp: _Counts  # (K,) good pixels at or above it
    fp_above: _Counts  # (K,) good pixels strictly above it
    pro: _Floats  # (K,) mean share of the regions at or above it; the last is 1


def _rank(masks: Sequence[Mask], anomaly_maps: Sequence[AnomalyMap]) -> _Curve:
    """Check the inputs and rank the pixels; see `_Curve`.

    Good pixels, nearly all there are, are sorted as bare float32, which NumPy does with SIMD, in place; only
    the few defective ones carry anything along.
    """
    n_good = _check_maps(masks, anomaly_maps)
    good = np.empty(n_good, dtype=np.float32)
    filled = 0
    values: list[AnomalyMap] = []  # of the defective pixels, image by image
    shares: list[_Floats] = []  # of its region that each of them covers
    for mask, anomaly_map in zip(masks, anomaly_maps, strict=True):
        # Most images have no defect, and to copy a whole map is cheaper than to index it by a mask.
        background = anomaly_map[~mask] if mask.any() else anomaly_map.ravel()
        good[filled : filled + background.size] = background
        filled += background.size
        if background.size < mask.size:
            n_labels, regions = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
            region = regions[mask]  # 1..n_labels-1; 0 is the background
            values.append(anomaly_map[mask].astype(np.float32, copy=False))
            shares.append(1.0 / np.bincount(region, minlength=n_labels)[region])
    good.sort()

    value, share = np.concatenate(values), np.concatenate(shares)
    order = np.argsort(value)[::-1]
    value, share = value[order], share[order]
    last = np.append(np.flatnonzero(value[1:] != value[:-1]), value.size - 1)  # of each run of equal values
    pro = np.cumsum(share)[last]  # ends at the number of regions, but for rounding
    # Ascending needles walk through `good` once, in cache order.
    needles = value[last][::-1]
    return _Curve(
        n_good=n_good,
        n_defective=value.size,
        tp=last + 1,
        fp=n_good - np.searchsorted(good, needles, side="left")[::-1],
        fp_above=n_good - np.searchsorted(good, needles, side="right")[::-1],
        pro=pro / pro[-1],
    )


def _check_maps(masks: Sequence[Mask], anomaly_maps: Sequence[AnomalyMap]) -> int:
    """The number of good pixels, of maps that can be ranked. Raises ValueError for those that cannot."""
    if len(masks) != len(anomaly_maps):
        raise ValueError(f"each map needs a mask, but there are {len(anomaly_maps)} and {len(masks)}.")
    n_good = n_defective = 0
    for i, (mask, anomaly_map) in enumerate(zip(masks, anomaly_maps, strict=True)):
        if mask.ndim != 2 or mask.shape != anomaly_map.shape:
            raise ValueError(f"mask {i} is {mask.shape}, its map {anomaly_map.shape}: not the same (H, W).")
        if mask.dtype != np.bool_:
            raise ValueError(f"mask {i} must be bool (True: defective), but it is {mask.dtype}.")
        # Rounding float64 would turn different values into ties, and change the result without a word.
        if not np.can_cast(anomaly_map.dtype, np.float32, casting="safe"):
            raise ValueError(f"anomaly map {i} must be float32, but it is {anomaly_map.dtype}.")
        if not np.isfinite(anomaly_map).all():
            raise ValueError(f"anomaly map {i} has values that are NaN or infinite.")
        defective = int(np.count_nonzero(mask))
        n_defective += defective
        n_good += mask.size - defective
    if n_defective == 0 or n_good == 0:
        raise ValueError(f"pixel metrics need good and defective pixels, but there are {n_good} and {n_defective}.")
    return n_good


def _auroc(curve: _Curve) -> float:
    """The share of (defective, good) pairs that are in the right order; a tie counts one half."""
    step = np.diff(curve.tp, prepend=0)  # defective pixels at each value
    # Twice the pairs, in integers: exact, and below 2**63 up to 4e9 pixels.
    pairs = int(np.sum(step * (2 * curve.n_good - curve.fp - curve.fp_above)))
    return pairs / (2 * curve.n_defective * curve.n_good)


def _average_precision(curve: _Curve) -> float:
    """The mean precision over the defective pixels; thresholds that find no new one add no recall."""
    step = np.diff(curve.tp, prepend=0)
    return float(np.sum(step * (curve.tp / (curve.tp + curve.fp)))) / curve.n_defective


def _aupro(curve: _Curve, fpr_limit: float) -> float:
    """See `aupro`."""
    # Two points per value, before and after the step; the flat pieces between them stand for all the
    # thresholds at which only good pixels are added.
    fpr = np.empty(2 * curve.fp.size + 2)
    pro = np.empty_like(fpr)
    fpr[0], fpr[-1] = 0.0, 1.0
    fpr[1:-1:2], fpr[2:-1:2] = curve.fp_above / curve.n_good, curve.fp / curve.n_good
    pro[:2], pro[2:-1:2], pro[3::2] = 0.0, curve.pro, curve.pro

    end = int(np.searchsorted(fpr, fpr_limit, side="right"))  # the points up to the limit; at least the first
    if end < fpr.size:
        slope = (pro[end] - pro[end - 1]) / (fpr[end] - fpr[end - 1])  # fpr[end] > fpr_limit >= fpr[end - 1]
        pro[end] = pro[end - 1] + slope * (fpr_limit - fpr[end - 1])
        fpr[end] = fpr_limit
    fpr, pro = fpr[: end + 1], pro[: end + 1]
    return float(np.sum(np.diff(fpr) * (pro[1:] + pro[:-1]))) / 2 / fpr_limit
