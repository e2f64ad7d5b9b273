"""Fixtures of the tests of training runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from once import once
from small_training import teach


@pytest.fixture(scope="session")
def whole(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a training in seconds: three epochs, not interrupted."""
    return once(tmp_path_factory, "whole", lambda folder: teach(parts, folder / "run")) / "run"
