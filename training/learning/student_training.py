"""The optimisation loop: both students, epoch by epoch, with a checkpoint after each."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from rstpm_edge.errors import TrainingError, UsageError
from rstpm_edge.progress import Progress

from ..model.presets import Preset
from ..model.rstpm import RSTPM
from .checkpoint import OPTIMIZER, Checkpoint, load_trained_state, save_checkpoint, trained_state
from .feature_cache import FeatureCache
from .job import Job
from .run_config import RunConfig

UNTRIED = 10  # epochs at least that the first batch takes its rate from: how long it takes says how many there are


def train_students(
    job: Job,
    folder: Path,
    config: RunConfig,
    model: RSTPM,
    cache: FeatureCache,
    checkpoint: Checkpoint | None,
    plan_again: Callable[[], None] = lambda: None,
) -> list[tuple[float, float]]:
    """Train the students of `model` to the end of their schedule; returns the (pair 1, pair 2) losses of each epoch.

    `checkpoint` is where to go on. The budget says after each epoch how many more there are time for, and in the first
    one after each batch: what was measured before says little. `plan_again`, for all processes, is called before the
    first epoch and after it.

    Raises UsageError for more processes than a batch has images, TrainingError when a loss is not finite,
    OutputError when a checkpoint cannot be written.
    """
    fabric, budget, preset, count = job.fabric, job.budget, config.preset, cache.photos
    budget.begin("students")
    versions = len(cache.images) // count  # of each photo: itself, and copies
    optimizer = optimizer_of(model.students, preset)
    losses: list[tuple[float, float]] = []
    schedule = 0.0  # how far along, 0 to 1: time may end a training before its epochs do
    if checkpoint:
        _restore(model, optimizer, checkpoint)
        losses, schedule = list(checkpoint.losses), checkpoint.schedule
    shared, optimizer = fabric.setup(model.students, optimizer)  # the same students, by all processes
    batches = _batches(count, preset, fabric.world_size)
    plan_again()
    first, started = len(losses), time.monotonic()
    while len(losses) < preset.epochs and schedule < 1:
        epoch = len(losses)
        left = fabric.broadcast(budget.epochs_left(preset.epochs - epoch, epoch - first, started))
        plan = budget.plan(epoch + left - first)
        untried = epoch == first and budget.max_minutes is not None
        begun, step = schedule, (1 - schedule) / (max(left, UNTRIED if untried else 1) * batches)
        order = _order(count, versions, config.seed, epoch)
        shared.train()
        began = time.monotonic()
        sums = torch.zeros(2, device=fabric.device)
        parts = np.array_split(order, batches)
        for done, rows in enumerate(parts):
            if done and untried:
                left = fabric.broadcast(budget.epochs_left(preset.epochs - epoch, done / batches, started))
                step = (1 - schedule) / (left * batches - done)
            for group in optimizer.param_groups:
                group["lr"] = preset.learning_rate * _rate(preset, schedule)
            sums += _step(fabric, model, shared, optimizer, cache, rows)
            schedule += step
            end = epoch + left
            at, of = (epoch - first) * batches + done + 1, (end - first) * batches  # of this session, as its time is
            loss = losses[-1] if losses else _mean(sums, sum(map(len, parts[: done + 1])))
            job.report(Progress("students", at, of, loss, epoch=epoch + 1, epochs=end, plan=plan))
        mean = _mean(cast(Tensor, fabric.all_reduce(sums, reduce_op="mean")), count)
        budget.stepped(time.monotonic() - began)
        if not all(map(math.isfinite, mean)):
            raise TrainingError(
                f"The loss is not finite in epoch {epoch + 1}: the run keeps the epoch before; "
                "train again in full precision, or with another `seed`."
            )
        losses.append(mean)
        if epoch == first:
            paused = time.monotonic()
            plan_again()
            started += time.monotonic() - paused
        if left == 1:
            schedule = 1.0
            if untried:  # an end that was foreseen, and hardly measured
                more = fabric.broadcast(budget.epochs_left(preset.epochs - len(losses), 1, started, least=0))
                schedule = begun + (1 - begun) / (1 + more)
        if fabric.is_global_zero:
            save_checkpoint(folder, _snapshot(model, optimizer, len(losses), schedule, budget.minutes, losses))
        fabric.barrier()
    return losses


def _mean(sums: Tensor, images: int) -> tuple[float, float]:
    """The losses of (pair 1, pair 2) of one image, from their sums over so many."""
    mean = sums / images
    return float(mean[0]), float(mean[1])


def _batches(photos: int, preset: Preset, processes: int) -> int:
    """How many there are in an epoch. Raises UsageError for more processes than a batch has images."""
    batches = max(1, round(photos / preset.batch_size))
    if photos // batches < processes:
        raise UsageError(
            f"{processes} processes cannot share batches of {photos // batches} images; give fewer `processes`."
        )
    return batches


def _order(photos: int, versions: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The rows that an epoch learns from, in their order: one version of each photo, in each epoch another one."""
    # Its own generator for each epoch: a resumed run draws what the uninterrupted one would have drawn.
    order = np.random.default_rng((seed, epoch)).permutation(photos)
    return order + photos * ((order + epoch) % versions)


def optimizer_of(students: nn.Module, preset: Preset) -> torch.optim.Optimizer:
    """The optimiser that a preset asks for, of what is trained in `students`."""
    trained = [parameter for parameter in students.parameters() if parameter.requires_grad]
    if preset.optimizer == "sgd":
        return torch.optim.SGD(trained, preset.learning_rate, momentum=0.9, weight_decay=preset.weight_decay)
    return torch.optim.AdamW(trained, preset.learning_rate, weight_decay=preset.weight_decay)


def _step(
    fabric: Fabric,
    model: RSTPM,
    shared: nn.Module,
    optimizer: torch.optim.Optimizer,
    cache: FeatureCache,
    rows: NDArray[np.int64],
) -> Tensor:
    """One step of the optimiser on a batch, of which this process takes its part.

    Gives the losses of (pair 1, pair 2), times the batch's images; their mean over the processes is the whole batch's.
    """
    mine = rows[fabric.global_rank :: fabric.world_size]
    features = cache.batch(model, mine, fabric.device)
    outputs = shared(features.source, features.deep, features.levels[3:])
    levels_of_both = zip(model.distances, outputs, features.levels, strict=True)
    levels = torch.stack([distance.loss(student, teacher) for distance, student, teacher in levels_of_both])
    pairs = levels.view(2, 3).sum(1)  # (pair 1, pair 2), summed over levels
    share = len(mine) * fabric.world_size / len(rows)  # processes may hold unequal parts of a batch
    fabric.backward(pairs.sum() * share)
    optimizer.step()
    optimizer.zero_grad()
    return pairs.detach() * len(rows) * share


def _rate(preset: Preset, progress: float) -> float:
    """Share of the peak learning rate: one-cycle (Smith, 2018) rises over three tenths, then falls, by cosines."""
    if preset.schedule == "constant":
        return 1.0
    if progress < 0.3:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * progress / 0.3)) / 2
    return (1 + math.cos(math.pi * (progress - 0.3) / 0.7)) / 2


def _snapshot(
    model: RSTPM,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    schedule: float,
    minutes: float,
    losses: Sequence[tuple[float, float]],
) -> Checkpoint:
    tensors = {f"model/{name}": value for name, value in trained_state(model).items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {
            f"{OPTIMIZER}{index}/{key}": torch.as_tensor(value) for key, value in state.items() if value is not None
        }
    return Checkpoint(epoch, schedule, minutes, tuple(losses), tensors)


def _restore(model: RSTPM, optimizer: torch.optim.Optimizer, checkpoint: Checkpoint) -> None:
    load_trained_state(model, checkpoint)
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in checkpoint.tensors.items():
        if name.startswith(OPTIMIZER):
            _, index, key = name.split("/")
            state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
