"""What held-out images say about the fusion: training.calibrate."""

from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch
from rstpm_edge.training.calibrate import fusion_and_scores
from rstpm_edge.training.model import RSTPM
from rstpm_edge.training.presets import EDGE, Preset
from torch import Tensor, nn

from rstpm_edge.bundle import Fusion
from rstpm_edge.fusion_reference import fuse

SIZE, COUNT = 64, 11


class Noise(nn.Module):
    """Maps that are noise, each of another mean and spread; the same ones for the same images."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.preset = preset

    def forward(self, image: Tensor) -> list[Tensor]:
        seeds = image[:, 0, 0, 0].tolist()
        draws = [np.random.default_rng(seed) for seed in seeds]
        return [
            torch.tensor(np.stack([(i + 1) * draw.gamma(1 + i, size=(side, side)) for draw in draws]).astype("f4"))
            for i, side in enumerate([SIZE // stride for stride in self.preset.strides] * 2)
        ]


def scores_under(fusion: Fusion, maps: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]) -> list[float]:
    numbers = {"mean": fusion.mean, "std": fusion.std, "weights": fusion.weights}
    return list(fuse(maps, (SIZE, SIZE), mode=fusion.mode, smoothing_sigma=fusion.smoothing_sigma, **numbers)[1])


def images() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.broadcast_to(np.arange(COUNT, dtype=np.uint8)[:, None, None, None], (COUNT, SIZE, SIZE, 3)).copy()


@pytest.mark.parametrize("weight", [1.0, 1.5])
def test_every_maps_peak_counts_the_same_in_its_pair(weight: float) -> None:
    preset = replace(EDGE, reconstruction_weight=weight)
    model = Noise(preset)
    fusion, scores = fusion_and_scores(cast(RSTPM, model), images(), torch.device("cpu"))
    maps = [level.numpy() for level in model(torch.from_numpy(images()))]
    np.testing.assert_allclose(fusion.mean, [m.mean() for m in maps], rtol=1e-5)
    np.testing.assert_allclose(fusion.std, [m.std() for m in maps], rtol=1e-5)
    assert np.mean(fusion.weights) == pytest.approx(1)
    counts = []
    for i, own in enumerate(fusion.weights):
        alone = replace(fusion, weights=tuple(own if j == i else 0.0 for j in range(6)))
        counts.append(np.mean(scores_under(alone, maps)))
    np.testing.assert_allclose(counts, np.repeat([counts[0], weight * counts[0]], 3), rtol=1e-4)
    np.testing.assert_allclose(scores, scores_under(fusion, maps), rtol=1e-4)


def test_the_papers_product_takes_no_weights() -> None:
    preset = replace(EDGE, fusion="paper", reconstruction_weight=3.0)
    fusion, _ = fusion_and_scores(cast(RSTPM, Noise(preset)), images(), torch.device("cpu"))
    assert fusion.weights == (1.0,) * 6
