"""Benchmarks in no time: what trains and exports for those that test everything around it."""

from pathlib import Path
from typing import Any

import pytest
from bundles import make_bundle, write_model

from rstpm_edge.calibration import Calibration
from rstpm_edge.model.metadata import Fusion
from rstpm_edge.training.benchmark import run as benchmark
from rstpm_edge.training.benchmark.plan import BenchmarkPlan
from rstpm_edge.training.learning.options import TrainingOptions
from rstpm_edge.training.learning.run_summary import Summary, save_summary

TINY = ["--size", "64", "--epochs", "1", "--device", "cpu", "--precision", "32-true"]
Trainings = list[tuple[Path, int, list[Path]]]


def plan_for(data: Path, **changes: Any) -> BenchmarkPlan:
    options = {
        name: changes.pop(name) for name in ("preset", "augment", "epochs", "weights", "size") if name in changes
    }
    training = TrainingOptions(**{"epochs": 1, "size": (64, 64), **options})
    return BenchmarkPlan(**{"dataset": "mvtec", "data": data, "options": training, "seeds": (0,), **changes})


def export_in_no_time(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A tiny model that tells a white spot from grey is exported. The runs it was asked for."""
    runs: list[Path] = []

    def write(run: Path, output: Path) -> None:
        runs.append(run)
        write_model(output, make_bundle())

    monkeypatch.setattr(benchmark, "export", write)
    return runs


def train_in_no_time(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    """What was asked for, as (run, seed, files)."""
    seen: Trainings = []

    def train(files: list[Path], options: TrainingOptions, machine: Any, *, folder: Path, report: Any) -> Path:
        seen.append((folder, options.seed, list(files)))
        folder.mkdir(parents=True)
        save_summary(folder, Summary(1, 0.5, ((1.0, 1.0),), Fusion(), Calibration(0.5, (0.1,)), ("", "")))
        return folder

    monkeypatch.setattr(benchmark, "train", train)
    return seen
