"""Detects from the photos alone whether parts lie at any angle: where they do, rotation augmentation helps."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rstpm_edge.image.decode import read_image
from rstpm_edge.image.roi import crop

from ..data.rotation_augmentation import FEWEST, rotate, rotated_copies
from ..model.rstpm import RSTPM
from .job import Job
from .machine import SMALLER, enough_memory
from .run_folder import RunConfig

PROBES, BANK = 48, 128  # photos that are rotated, and that they are compared with
BATCH = 16
LOOK = 256  # pixels a side, as many as show a part's angle; of larger inputs all features would not fit into memory
QUARTERS: Sequence[float] = (90.0, 180.0, 270.0)  # of square photos exact, so that nothing but the angle changes
ROUNDS = 3  # in each of which every probe is rotated by another angle

# Where a set holds every angle, a photo and the same photo rotated are as near to the others: a half would be nearer
# when rotated, but for what does not rotate with the part, its ground and its shadow. Sets with an upright have none.
NEARER_BY_QUARTERS, NEARER_BY_ANY = 0.15, 0.1

# A photo of a surface is as near to others when it is shifted by half its sides, too, and one of a part is not.
# Surfaces are left alone: rotated copies made a rock's verdicts and contours worse.
NEARER_BY_HALVES = 0.1

EPOCHS = 2  # times as many with rotation augmentation: there is more to learn
ABOUT_ROTATION = (
    "the parts seem to lie at any angle, so the photos are learned from in rotated copies, too (rotation "
    "augmentation), in twice the epochs unless `epochs` says how many. `preset.rotation_augmentation=false` leaves "
    "that out."
)


def with_rotation(
    job: Job, config: RunConfig, model: RSTPM, learned: NDArray[np.uint8], photo: Path, *, keep_epochs: bool
) -> RunConfig:
    """`config`, with rotation augmentation where the photos (N, H, W, 3) that are learned from lie at any angle.

    There are `EPOCHS` times as many epochs then, unless they are to be kept. `photo` is the file of one of them.
    """
    aspect = _aspect(photo, config)
    tell = job.stage("rotation", 1, job.budget.likely_epochs(config.preset.epochs))
    with enough_memory(job.fabric, SMALLER):
        any_angle = lie_at_any_angle(model, learned, aspect, job.fabric.device)
    tell(1)
    if not job.fabric.broadcast(any_angle):
        return config
    job.warn("rotation", ABOUT_ROTATION)
    epochs = config.preset.epochs * (1 if keep_epochs else EPOCHS)
    return replace(config, rotation_aspect=aspect, preset=replace(config.preset, epochs=epochs))


def _aspect(photo: Path, config: RunConfig) -> float:
    """How many times as much of the scene's width as of its height a pixel of the input covers."""
    if config.resize == "letterbox":
        return 1.0
    height, width = crop(read_image(photo), config.roi, photo).shape[:2]
    return float((width / config.width) / (height / config.height))


@torch.no_grad()
def lie_at_any_angle(model: RSTPM, photos: NDArray[np.uint8], aspect: float, device: torch.device) -> bool:
    """Whether `photos` (N, H, W, 3) show parts, and one that is rotated by any angle could be one of them.

    As far as teacher 1 can tell: each photo's nearest other one, over features place by place, beside that of the same
    photo rotated, or shifted. `model` is on `device`. Of fewer than `FEWEST` photos, or of so many that none would be
    copied: no.
    """
    if len(photos) < FEWEST or not rotated_copies(len(photos)):
        return False
    draw = np.random.default_rng(0)
    probes = _Probes(model, photos, device, draw)

    def nearer_rotated(angles: Iterable[float]) -> float:
        rotated = [rotate(photo, angle, aspect) for photo, angle in zip(probes.photos, angles, strict=True)]
        return probes.nearer(np.stack(rotated))

    count = len(probes.photos)
    quarters = []
    for angle in QUARTERS:
        quarters.append(nearer_rotated([angle] * count))
        if quarters[-1] < NEARER_BY_QUARTERS / 3:  # most sets have an upright: known in half of the time
            return False
    if np.mean(quarters) < NEARER_BY_QUARTERS:
        return False
    if np.mean([nearer_rotated(draw.uniform(20, 340, count)) for _ in range(ROUNDS)]) < NEARER_BY_ANY:
        return False
    halves = (photos.shape[1] // 2, photos.shape[2] // 2)
    return probes.nearer(np.roll(probes.photos, halves, (1, 2))) < NEARER_BY_HALVES


class _Probes:
    """Some photos beside the others: how near each is to the nearest one, as teacher 1 sees them, place by place."""

    def __init__(
        self, model: RSTPM, photos: NDArray[np.uint8], device: torch.device, draw: np.random.Generator
    ) -> None:
        self._model, self._device = model, device
        bank = photos[np.sort(draw.permutation(len(photos))[:BANK])]
        rows = np.sort(draw.permutation(len(bank))[:PROBES])
        self.photos = bank[rows]  # (probes, H, W, 3)
        levels = _look(model, bank, device)
        self._moments = [torch.std_mean(level, (0, 2, 3), correction=0, keepdim=True) for level in levels]
        self._bank = self._described(levels)
        self._row = torch.from_numpy(rows)
        self._unchanged = self._nearest([level[self._row] for level in self._bank])

    def nearer(self, changed: NDArray[np.uint8]) -> float:
        """How often a photo is nearer to another one when it is as in `changed`, in the order of `photos`: 0 to 1."""
        found = self._nearest(self._described(_look(self._model, changed, self._device)))
        return float((found > self._unchanged).float().mean())

    def _described(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Each level as one vector of length 1 for each image, (N, C·h·w), with channels of one scale."""
        return [
            functional.normalize(((level - mean) / std.clamp(min=1e-6)).flatten(1), dim=1)
            for level, (std, mean) in zip(levels, self._moments, strict=True)
        ]

    def _nearest(self, probes: Sequence[Tensor]) -> Tensor:
        """Similarity of each probe to the nearest other photo, (levels, probes)."""
        similar = torch.stack([probe @ others.T for probe, others in zip(probes, self._bank, strict=True)])
        similar[:, torch.arange(len(self._row)), self._row] = -2
        return similar.amax(2)


def _look(model: RSTPM, images: NDArray[np.uint8], device: torch.device) -> list[Tensor]:
    """The levels of teacher 1 that student 1 imitates, (N, C, h, w) each, on the CPU; as fine as of `LOOK` pixels."""
    pieces = []
    for start in range(0, len(images), BATCH):
        found = model.teacher1_alone(torch.from_numpy(images[start : start + BATCH]).to(device))
        levels = dict(zip(model.strides1, found, strict=True))
        pieces.append([_pooled(levels[stride].float().cpu(), LOOK // stride) for stride in model.preset.strides])
    return [torch.cat(level) for level in zip(*pieces, strict=True)]


def _pooled(level: Tensor, most: int) -> Tensor:
    """`level` (N, C, h, w) averaged to at most `most` places a side."""
    size = (min(level.shape[2], most), min(level.shape[3], most))
    return functional.adaptive_avg_pool2d(level, size)
