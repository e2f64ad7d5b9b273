"""Where to cut a distribution's tails so that what is left, in few values, tells most of the whole.

The entropy calibration of Migacz, "8-bit Inference with TensorRT" (2017). ONNX Runtime's `HistogramCollector` has it,
too, one bin of one candidate at a time: twenty seconds for a network's tensors, where this takes one. It gives the same
limits but where two candidates are as good to the last digits of a float32, in which it counts.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

VALUES = 128  # that the distribution is told in
_SMOOTHING = 1e-4  # of a count, where there is none: the divergence is finite
_AT_ONCE = 1 << 20  # numbers: so many candidates times bins
_MOST = 2048  # bins: the time grows with their square, and after a dark photo there may be any number


class Histogram(NamedTuple):
    """Counts (n,) int64 between edges (n + 1,) float32, which lie around zero, and the smallest and largest value."""

    counts: NDArray[np.int64]
    edges: NDArray[np.float32]
    smallest: np.float32
    largest: np.float32


def least_divergence(histogram: Histogram) -> tuple[np.float32, np.float32]:
    """The limits, symmetric around zero but within the values, between which the divergence is least.

    Candidates are half-widths from `VALUES` / 2 bins to all of them. The divergence is that of Kullback and Leibler, of
    the bins, with the tails in the outermost two, from the same bins in `VALUES` values.
    """
    counts, edges = _merged(histogram)
    half = len(counts) // 2
    widths = np.arange(VALUES // 2, half + 1)
    rows = max(1, _AT_ONCE // len(counts))
    found = [_divergences(counts, widths[start : start + rows]) for start in range(0, len(widths), rows)]
    width = int(widths[np.concatenate(found).astype(np.float32).argmin()])  # of those that are as good, the narrowest
    start, end = half - width, min(half + width + 1, len(counts))
    return max(edges[start], histogram.smallest), min(edges[end], histogram.largest)


def _merged(histogram: Histogram) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Counts and edges, of neighbouring bins together where there are more than `_MOST`."""
    counts, edges = histogram.counts, histogram.edges
    together = -(-len(counts) // _MOST)
    if together == 1:
        return counts, edges
    half = len(counts) // 2
    side = -(-(len(counts) - half) // together)  # new bins on either side of zero
    padded = np.pad(counts, (side * together - half, side * together - len(counts) + half))
    width = (edges[-1] - edges[0]) / len(counts) * together
    wider = edges[half] + width * np.arange(-side, side + 1)
    return padded.reshape(-1, together).sum(axis=1), wider.astype(np.float32)


def _divergences(counts: NDArray[np.int64], widths: NDArray[np.int64]) -> NDArray[np.float64]:
    """The divergence of each candidate; infinite where it has no values."""
    half, bins = len(counts) // 2, np.arange(len(counts))
    row = np.arange(len(widths))
    start, end = half - widths, np.minimum(half + widths + 1, len(counts))  # (k,)
    below = np.concatenate([[0], counts.cumsum()])  # (n + 1,)
    inside = (bins >= start[:, None]) & (bins < end[:, None])  # (k, n)
    whole = np.where(inside, counts, 0)
    whole[row, start] += below[start]
    whole[row, end - 1] += below[-1] - below[end]

    merged = (end - start) // VALUES  # bins of each value; those that are left over count in the last one
    first = start[:, None] + np.arange(VALUES) * merged[:, None]  # (k, VALUES)
    after = first + merged[:, None]
    sums = below[after] - below[first]
    sums[:, -1] += below[end] - below[after[:, -1]]
    filled = np.concatenate([np.zeros((len(row), 1), np.int64), (whole > 0).cumsum(axis=1)], axis=1)  # (k, n + 1)
    among = np.take_along_axis(filled, after, 1) - np.take_along_axis(filled, first, 1)
    each = sums // np.maximum(among, 1) * (among > 0)
    value = np.clip((bins - start[:, None]) // merged[:, None], 0, VALUES - 1)
    covered = inside & (bins < after[:, -1:])
    coarse = np.where(covered, np.take_along_axis(each, value, 1), 0)

    p, q = _smoothed(whole, inside), _smoothed(coarse, inside)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(inside, p * np.log(p / q), 0.0)
        divergence = terms.sum(axis=1)
    return np.where(np.isfinite(divergence), divergence, np.inf)


def _smoothed(counts: NDArray[np.int64], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Probabilities (k, n) of `counts` where a row is `inside`: empty bins get a little, which the others give."""
    empty = inside & (counts == 0)
    filled = (counts > 0).sum(axis=1, keepdims=True)
    given = _SMOOTHING * empty.sum(axis=1, keepdims=True) / np.maximum(filled, 1)
    smooth = np.where(empty, _SMOOTHING, counts - given * (counts > 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(filled > 0, smooth / smooth.sum(axis=1, keepdims=True, where=inside), np.nan)
