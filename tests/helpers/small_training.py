"""Trainings in seconds, and how two of them are compared."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from rstpm_edge.progress import Progress
from rstpm_edge.training.learning import head_training, stage_times, synthetic_scores, train
from rstpm_edge.training.learning.checkpoint import load_checkpoint
from rstpm_edge.training.learning.job import Job
from rstpm_edge.training.learning.machine import Machine
from rstpm_edge.training.learning.options import TrainingOptions
from rstpm_edge.training.learning.run_config import RunConfig
from rstpm_edge.training.learning.run_summary import load_summary
from rstpm_edge.training.learning.stage_times import StageRates, measure_rates, plan_stages
from rstpm_edge.training.model.presets import Preset
from rstpm_edge.training.model.rstpm import RSTPM

CPU = Machine("cpu", precision="32-true")
SIZE = (64, 64)
RATES: dict[tuple[Preset, tuple[int, ...]], StageRates] = {}  # by the shape of the photos


def rates_once(fabric: Fabric, model: RSTPM, photos: NDArray[np.uint8]) -> StageRates:
    """As `measure_rates`, which is a fifth of a small training; a process measures each kind of training once."""
    kind = model.preset, photos.shape
    if kind not in RATES:
        RATES[kind] = measure_rates(fabric, model, photos)
    return RATES[kind]


def plan_quickly(
    job: Job, config: RunConfig, model: RSTPM, learned: NDArray[np.uint8], held_out: NDArray[np.uint8]
) -> None:
    """As `plan_stages`; without a time limit what the stages take is only told, and may be known from before."""
    with pytest.MonkeyPatch.context() as patch:
        if job.budget.max_minutes is None:
            patch.setattr(stage_times, "measure_rates", rates_once)
        plan_stages(job, config, model, learned, held_out)


@contextlib.contextmanager
def short_stages(synthetic: int = 8) -> Iterator[None]:
    """What is most of a small training's time, and says nothing of the rest, takes a moment.

    The segmentation head learns in few steps, and few (`synthetic`) defects are painted into held-out photos.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "plan_stages", plan_quickly)
        patch.setattr(synthetic_scores, "LEAST", synthetic)
        for module in (head_training, stage_times):
            patch.setattr(module, "STEPS", 20)
        patch.setattr(head_training, "PAINTED", (64, 64))
        yield


def teach(
    data: Path | Sequence[Path], folder: Path, *, report: Callable[[Progress], None] | None = None, **changes: Any
) -> Path:
    options = TrainingOptions(**{"epochs": 3, "size": SIZE, **changes})
    with short_stages():
        return train.train(data, options, CPU, folder=folder, report=report or (lambda progress: None))


def resume(folder: Path, *, report: Callable[[Progress], None] | None = None) -> Path:
    with short_stages():
        return train.resume(folder, CPU, report=report or (lambda progress: None))


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def same_results(first: Path, second: Path) -> None:
    """Two runs found the same, to the last bit; only the time that they took may differ."""
    summaries = [dataclasses.replace(load_summary(folder), minutes=0.0) for folder in (first, second)]
    assert summaries[0] == summaries[1]
    checkpoints = [load_checkpoint(folder) for folder in (first, second)]
    assert checkpoints[0]
    assert checkpoints[1]
    torch.testing.assert_close(dict(checkpoints[0].tensors), dict(checkpoints[1].tensors), rtol=0, atol=0)


class Stop:
    """A report that stops the training, as Ctrl-C would, when the first batch of an epoch (from 1) is done."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def __call__(self, progress: Progress) -> None:
        if progress.stage == "students" and progress.done == self.epoch:  # one batch is an epoch here
            raise KeyboardInterrupt
