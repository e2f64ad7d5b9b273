"""Fixtures of the tests of sources."""

from __future__ import annotations

import pytest
from simulated_time import SimulatedTime

from rstpm_edge.sources import new_files, watched_folder, writers


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimulatedTime:
    """The time of watched folders."""
    simulated = SimulatedTime()
    for module in (new_files, watched_folder, writers):
        monkeypatch.setattr(module, "time", simulated)
    return simulated
