"""Fixtures of the tests of benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from quick_benchmark import Trainings, export_in_no_time, train_in_no_time
from small_training import short_stages


@pytest.fixture
def quick_export(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The runs that were exported."""
    return export_in_no_time(monkeypatch)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch, quick_export: list[Path]) -> Trainings:
    return train_in_no_time(monkeypatch)


@pytest.fixture(autouse=True)
def short_heads() -> Iterator[None]:
    """No head learns for long in a benchmark that is tested."""
    with short_stages():
        yield
