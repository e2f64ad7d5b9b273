"""Weights in 8 bits that no processor computes wrongly.

x86 processors without dot products of 8-bit integers (VNNI) multiply by `vpmaddubsw`: it adds two neighbouring products
in 16 bits, and what does not fit is cut off without a word. Activations go up to 255, so it fits when two weights of
one sign add up to no more than 128. All runtimes keep the channels of a pixel beside each other, two by two from the
first on, so the neighbours are known, and few of them are too large together. Those are made smaller, or their whole
channel is scaled down, whichever changes its weights less: measured in docs/edge.md, this loses next to nothing, where
weights of 7 bits (ONNX Runtime's `reduce_range`) double the error.
"""

import numpy as np
from numpy.typing import NDArray

_SCALES = np.linspace(1, 2, 11, dtype=np.float32)  # at twice the largest weight, any two fit


def without_saturation(weights: NDArray[np.float32], *, pairs: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights (O, I, …) that differ little from these and can be computed, and of each channel what 127 means, (O,).

    Without `pairs` nothing is known of neighbours, so none may be large.
    """
    largest = np.abs(weights).reshape(len(weights), -1).max(axis=1)
    largest = np.where(largest > 0, largest, 1).astype(np.float32)
    if not pairs:
        return weights, 2 * largest
    rows = np.moveaxis(weights, 1, -1)  # channels last, where neighbours are
    flat = rows.reshape(len(rows), -1)
    least = np.full(len(rows), np.inf)
    best, limits = flat, largest
    for scale in _SCALES:
        limit = (scale * largest)[:, None]
        fitting = _fit(flat, limit)
        step = limit / 127
        error = ((np.round(fitting / step) * step - flat) ** 2).sum(axis=1)
        better = error < least
        least = np.where(better, error, least)
        best, limits = np.where(better[:, None], fitting, best), np.where(better, limit[:, 0], limits)
    return np.ascontiguousarray(np.moveaxis(best.reshape(rows.shape), -1, 1)), limits.astype(np.float32)


def _fit(rows: NDArray[np.float32], limit: NDArray[np.float32]) -> NDArray[np.float32]:
    """`rows` (O, n), n even, with each two neighbours of one sign made smaller until they add up to `limit` (O, 1)."""
    first, second = rows[:, 0::2], rows[:, 1::2]
    # As real numbers they add up to 127 at most, so rounded to 128.
    excess = np.where(first * second > 0, np.maximum(np.abs(first + second) - limit, 0), 0)
    small = np.minimum(np.abs(first), np.abs(second))
    less = np.minimum(excess / 2, small)  # both by as much, but none beyond zero
    larger = np.abs(first) > np.abs(second)
    fitting = np.empty_like(rows)
    fitting[:, 0::2] = first - np.sign(first) * np.where(larger, excess - less, less)
    fitting[:, 1::2] = second - np.sign(second) * np.where(larger, less, excess - less)
    return fitting
