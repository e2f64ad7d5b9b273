"""From held-out good images: the maps' statistics and weights, and the scores of the conformal calibration."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from rstpm_edge.calibration import Calibration, calibrate
from rstpm_edge.model.metadata import Fusion, FusionMode, HeadMap, ScoreFusion
from rstpm_edge.postprocess.fusion import make_fuser
from rstpm_edge.postprocess.scoring import Scorer

from ..model.presets import Preset
from ..model.rstpm import RSTPM

BATCH = 8

# Angles say best whether there is a defect; half of what the anomaly map says, in deviations over good images,
# makes up for what they overlook.
MAP_SHARE = 0.5

# What the segmentation head adds to the six maps: enough to sharpen contours, too little to draw what only it sees.
HEAD = 0.25

# The least deviation of its log odds that counts: where it is as sure of everything good, it must not drown the rest.
LEAST_ODDS = 0.25

Maps = Sequence[NDArray[np.float32]]


@dataclass(frozen=True)
class MapCalibration:
    """What a model file says of its own maps, and the held-out good images' scores in their order."""

    fusion: Fusion
    score_fusion: ScoreFusion | None
    calibration: Calibration
    scores: tuple[float, ...]


@torch.no_grad()
def calibrate_model(
    model: RSTPM,
    images: NDArray[np.uint8],
    device: torch.device,
    alpha: float | None,
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> MapCalibration:
    """`calibrate_maps` on what `model` gives for held-out good images.

    `images` (N, H, W, 3) are uint8, brought to the model's input. `progress` is called with the number of images done.
    Raises UsageError as `calibrate_maps` does.
    """
    model.eval()
    batches: list[list[NDArray[np.float32]]] = []
    for start in range(0, len(images), BATCH):
        batch = model(torch.from_numpy(images[start : start + BATCH]).to(device))
        batches.append([m.float().cpu().numpy() for m in batch])
        progress(min(start + BATCH, len(images)))
    maps = [np.concatenate(level) for level in zip(*batches, strict=True)]  # of (N, h, w) each
    return calibrate_maps(maps, model.preset, (images.shape[1], images.shape[2]), alpha)


def calibrate_maps(maps: Maps, preset: Preset, size: tuple[int, int], alpha: float | None) -> MapCalibration:
    """Fusion, fusion of score maps, and conformal calibration that these maps of held-out good images ask for.

    `maps` are the outputs of a model of `preset`, each (N, h, w) float32, `size` is (height, width) of its input,
    `alpha` the false-reject rate to promise, as `calibrate` takes it.

    Raises UsageError when there are too few images for `alpha`.
    """
    sizes = [(m.shape[1], m.shape[2]) for m in maps[:3]]
    pairs = np.repeat([1.0, preset.reconstruction_weight], 3)
    fusion = _statistics(maps[:6], preset.fusion, preset.smoothing_sigma)
    score_fusion = None
    if fusion.mode == "normalized":
        # The map is drawn by every position, and each one's deviation says how much its positions differ by chance.
        # Where the map's maximum is the score, its maxima do.
        by = pairs if len(maps) > 6 else pairs / _peaks(maps, fusion, sizes, size)
        fusion = replace(fusion, weights=_relative(by))
    if preset.has_segmentation_head:
        fusion = replace(fusion, head=_head(maps, fusion, sizes, size))
    if len(maps) > 6:
        angle_maps = maps[6:12]
        angles = _statistics(angle_maps, "normalized", preset.smoothing_sigma)
        angles = replace(angles, weights=_relative(pairs / _peaks(angle_maps, angles, sizes, size)))
        peaks = Scorer(fusion, None, sizes, size)(maps).score
        score_fusion = _in_unit_of_map(peaks, make_fuser(angles, sizes, size)(angle_maps).score, angles, alpha)
    scores = tuple(float(score) for score in Scorer(fusion, score_fusion, sizes, size)(maps).score)
    return MapCalibration(fusion, score_fusion, calibrate(scores, alpha), scores)


def _statistics(maps: Maps, mode: FusionMode, smoothing_sigma: float) -> Fusion:
    return Fusion(
        mode,
        mean=tuple(float(m.mean(dtype=np.float64)) for m in maps),
        std=tuple(max(float(m.std(dtype=np.float64)), 1e-9) for m in maps),
        smoothing_sigma=smoothing_sigma,
    )


def _peaks(maps: Maps, fusion: Fusion, sizes: Sequence[tuple[int, int]], size: tuple[int, int]) -> NDArray[np.float64]:
    """How high each map alone rises on a good image, in its deviations.

    A score is a maximum, and a fine map's maximum over a good image lies many deviations out. Divided by this, every
    map's maximum counts the same on good images, and no map drowns the others of its pair in its noise.
    """
    alone = [replace(fusion, weights=tuple(row)) for row in np.eye(6)]
    peaks = [make_fuser(one, sizes, size)(maps).score.mean() for one in alone]
    return np.maximum(np.asarray(peaks, np.float64), 0.1)


def _head(maps: Maps, fusion: Fusion, sizes: Sequence[tuple[int, int]], size: tuple[int, int]) -> HeadMap:
    """The head's part: of what all maps together vary by on good images, its own varies by HEAD."""
    own = maps[-1]
    mean, std = float(own.mean(dtype=np.float64)), max(float(own.std(dtype=np.float64)), LEAST_ODDS)
    alone = Fusion(mean=(mean,) * 6, std=(std,) * 6, weights=(1.0, *(0.0,) * 5), smoothing_sigma=fusion.smoothing_sigma)
    blank = [own, *(np.zeros_like(m) for m in maps[1:6])]
    varies, of_head = (
        float(make_fuser(one, sizes, size)(m).anomaly_map.std(dtype=np.float64))
        for one, m in ((fusion, maps[:6]), (alone, blank))
    )
    return HeadMap(mean, std, HEAD * max(varies, 1e-9) / max(of_head, LEAST_ODDS / std))


def _relative(weights: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(w) for w in weights / weights.mean())


def _in_unit_of_map(
    peak: NDArray[np.float32], angle: NDArray[np.float32], angles: Fusion, alpha: float | None
) -> ScoreFusion:
    """The fusion of score maps whose scores have the median and the threshold of the map's maxima `peak`, (N,) each."""

    def deviation(values: NDArray[np.float32]) -> float:
        return max(float(values.std(dtype=np.float64)), 1e-9)

    share = MAP_SHARE * deviation(angle) / deviation(peak)
    raw, unit = (calibrate(map(float, values), alpha) for values in (angle + np.float32(share) * peak, peak))
    spans = [one.threshold - one.median for one in (unit, raw)]
    # Of few images, or of images that all look alike, threshold and median may be one.
    scale = spans[0] / spans[1] if min(spans) > 1e-6 else deviation(peak) / deviation(angle)
    fusion = replace(angles, weights=tuple(scale * w for w in angles.weights))
    return ScoreFusion(fusion, map_weight=scale * share, bias=unit.median - scale * raw.median)
