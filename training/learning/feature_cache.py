"""The teachers' features of the training images, computed once: a frozen network never changes its mind."""

import contextlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rstpm_edge.atomic_files import make_folder, new_file
from rstpm_edge.errors import OutputError

from ..model.rstpm import RSTPM, TeacherFeatures
from .memory import available_memory

BATCH = 16
MEMORY_SHARE = 0.5  # of what is free now; the rest is for the students and for whatever else the box does


class FeatureCache:
    """Teacher features of N images, half precision, in memory or in memory-mapped files.

    `images` (N, H, W, 3) uint8; `features1` and `features2` hold one (N, C, h, w) float16 array a level, not
    standardised. The first `photos` images are as photographed; after them come copies of all of them, in the same
    order, as often as there are.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        features1: Sequence[NDArray[Any]],
        features2: Sequence[NDArray[Any]],
        photos: int | None = None,
    ) -> None:
        self.images = images
        self.photos = photos or len(images)
        self.features1 = features1
        self.features2 = features2

    def spread(self, most: int) -> NDArray[np.int64]:
        """Rows of up to `most` of the photos, evenly spread over all of them."""
        return np.unique(np.linspace(0, self.photos - 1, min(self.photos, most)).round().astype(np.int64))

    def batch(self, model: RSTPM, rows: NDArray[np.int64], device: torch.device) -> TeacherFeatures:
        """The students' inputs and targets for some rows."""
        image = torch.from_numpy(self.images[rows]).to(device)
        # Laid out with channels last, as the images are: convolutions train a quarter faster so.
        raw1 = [_channels_last(level[rows]).to(device).float() for level in self.features1]
        raw2 = [_channels_last(level[rows]).to(device).float() for level in self.features2]
        return model.prepare(image, raw1, raw2)


@torch.no_grad()
def compute_features(
    model: RSTPM,
    images: NDArray[np.uint8],
    folder: Path,
    device: torch.device,
    *,
    photos: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> FeatureCache:
    """Run both teachers over `images` and, where the preset asks for it, set the channel statistics of `model`.

    The first `photos` of the images are as photographed, the others are copies of them (see `FeatureCache`).
    The features go to memory when half of what is free holds them, else to files in `folder`. `progress` is called
    with the number of images done after each batch.

    Raises OutputError when the disk does not hold them.
    """
    shapes = [tuple(level.shape[1:]) for level in _teacher_features(model, images[:1], device)]
    size = sum(int(np.prod(shape)) for shape in shapes) * 2 * len(images)
    on_disk = size > MEMORY_SHARE * available_memory()
    stores = [_store((len(images), *shape), folder / f"level_{i}.f16", on_disk) for i, shape in enumerate(shapes)]
    sums = [torch.zeros(2, shape[0], dtype=torch.float64) for shape in shapes]
    for start in range(0, len(images), BATCH):
        rows = slice(start, start + BATCH)
        for store, moments, level in zip(stores, sums, _teacher_features(model, images[rows], device), strict=True):
            half = level.cpu().clamp(-65504, 65504).half()  # the largest that float16 holds
            store[rows] = half.numpy()
            exact = half.double()
            moments += torch.stack([exact.sum((0, 2, 3)), exact.square().sum((0, 2, 3))])
        progress(min(start + BATCH, len(images)))
    split = len(model.teacher1.strides)
    if model.preset.standardize:
        for i, (moments, shape) in enumerate(zip(sums, shapes, strict=True)):
            mean, square = moments / (len(images) * shape[1] * shape[2])
            std = (square - mean.square()).clamp(min=0).sqrt()
            statistics, level_index = (model.standardize1, i) if i < split else (model.standardize2, i - split)
            statistics.set(level_index, mean.float(), std.float())
    return FeatureCache(images, stores[:split], stores[split:], photos)


def remove_features(folder: Path) -> None:
    """Delete what `compute_features` left in `folder`, and the folder above it when that was the last."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()


def _teacher_features(model: RSTPM, images: NDArray[np.uint8], device: torch.device) -> list[Tensor]:
    raw1, raw2 = model.teachers(torch.from_numpy(images).to(device))
    return [*raw1, *raw2]


def _channels_last(level: NDArray[Any]) -> Tensor:
    return torch.from_numpy(level).contiguous(memory_format=torch.channels_last)


def _store(shape: tuple[int, ...], path: Path, on_disk: bool) -> NDArray[Any]:
    if not on_disk:
        return np.empty(shape, np.float16)
    make_folder(path.parent)
    needed, free = 2 * int(np.prod(shape)), shutil.disk_usage(path.parent).free
    if needed > free:
        raise OutputError(
            f"The teachers' features need {needed / 1e9:.1f} GB in {path.parent}, where {free / 1e9:.1f} GB are free: "
            "make room, give fewer images, or a smaller `size`."
        )
    with new_file(path) as file:
        store = np.memmap(file, np.float16, "w+", shape=shape)
    path.unlink()  # mapped, it stays until nobody needs it: no process that is killed leaves gigabytes behind
    return store
