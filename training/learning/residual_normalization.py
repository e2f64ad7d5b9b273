"""The residual that is expected on good images, by regression on the student's feature: fits `NormalizedResidual`."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..model.distances import NormalizedResidual
from ..model.rstpm import RSTPM
from .feature_cache import FeatureCache

IMAGES = 192  # evenly spread; twice as many change nothing
POSITIONS = 1 << 16  # of each level, drawn from all of these images
BATCH = 16
RIDGE = 1e-3  # of the features' mean variance: what keeps weights of channels that say the same apart
OUTLIERS = 1e-3  # share at either end of the predictions that does not count for their range


@torch.no_grad()
def fit_residual_normalization(
    model: RSTPM,
    cache: FeatureCache,
    device: torch.device,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Fit every `NormalizedResidual` of `model`, in closed form, on images that were learned from.

    By ridge regression on the student's features, over positions of up to `IMAGES` of the cached images. On learned
    images, not on held-out ones: the calibration's promise rests on those having no part in the model. `progress` is
    called with the numbers of images done and in all.
    """
    distances = [distance for distance in model.distances if isinstance(distance, NormalizedResidual)]
    if not distances:
        return
    was_training = model.training
    model.eval()
    rows = cache.spread(IMAGES)
    samples: list[list[tuple[Tensor, ...]]] = [[] for _ in distances]
    draw = torch.Generator().manual_seed(0)  # the same positions again when a run is resumed
    for start in range(0, len(rows), BATCH):
        some = rows[start : start + BATCH]
        features = cache.batch(model, some, device)
        students = model.students(features.source, features.deep, features.levels[3:])
        for kept, student, teacher in zip(samples, students, features.levels, strict=True):
            residual = NormalizedResidual.measure(student, teacher)
            positions = residual.error.numel()
            share = min(positions, math.ceil(POSITIONS * len(some) / len(rows)))
            picked = torch.randperm(positions, generator=draw)[:share].to(device)
            flat = student.permute(0, 2, 3, 1).reshape(positions, -1)
            contrast = residual.contrast.expand_as(residual.error)
            each = flat, *(values.flatten() for values in (residual.error, residual.angle, contrast))
            kept.append(tuple(values[picked].cpu() for values in each))
        progress(start + len(some), len(rows))
    for distance, kept in zip(distances, samples, strict=True):
        fit_by_regression(distance, *(torch.cat(parts) for parts in zip(*kept, strict=True)))
    model.train(was_training)


def fit_by_regression(
    distance: NormalizedResidual, student: Tensor, error: Tensor, angle: Tensor, contrast: Tensor
) -> None:
    """Fit one distance to P positions of good images: `student` (P, C), the others (P,), as `measure` has them."""
    # The logarithm of E by that of the contrast, too: E is relative to it, and that is not always all of its part.
    inputs = torch.cat([student, contrast.log()[:, None]], 1).double()  # (P, C + 1)
    mean = inputs.mean(0)
    # Centred, so that the ridge shrinks slopes and no level: under a steady light the contrast says nothing.
    centred = inputs - mean
    square = centred.T @ centred
    square += max(RIDGE * float(square.diagonal()[:-1].mean()), 1e-9) * torch.eye(len(square), dtype=torch.float64)

    def regress(target: Tensor, used: int) -> tuple[Tensor, Tensor]:
        """Weights (1 + C + 1,), a constant first, 0 for inputs from `used` on, and the predictions (P,)."""
        target = target.double()
        slopes = torch.zeros(len(square), dtype=torch.float64)
        slopes[:used] = torch.linalg.solve(square[:used, :used], centred[:, :used].T @ (target - target.mean()))
        constant = target.mean() - mean @ slopes
        return torch.cat([constant[None], slopes]), inputs @ slopes + constant

    everything, feature = len(square), len(square) - 1
    predictions = [regress(error.log(), everything)]
    if distance.has_angle:
        expected_angle = regress(angle, feature)
        weights, log_variance = regress(((angle - expected_angle[1]).square() + 1e-5).log(), feature)
        factor = (-weights / 4, -log_variance / 4)  # 1 / √deviation
        predictions += [expected_angle, factor]
    ends = torch.tensor([OUTLIERS, 1 - OUTLIERS], dtype=torch.float64)
    for i, (weights, values) in enumerate(predictions):
        low, high = torch.quantile(values, ends).tolist()
        offset, scale = (low + high) / 2, max((high - low) / 2, 1e-6)
        distance.offset[0, i], distance.scale[0, i] = offset, scale
        distance.prediction.weight[i, :, 0, 0] = (weights[1:-1] / scale).float()
        distance.contrast_weight[0, i] = weights[-1] / scale
        assert distance.prediction.bias is not None
        distance.prediction.bias[i] = (weights[0] - offset) / scale
