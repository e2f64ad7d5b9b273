"""What fusion and score are, in NumPy and float64. Slow and plain: what every kernel is tested against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.model.outputs import ByPair, ModelOutputs

if TYPE_CHECKING:
    from rstpm_edge.model.metadata import Bundle, CoarseCells, Fusion, HeadMap, ScoreFusion

Float64 = NDArray[np.float64]


def bilinear_matrix(outputs: int, inputs: int) -> Float64:
    """(outputs, inputs): half-pixel centres, edges clamped, as torch with align_corners=False."""
    source = np.clip((np.arange(outputs) + 0.5) * inputs / outputs - 0.5, 0, inputs - 1)
    low = np.floor(source).astype(int)
    high = np.minimum(low + 1, inputs - 1)
    matrix = np.zeros((outputs, inputs))
    np.add.at(matrix, (np.arange(outputs), low), 1 - (source - low))
    np.add.at(matrix, (np.arange(outputs), high), source - low)
    return matrix


def gaussian_matrix(size: int, sigma: float) -> Float64:
    """(size, size): radius ceil(3 sigma), taps normalised, edges clamped; the identity for sigma 0."""
    if sigma == 0:
        return np.eye(size)
    radius = math.ceil(3 * sigma)
    offsets = np.arange(-radius, radius + 1)
    taps = np.exp(-0.5 * (offsets / sigma) ** 2)
    matrix = np.zeros((size, size))
    for row in range(size):
        np.add.at(matrix[row], np.clip(row + offsets, 0, size - 1), taps / taps.sum())
    return matrix


def fuse(
    maps: Sequence[NDArray[Any]],
    size: tuple[int, int],
    *,
    mode: str = "normalized",
    mean: Sequence[float] = (0.0,) * 6,
    std: Sequence[float] = (1.0,) * 6,
    weights: Sequence[float] = (1.0,) * 6,
    smoothing_sigma: float = 0.0,
    head: HeadMap | None = None,
    head_map: NDArray[Any] | None = None,
) -> tuple[Float64, Float64, NDArray[np.int64]]:
    """As `rstpm_edge.postprocess.fusion.Fuser`: six maps (N, h, w) give map (N, H, W), score (N,), position (N, 2).

    With `head`, its `head_map` is one more of the finest level.
    """
    height, width = size
    six = [np.asarray(one, np.float64) for one in maps]
    if mode == "normalized":
        six = [w * (one - mu) / sigma for one, w, mu, sigma in zip(six, weights, mean, std, strict=True)]
    pairs = ByPair.of(six)
    levels: list[Float64] = []
    for m1, m2 in zip(pairs.stpm, pairs.recon, strict=True):
        if head is not None and not levels:
            m1 = m1 + head.weight * (np.asarray(head_map, np.float64) - head.mean) / head.std
        rows = bilinear_matrix(height, m1.shape[1])  # (H, h)
        columns = bilinear_matrix(width, m1.shape[2])  # (W, w)
        levels.append(rows @ (m1 + m2) @ columns.T)
    fused = sum(levels) if mode == "normalized" else levels[0] * levels[1] * levels[2]
    fused = gaussian_matrix(height, smoothing_sigma) @ fused @ gaussian_matrix(width, smoothing_sigma).T
    return fused, *_peak(fused, None)


def score_outputs(
    outputs: ModelOutputs,
    fusion: Fusion,
    score_fusion: ScoreFusion | None,
    size: tuple[int, int],
    counts: NDArray[np.bool_] | None = None,
) -> tuple[Float64, Float64, NDArray[np.int64]]:
    """As `rstpm_edge.postprocess.scoring.Scorer`: a model's outputs give map (N, H, W), score (N,), position (N, 2).

    `counts` (H, W) is True where anomalies count; None for everywhere.
    """
    fused, _, _ = fuse(outputs.anomaly_maps.six, size, **vars(fusion), head_map=outputs.head_map)
    score, position = _peak(fused, counts)
    if score_fusion is not None:
        assert outputs.score_maps is not None
        seen, _, _ = fuse(outputs.score_maps.six, size, **vars(score_fusion.fusion))
        score = _peak(seen, counts)[0] + score_fusion.map_weight * score + score_fusion.bias
        if score_fusion.coarse is not None:
            for cells in coarse_cells(outputs, score_fusion.coarse):
                counting = None if counts is None else cells_with(counts, cells.shape[1:])
                score = score + _peak(cells, counting)[0]
    return fused, score, position


def coarse_cells(outputs: ModelOutputs, coarse: CoarseCells) -> list[Float64]:
    """The coarsest level of both pairs as one, at its own cells, (N, h, w): of residuals, and of angles where they are.

    Not brought to the map's size.
    """
    parts = coarse_parts(outputs, coarse)
    return [first + second for first, second in zip(parts[::2], parts[1::2], strict=True)]


def coarse_parts(outputs: ModelOutputs, coarse: CoarseCells) -> list[Float64]:
    """What each map of the coarsest level adds to these, (N, h, w), in the order of `coarse`."""
    maps = [outputs.anomaly_maps.stpm[-1], outputs.anomaly_maps.recon[-1]]
    if coarse.has_angles:
        assert outputs.angle_maps is not None
        maps += outputs.angle_maps
    return [
        weight * (np.asarray(one, np.float64) - mean) / std
        for one, mean, std, weight in zip(maps, coarse.mean, coarse.std, coarse.weights, strict=True)
    ]


def score(outputs: ModelOutputs, bundle: Bundle) -> tuple[Float64, Float64]:
    """Anomaly map (N, H, W) and score (N,) of the bundle's outputs."""
    return score_outputs(outputs, bundle.fusion, bundle.score_fusion, (bundle.height, bundle.width))[:2]


def cells_with(counts: NDArray[np.bool_], size: tuple[int, ...]) -> NDArray[np.bool_]:
    """The cells, `size` (h, w), of which some pixel of `counts` (H, W) is True; a pixel may lie in two of them."""
    rows, columns = (
        [slice(i * n // cells, -(-(i + 1) * n // cells)) for i in range(cells)]
        for n, cells in zip(counts.shape, size, strict=True)
    )
    return np.array([[counts[row, column].any() for column in columns] for row in rows])


def _peak(fused: Float64, counts: NDArray[np.bool_] | None) -> tuple[Float64, NDArray[np.int64]]:
    """The maximum (N,) of each map (N, H, W) where it counts, and its position (N, 2), the first of equals."""
    kept = fused if counts is None else np.where(counts, fused, -np.inf)
    flat = kept.reshape(len(kept), -1)
    return flat.max(axis=1), np.stack(np.unravel_index(flat.argmax(axis=1), kept.shape[1:]), axis=1)
