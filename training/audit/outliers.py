"""Which images of a set are unlike all others: each is compared with the others only, never with itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import gumbel_r
from torch import Tensor
from torch.nn import functional

from ..model.rstpm import RSTPM

BATCH = 16
CELL = 32  # pixels of the model's input, each way, that one place stands for
NEIGHBOURS = 2  # one alone is often a photo of the same part
ALIKE = 0.2  # of the images, those most like one as a whole, say what is usual in it: other lightings are other sets
FEWEST_ALIKE = 10  # fewer tell no deviation
BANK = 1000  # images that each one is compared with, at most: the time grows with the square
SHARE = 0.05  # of the places, the most unusual ones, whose mean is the score: one alone may be noise
PRIOR = 0.1  # of the variance over all places, added to that of each: where all images agree, little is not much
SIMILARITIES = 1 << 24  # that are held at a time


@dataclass(frozen=True)
class PhotoDistances:
    """How unlike others N images are, at each of P places and as a whole.

    `distances` (N, P) float32, from 0 to 2, are to the most similar places of other images. `apart` (N, B) float32 is
    the mean over all places of the distance to each image of `bank` (B,), which holds rows; infinite where both are
    the same image.
    """

    distances: NDArray[np.float32]
    apart: NDArray[np.float32]
    bank: NDArray[np.int64]


@dataclass(frozen=True)
class Ranking:
    """`maps` (N, H/32, W/32) float32 are deviations from what is usual at each place, `scores` (N,) follow from them.

    `expected` (N,) estimates for each image how many as unusual as it, or more so, a set of this size would hold if
    all were good: far below 1 for an outlier.
    """

    maps: NDArray[np.float32]
    scores: NDArray[np.float64]
    expected: NDArray[np.float64]

    def order(self) -> list[int]:
        """Rows, most unusual first."""
        return [int(row) for row in np.argsort(-self.scores, kind="stable")]


def rank_photos(
    model: RSTPM,
    inputs: NDArray[np.uint8],
    groups: NDArray[np.int64],
    plain: NDArray[np.bool_],
    progress: Callable[[str, int], None] = lambda stage, done: None,
) -> Ranking:
    """Rank `inputs` (N, H, W, 3) uint8 RGB by how unlike the others they are. Images of one group are one image.

    Those that are `plain` (N,) say what is usual at each place; where hardly any are, all do.
    `progress` is called with the stage, "teacher" or "comparing", and how many images it is done with.
    """
    features = normalized_features(look(model, inputs, lambda done: progress("teacher", done)))
    comparison = compare_photos(features, groups, lambda done: progress("comparing", done))
    return ranking_of(comparison, (inputs.shape[1] // CELL, inputs.shape[2] // CELL), plain)


def ranking_of(comparison: PhotoDistances, grid: tuple[int, int], plain: NDArray[np.bool_]) -> Ranking:
    """The ranking that follows from a comparison at P places; `grid` is (rows, columns) of them."""
    deviations = _normalized_distances(comparison, plain)
    most = max(1, round(SHARE * deviations.shape[1]))
    scores = np.sort(deviations, axis=1)[:, -most:].mean(axis=1, dtype=np.float64)
    return Ranking(deviations.reshape(len(deviations), *grid), scores, _expected(scores))


@torch.no_grad()
def look(model: RSTPM, inputs: NDArray[np.uint8], progress: Callable[[int], None] = lambda done: None) -> list[Tensor]:
    """The two coarser levels of teacher 1, averaged over each place: two of (N, P, C) float16, on the CPU."""
    device = next(model.parameters()).device
    size = (inputs.shape[1] // CELL, inputs.shape[2] // CELL)
    batches = []
    for start in range(0, len(inputs), BATCH):
        raw = model.teacher1_alone(torch.from_numpy(inputs[start : start + BATCH]).to(device))
        levels = [functional.adaptive_avg_pool2d(level, size) for level in raw[-2:]]
        batches.append([level.flatten(2).transpose(1, 2).clamp(-65504, 65504).half().cpu() for level in levels])
        progress(min(start + BATCH, len(inputs)))
    return [torch.cat(level) for level in zip(*batches, strict=True)]


def normalized_features(levels: Sequence[Tensor]) -> Tensor:
    """One feature of length 1 for each place from the levels of a set: (N, P, C) float32.

    Channels are scaled to mean 0 and deviation 1 over the set; each level weighs the same, however many it has.
    """
    parts = []
    for level in levels:
        std, mean = torch.std_mean(level.float(), (0, 1), correction=0)
        parts.append((level.float() - mean) / std.clamp(min=1e-6) / level.shape[2] ** 0.5)
    return functional.normalize(torch.cat(parts, 2), dim=2)


@torch.no_grad()
def compare_photos(
    features: Tensor, groups: NDArray[np.int64], progress: Callable[[int], None] = lambda done: None
) -> PhotoDistances:
    """Compare each image with the first ones of other groups: a photo and its copy are one witness, not two.

    One minus the cosine to the most similar place of an image, meaned over the two images where it is least.
    `features` (N, P, C) are of length 1. Nearest neighbours of pretrained features as in PatchCore (Roth et al.,
    arXiv 2106.08265), with one image left out. Of more than 1000 groups a sample of them is what each image is
    compared with.
    """
    count, places, _ = features.shape
    bank = np.unique(groups, return_index=True)[1]
    if len(bank) > BANK:
        bank = np.random.default_rng(0).choice(bank, BANK, replace=False)
    bank = np.sort(bank)
    others = features[bank].flatten(0, 1).T  # (C, B·P)
    same = torch.from_numpy(groups[:, None] == groups[bank])  # (N, B)
    k = min(NEIGHBOURS, len(bank) - 1)
    step = max(1, SIMILARITIES // others.shape[1])
    distances = np.empty((count, places), np.float32)
    apart = np.empty((count, len(bank)), np.float32)
    for row in range(count):
        similarity = torch.zeros(len(bank))
        for start in range(0, places, step):
            part = features[row, start : start + step]  # (p, C)
            similar = (part @ others).view(len(part), len(bank), places).amax(2)  # (p, B)
            similarity += similar.sum(0)
            similar[:, same[row]] = -2
            distances[row, start : start + step] = 1 - similar.topk(k, 1).values.mean(1).numpy()
        apart[row] = (1 - similarity / places).masked_fill(same[row], torch.inf).numpy()
        progress(row + 1)
    return PhotoDistances(distances, apart, bank)


def _normalized_distances(comparison: PhotoDistances, plain: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Deviations from what plain images that are most like each one have at each place.

    Edges differ more from part to part than surface does; under one light all differs more than under another; and
    one photo that is blurred all over would widen what is usual, and hide a scratch on another.
    """
    values, bank = comparison.distances.astype(np.float64), comparison.bank
    if plain[bank].sum() <= FEWEST_ALIKE:
        plain = np.ones(len(values), np.bool_)
    prior = PRIOR * values[plain].var()
    most = max(FEWEST_ALIKE, round(ALIKE * len(bank)))
    deviations = np.empty_like(comparison.distances)
    for row, apart in enumerate(comparison.apart):
        apart = np.where(plain[bank], apart, np.inf)
        alike = bank[np.argsort(apart, kind="stable")[: min(most, int(np.isfinite(apart).sum()))]]
        usual = values[alike]  # (K, P)
        deviations[row] = (values[row] - usual.mean(0)) / np.sqrt(np.maximum(usual.var(0) + prior, 1e-12))
    return deviations


def _expected(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many of so many scores would be as high, did all follow the Gumbel distribution of their bulk.

    Fitted to the median and the upper quartile, so that a few outliers do not widen it.
    """
    (median, upper), quantiles = np.quantile(scores, [0.5, 0.75]), gumbel_r.ppf([0.5, 0.75])
    scale = max((upper - median) / (quantiles[1] - quantiles[0]), 1e-9)
    location = median - scale * quantiles[0]
    standard = np.clip((scores - location) / scale, -50, 700)  # beyond, floats overflow
    return np.asarray(len(scores) * gumbel_r.sf(standard), np.float64)
