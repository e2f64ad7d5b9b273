"""Pixels ranked by their anomaly, image by image: what AUROC, AP and AUPRO of any set of images are taken from.

The pixels of a set of images are sorted once, and sets are put together afterwards: counts above a value add up.
So the metrics of each kind of defect cost next to nothing when those of all images are wanted, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
AnomalyMap = npt.NDArray[np.float32]
_Floats = npt.NDArray[np.float64]
_Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RankedPixels:
    """The pixels of some images. Good ones are nearly all there are, so they are kept as bare numbers."""

    good: AnomalyMap  # (G,) values of the good pixels, ascending
    defective: AnomalyMap  # (D,) values of the defective pixels, in no order
    share: _Floats  # (D,) of its region that each of them covers; a region's shares add up to 1


@dataclass(frozen=True, eq=False)
class Curve:
    """One entry for each of the K distinct values of defective pixels, highest first.

    That is all that AUROC, AP and AUPRO need. TP and PRO change at these K thresholds alone, so between two
    of them only FP moves; `fp_above` and `fp` hold where it stands on either side of each step.
    """

    n_good: int  # good pixels of all images
    n_defective: int
    tp: _Counts  # (K,) defective pixels at or above the value
    fp: _Counts  # (K,) good pixels at or above it
    fp_above: _Counts  # (K,) good pixels strictly above it
    pro: _Floats  # (K,) mean share of the regions at or above it; the last is 1


def rank_pixels(
    masks: Sequence[Mask], anomaly_maps: Iterable[AnomalyMap], counted: Sequence[Mask | None] | None = None
) -> RankedPixels:
    """Rank the pixels of some images; arguments and errors are those of `metrics.pixel_metrics`.

    The maps are looked at one after another, so they may be made as they are asked for. Good and defective
    pixels need not both be there. Where `counted` is False, it is neither; of a defect's region, the rest is taken.
    """
    counted = counted or [None] * len(masks)
    good = np.empty(sum(mask.size - int(np.count_nonzero(mask)) for mask in masks), np.float32)
    filled = 0
    values: list[AnomalyMap] = [np.empty(0, np.float32)]  # of the defective pixels, image by image
    shares: list[_Floats] = [np.empty(0)]
    for i, (painted, anomaly_map, inside) in enumerate(zip(masks, anomaly_maps, counted, strict=True)):
        _check(i, painted, anomaly_map)
        mask = painted if inside is None else painted & inside
        if inside is not None:
            background = anomaly_map[inside & ~painted]
        else:
            # Most images have no defect, and to copy a whole map is cheaper than to index it by a mask.
            background = anomaly_map[~mask] if mask.any() else anomaly_map.ravel()
        good[filled : filled + background.size] = background
        filled += background.size
        if mask.any():
            n_labels, regions = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
            region = regions[mask]  # 1..n_labels-1; 0 is the background
            values.append(anomaly_map[mask].astype(np.float32, copy=False))
            shares.append(1.0 / np.bincount(region, minlength=n_labels)[region])
    good = good[:filled]
    good.sort()  # bare float32, which NumPy sorts with SIMD, in place
    return RankedPixels(good, np.concatenate(values), np.concatenate(shares))


def curve(sets: Sequence[RankedPixels]) -> Curve:
    """The curve of all pixels of these sets together. ValueError where none is good, or none defective."""
    n_good = sum(pixels.good.size for pixels in sets)
    n_defective = sum(pixels.defective.size for pixels in sets)
    if n_defective == 0 or n_good == 0:
        raise ValueError(f"pixel metrics need good and defective pixels, but there are {n_good} and {n_defective}.")
    value = np.concatenate([pixels.defective for pixels in sets])
    share = np.concatenate([pixels.share for pixels in sets])
    order = np.argsort(value)[::-1]
    value, share = value[order], share[order]
    last = np.append(np.flatnonzero(value[1:] != value[:-1]), value.size - 1)  # of each run of equal values
    pro = np.cumsum(share)[last]  # ends at the number of regions, but for rounding
    # Ascending needles walk through the good pixels once, in cache order.
    needles = value[last][::-1]
    below = sum(np.searchsorted(pixels.good, needles, side="left") for pixels in sets)
    not_above = sum(np.searchsorted(pixels.good, needles, side="right") for pixels in sets)
    return Curve(
        n_good=n_good,
        n_defective=n_defective,
        tp=last + 1,
        fp=(n_good - below)[::-1],
        fp_above=(n_good - not_above)[::-1],
        pro=pro / pro[-1],
    )


def auroc(curve: Curve) -> float:
    """The share of (defective, good) pairs that are in the right order; a tie counts one half."""
    step = np.diff(curve.tp, prepend=0)  # defective pixels at each value
    # Twice the pairs, in integers: exact, and below 2**63 up to 4e9 pixels.
    pairs = int(np.sum(step * (2 * curve.n_good - curve.fp - curve.fp_above)))
    return pairs / (2 * curve.n_defective * curve.n_good)


def average_precision(curve: Curve) -> float:
    """The mean precision over the defective pixels; thresholds that find no new one add no recall."""
    step = np.diff(curve.tp, prepend=0)
    return float(np.sum(step * (curve.tp / (curve.tp + curve.fp)))) / curve.n_defective


def aupro(curve: Curve, fpr_limit: float) -> float:
    """See `metrics.aupro`."""
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


def _check(i: int, mask: Mask, anomaly_map: AnomalyMap) -> None:
    if mask.ndim != 2 or mask.shape != anomaly_map.shape:
        raise ValueError(f"mask {i} is {mask.shape}, its map {anomaly_map.shape}: not the same (H, W).")
    if mask.dtype != np.bool_:
        raise ValueError(f"mask {i} must be bool (True: defective), but it is {mask.dtype}.")
    # Rounding float64 would turn different values into ties, and change the result without a word.
    if not np.can_cast(anomaly_map.dtype, np.float32, casting="safe"):
        raise ValueError(f"anomaly map {i} must be float32, but it is {anomaly_map.dtype}.")
    if not np.isfinite(anomaly_map).all():
        raise ValueError(f"anomaly map {i} has values that are NaN or infinite.")
