"""What held-out good images say: each map's statistics and weight, and the scores that the threshold rests on."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from rstpm_edge.bundle import Fusion
from rstpm_edge.fusion import make_fuser

from .model import RSTPM
from .presets import Preset

BATCH = 8


@torch.no_grad()
def fusion_and_scores(
    model: RSTPM,
    images: NDArray[np.uint8],
    device: torch.device,
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Fusion, list[float]]:
    """The fusion that held-out good images ask for, and their scores under it.

    `images` (N, H, W, 3) uint8, brought to the model's input. μ and σ of each map are taken over all positions of
    all images. `progress` is called with the number of images done.
    """
    model.eval()
    batches: list[list[NDArray[np.float32]]] = []
    for start in range(0, len(images), BATCH):
        batch = model(torch.from_numpy(images[start : start + BATCH]).to(device))
        batches.append([m.float().cpu().numpy() for m in batch])
        progress(min(start + BATCH, len(images)))
    maps = [np.concatenate(level) for level in zip(*batches, strict=True)]  # six of (N, h, w)
    return fit_fusion(maps, model.preset, (images.shape[1], images.shape[2]))


def fit_fusion(
    maps: Sequence[NDArray[np.float32]], preset: Preset, size: tuple[int, int]
) -> tuple[Fusion, list[float]]:
    """The fusion that these six maps of held-out good images ask for, and the images' scores under it.

    `maps` are six of (N, h, w) float32, `size` is (height, width) of the model's input.
    """
    sizes = [m.shape[1:] for m in maps[:3]]
    fusion = Fusion(
        preset.fusion,
        mean=tuple(float(m.mean(dtype=np.float64)) for m in maps),
        std=tuple(max(float(m.std(dtype=np.float64)), 1e-9) for m in maps),
        smoothing_sigma=preset.smoothing_sigma,
    )
    if fusion.mode == "normalized":
        # The score is a maximum, and a fine map's maximum over a good image lies many deviations out. Scaled so
        # that every map's maximum counts the same on good images, no map drowns the others of its pair in its noise.
        alone = [replace(fusion, weights=tuple(row)) for row in np.eye(6)]
        peaks = [make_fuser(one, sizes, size)(maps).score.mean() for one in alone]
        weights = np.repeat([1.0, preset.reconstruction_weight], 3) / np.maximum(peaks, 0.1)
        fusion = replace(fusion, weights=tuple(float(w) for w in weights / weights.mean()))
    fuser = make_fuser(fusion, sizes, size)
    return fusion, [float(score) for score in fuser(maps).score]
