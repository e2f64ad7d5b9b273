"""From held-out good images: the maps' statistics and weights, and the scores of the conformal calibration."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.calibration import Calibration, calibrate
from rstpm_edge.model.metadata import Fusion, FusionMode, HeadMap, ScoreFusion
from rstpm_edge.model.outputs import ByPair, Map, ModelOutputs
from rstpm_edge.postprocess.fusion import make_fuser
from rstpm_edge.postprocess.scoring import Scorer

from ..model.presets import Preset
from ..model.rstpm import RSTPM
from .score_calibration import calibrate_score, means_and_deviations

BATCH = 8

# What the segmentation head adds to the six maps: enough to sharpen contours, too little to draw what only it sees.
HEAD = 0.25

# The least deviation of its log odds that counts: where it is as sure of everything good, it must not drown the rest.
LEAST_ODDS = 0.25


@dataclass(frozen=True)
class MapCalibration:
    """What a model file says of its own maps, and the held-out good images' scores and embeddings in their order."""

    fusion: Fusion
    score_fusion: ScoreFusion | None
    calibration: Calibration
    scores: tuple[float, ...]
    embedding: NDArray[np.float32] | None = field(default=None, compare=False)  # (n, C)


def calibrate_model(
    model: RSTPM,
    images: NDArray[np.uint8],
    alpha: float | None,
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> MapCalibration:
    """`calibrate_maps` on what `model` gives for held-out good images.

    `images` (N, H, W, 3) are uint8, brought to the model's input. `progress` is called with the number of images done.
    Raises UsageError as `calibrate_maps` does.
    """
    model.eval()
    outputs = outputs_of(model, images, progress=progress)
    return calibrate_maps(outputs, model.preset, (images.shape[1], images.shape[2]), alpha)


def outputs_of(
    model: RSTPM, images: NDArray[np.uint8], *, progress: Callable[[int], None] = lambda done: None
) -> ModelOutputs:
    """What `model` gives for `images` (N, H, W, 3), some at a time; `progress` gets the number of images done."""
    batches = []
    for start in range(0, len(images), BATCH):
        batches.append(model.outputs(images[start : start + BATCH]))
        progress(min(start + BATCH, len(images)))
    return ModelOutputs.concatenate(batches)


def calibrate_maps(outputs: ModelOutputs, preset: Preset, size: tuple[int, int], alpha: float | None) -> MapCalibration:
    """Fusion, what makes the score, and conformal calibration that these maps of held-out good images ask for.

    `outputs` are those of a model of `preset`, `size` is (height, width) of its input, `alpha` the false-reject rate to
    promise, as `calibrate` takes it.

    Raises UsageError when there are too few images for `alpha`.
    """
    maps, score_maps, sizes = outputs.anomaly_maps, outputs.score_maps, outputs.level_sizes
    pairs = np.repeat([1.0, preset.reconstruction_weight], 3)
    fusion = _statistics(maps, preset.fusion, preset.smoothing_sigma)
    score_fusion = None
    if fusion.mode == "normalized":
        # The map is drawn by every position, and each one's deviation says how much its positions differ by chance.
        # Where the map's maximum is the score, its maxima do.
        by = pairs / _peaks(maps, fusion, sizes, size) if score_maps is None else pairs
        fusion = replace(fusion, weights=_relative(by))
    if outputs.head_map is not None:
        fusion = replace(fusion, head=_head(maps, outputs.head_map, fusion, sizes, size))
    if score_maps is not None:
        peaks = Scorer(fusion, None, sizes, size)(outputs).score
        score_fusion = calibrate_score(outputs, peaks, preset.smoothing_sigma, size, alpha)
    scores = tuple(float(score) for score in Scorer(fusion, score_fusion, sizes, size)(outputs).score)
    return MapCalibration(fusion, score_fusion, calibrate(scores, alpha), scores, outputs.embedding)


def _statistics(maps: ByPair[Map], mode: FusionMode, smoothing_sigma: float) -> Fusion:
    return Fusion(mode, *means_and_deviations(maps.six), smoothing_sigma=smoothing_sigma)


def _peaks(
    maps: ByPair[Map], fusion: Fusion, sizes: Sequence[tuple[int, int]], size: tuple[int, int]
) -> NDArray[np.float64]:
    """How high each map alone rises on a good image, in its deviations.

    A score is a maximum, and a fine map's maximum over a good image lies many deviations out. Divided by this, every
    map's maximum counts the same on good images, and no map drowns the others of its pair in its noise.
    """
    alone = [replace(fusion, weights=tuple(row)) for row in np.eye(6)]
    peaks = [make_fuser(one, sizes, size)(maps.six).score.mean() for one in alone]
    return np.maximum(np.asarray(peaks, np.float64), 0.1)


def _head(
    maps: ByPair[Map], own: Map, fusion: Fusion, sizes: Sequence[tuple[int, int]], size: tuple[int, int]
) -> HeadMap:
    """The part of the head's `own` map: of what all maps together vary by on good images, it varies by HEAD."""
    mean, std = float(own.mean(dtype=np.float64)), max(float(own.std(dtype=np.float64)), LEAST_ODDS)
    alone = Fusion(mean=(mean,) * 6, std=(std,) * 6, weights=(1.0, *(0.0,) * 5), smoothing_sigma=fusion.smoothing_sigma)
    nothing = maps.each(np.zeros_like)
    _, middle, coarse = nothing.stpm
    in_place_of_first = replace(nothing, stpm=(own, middle, coarse))
    varies, of_head = (
        float(make_fuser(one, sizes, size)(m.six).anomaly_map.std(dtype=np.float64))
        for one, m in ((fusion, maps), (alone, in_place_of_first))
    )
    return HeadMap(mean, std, HEAD * max(varies, 1e-9) / max(of_head, LEAST_ODDS / std))


def _relative(weights: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(w) for w in weights / weights.mean())
