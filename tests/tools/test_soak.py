"""`tools/soak.py` tells a leak from noise, and from what a process needs once."""

from __future__ import annotations

import numpy as np
import pytest
import soak
from click.testing import CliRunner
from numpy.typing import NDArray


def samples(rss: NDArray[np.float64], files: NDArray[np.int64] | None = None) -> list[soak.Sample]:
    """One for each thousand images."""
    files = np.full(len(rss), 7) if files is None else files
    return [soak.Sample("stage", float(i), 1000 * i, 0, float(rss[i]), int(files[i]), 4) for i in range(len(rss))]


def test_a_slope_is_found_behind_noise() -> None:
    noise = np.random.default_rng(0).normal(0, 0.2, 1000)
    steady = 120 + noise
    steady[:200] -= np.linspace(50, 0, 200)  # what is loaded at first is no leak
    found = soak.trend(samples(steady))
    assert abs(found.slope) < 0.1
    assert not found.grows(1.0)
    leak = soak.trend(samples(steady + np.arange(1000) * 0.02))  # 2 MB per 100,000 images
    assert leak.slope == pytest.approx(2, abs=4 * leak.error)
    assert leak.grows(1.0)


def test_a_file_that_is_open_for_a_moment_is_no_leak() -> None:
    steady, files = np.full(300, 120.0), np.full(300, 7)
    files[::5] += 1
    assert not soak.trend(samples(steady, files)).grows(1.0)
    files[200:] += 1
    assert soak.trend(samples(steady, files)).grows(1.0)


def test_a_moment_of_all_stages() -> None:
    result = CliRunner().invoke(soak.main, ["--minutes", "0.05", "--limit", "1e9"])
    assert result.exit_code == 0, result.output
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in result.stdout.splitlines()[2:]]
    assert [row[0] for row in rows] == ["one thread", "3 threads", "3 threads, models exchanged"]
    assert all(int(row[1].replace(",", "")) > 10 for row in rows)
    assert [int(row[2]) > 0 for row in rows] == [False, False, True]
