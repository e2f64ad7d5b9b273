"""From held-out good images: what the score is put together from, and in which unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.calibration import calibrate
from rstpm_edge.model.metadata import CoarseCells, Fusion, ScoreFusion
from rstpm_edge.model.outputs import ByPair, Map, ModelOutputs
from rstpm_edge.postprocess.fusion import make_fuser
from rstpm_edge.postprocess.reference import coarse_cells

NOTHING = 1e-6  # a deviation below it is none: of one image, or of images that all look alike


def calibrate_score(
    outputs: ModelOutputs,
    peaks: NDArray[np.float32],
    smoothing_sigma: float,
    size: tuple[int, int],
    alpha: float | None,
) -> ScoreFusion:
    """The score that `outputs`, which have score maps and angle maps, of N held-out good images ask for.

    Its median and threshold at the false-reject rate `alpha` are those of the maxima of their anomaly maps, `peaks`
    (N,). `size` is (height, width) of the model's input, `smoothing_sigma` the Gaussian's, in its pixels.
    Raises UsageError when there are too few images for `alpha`.
    """
    assert outputs.score_maps is not None
    errors = _errors(outputs.score_maps, smoothing_sigma)
    of_errors = make_fuser(errors, outputs.level_sizes, size)(outputs.score_maps.six).score
    # Errors find what is small and strong, angles of the coarsest level what is large, weak, or in the wrong place: a
    # deviation of the one over good images counts as much as a deviation of the other.
    coarse = _angles(outputs, _deviation(of_errors))
    together = of_errors + sum(_highest(cells) for cells in coarse_cells(outputs, coarse))
    raw, unit = (calibrate(map(float, values), alpha) for values in (together, peaks))
    spans = [one.threshold - one.median for one in (unit, raw)]
    # Of few images, or of images that all look alike, threshold and median may be one.
    scale = spans[0] / spans[1] if min(spans) > NOTHING else _deviation(peaks) / _deviation(of_errors)
    return ScoreFusion(
        replace(errors, weights=_times(scale, errors.weights)),
        bias=unit.median - scale * raw.median,
        coarse=replace(coarse, weights=_times(scale, coarse.weights)),
    )


def _errors(maps: ByPair[Map], smoothing_sigma: float) -> Fusion:
    """The sum in which each error counts in multiples of its mean on good images."""
    mean, std = means_and_deviations(maps.six)
    weights = tuple(own / max(average, 1e-9) for own, average in zip(std, mean, strict=True))
    return Fusion(mean=mean, std=std, weights=weights, smoothing_sigma=smoothing_sigma)


def _angles(outputs: ModelOutputs, deviation: float) -> CoarseCells:
    """The cells of angles whose maximum has this deviation, with both pairs alike; those of residuals have no part."""
    assert outputs.angle_maps is not None
    mean, std = means_and_deviations(outputs.angle_maps)
    cells = CoarseCells((0.0, 0.0, *mean), (1.0, 1.0, *std), (0.0, 0.0, 1.0, 1.0))
    own = _deviation(_highest(coarse_cells(outputs, cells)[1]))
    return replace(cells, weights=_times(deviation / own if own > NOTHING else 0.0, cells.weights))


def _highest(cells: NDArray[np.float64]) -> NDArray[np.float32]:
    return cells.max((1, 2)).astype(np.float32)  # type: ignore[no-any-return]


def means_and_deviations(maps: Sequence[Map]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of all values of each map; a deviation is never 0."""
    mean = tuple(float(m.mean(dtype=np.float64)) for m in maps)
    return mean, tuple(max(float(m.std(dtype=np.float64)), 1e-9) for m in maps)


def _deviation(values: NDArray[np.floating]) -> float:
    return max(float(values.std(dtype=np.float64)), 1e-9)


def _times(factor: float, values: Sequence[float]) -> tuple[float, ...]:
    return tuple(factor * value for value in values)
