"""Fixtures of the tests of the leaderboard: sets of two categories, trainings in no time, and a stub for anomalib.

What needs torch is imported where it is used: these are loaded where there is none, too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import Result
from layouts import mvtec

if TYPE_CHECKING:
    from quick_benchmark import Trainings


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """An environment that is complete, and whose Python is the stub."""
    from leaderboard_stub import STUB, executable

    executable(tmp_path / "venv" / "bin" / "python", STUB.format(python=sys.executable))
    (tmp_path / "venv" / "complete").touch()
    return tmp_path / "venv"


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    from quick_benchmark import export_in_no_time, train_in_no_time

    export_in_no_time(monkeypatch)
    return train_in_no_time(monkeypatch)


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    return mvtec(tmp_path / "sets")


@pytest.fixture
def board(sets: Path, tmp_path: Path, venv: Path, trainings: Trainings) -> Callable[..., Result]:
    from leaderboard_stub import TINY, run

    def call(*arguments: object, output: str = "board") -> Result:
        return run(sets, "--output", tmp_path / output, "--venv", venv, *TINY, *arguments)

    return call
