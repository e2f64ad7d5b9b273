"""The students' training: its schedule, its time limit, and how it fails."""

from __future__ import annotations

import dataclasses
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import resume, teach

from rstpm_edge.errors import TrainingError
from rstpm_edge.progress import Progress
from rstpm_edge.training.learning import (
    head_training,
    stage_times,
    student_training,
    train,
)
from rstpm_edge.training.learning import time_budget as budget
from rstpm_edge.training.learning.checkpoint import load_checkpoint
from rstpm_edge.training.learning.run_summary import load_summary
from rstpm_edge.training.model import distances as distance
from rstpm_edge.training.model.presets import EDGE


def test_a_time_limit_ends_early_with_a_finished_schedule(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, rates, rate = [0.0], [], student_training._rate

    class Clock:
        def monotonic(self) -> float:
            return now[0]

    def report(progress: Progress) -> None:
        now[0] += progress.stage == "students"  # each batch of 16, one an epoch, takes a second

    def record(preset: Any, progress: float) -> float:
        rates.append(rate(preset, progress))
        return rates[-1]

    monkeypatch.setattr(budget, "time", Clock())
    monkeypatch.setattr(stage_times, "time", Clock())
    monkeypatch.setattr(student_training, "time", Clock())
    monkeypatch.setattr(head_training, "time", Clock())
    monkeypatch.setattr(student_training, "_rate", record)
    folder = teach(parts, tmp_path / "run", epochs=10_000, max_minutes=0.5, report=report)
    summary, checkpoint = load_summary(folder), load_checkpoint(folder)
    assert checkpoint
    assert checkpoint.epoch == summary.epochs == len(summary.losses) == len(rates)
    assert 27 <= summary.epochs <= 30
    assert summary.minutes == pytest.approx(0.5, abs=0.05)
    assert checkpoint.schedule == 1
    assert max(rates) > 0.95
    assert rates[-1] < 0.05
    resume(folder)  # nothing is left to do
    assert load_summary(folder).losses == summary.losses


def test_the_one_cycle_schedule() -> None:
    rates = [student_training._rate(EDGE, step / 1000) for step in range(1001)]
    assert max(rates) == rates[300] == 1
    assert rates[0] == pytest.approx(0.04)
    assert rates[1000] == pytest.approx(0)
    assert rates[:301] == sorted(rates[:301])
    assert rates[300:] == sorted(rates[300:], reverse=True)
    assert max(abs(a - b) for a, b in pairwise(rates)) < 0.01
    constant = dataclasses.replace(EDGE, schedule="constant")
    assert {student_training._rate(constant, step / 10) for step in range(11)} == {1.0}


def test_a_device_whose_memory_is_too_small(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    go_on = f"go on with `resume={tmp_path}/AT` `device=cpu`"
    for module, at, says in (
        (stage_times, "measure_stages", "train with a smaller `size`, or with `device=cpu`"),
        (train, "train_students", f"train again with `preset.batch_size=N`, below 8, or a smaller `size`, or {go_on}"),
        (train, "calibrate_model", go_on),
    ):
        run = tmp_path / at
        with monkeypatch.context() as patch:
            patch.setattr(module, at, full)
            sentence = rf"^The memory of cpu is too small; {re.escape(says.replace('AT', at))}\.$"
            with pytest.raises(TrainingError, match=sentence):
                teach(parts, run)
        assert not (tmp_path / at / "features").exists()


def test_a_loss_that_is_not_finite(parts: Path, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loss = distance.NormalizedResidual.loss

    def diverging(self: Any, student: Any, teacher: Any) -> Any:
        # From the second epoch on; steps that are tried before the first, to tell how long one takes, do not count.
        return loss(self, student, teacher) * (torch.nan if load_checkpoint(tmp_path / "run") else 1)

    monkeypatch.setattr(distance.NormalizedResidual, "loss", diverging)
    with pytest.raises(TrainingError, match=r"^The loss is not finite in epoch 2: the run keeps the epoch before;"):
        teach(parts, tmp_path / "run")
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint
    assert checkpoint.losses == load_summary(whole).losses[:1]
    assert not (tmp_path / "run" / "summary.json").exists()
    assert not (tmp_path / "run" / "features").exists()
