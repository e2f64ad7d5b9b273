"""The teachers' features: in memory or on disk, and gone when they are no more needed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_training import SIZE, Stop, same_results, teach

from rstpm_edge.errors import OutputError
from rstpm_edge.progress import Progress
from rstpm_edge.training.learning import feature_cache as features
from rstpm_edge.training.learning import memory
from rstpm_edge.training.model.presets import EDGE
from rstpm_edge.training.model.rstpm import RSTPM


def test_features_on_disk_train_like_features_in_memory(
    parts: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = []
    original = features._store

    def store(shape: tuple[int, ...], path: Path, on_disk: bool) -> Any:
        array = original(shape, path, on_disk)
        kinds.append(type(array))
        return array

    monkeypatch.setattr(features, "_store", store)
    monkeypatch.setattr(features, "available_memory", lambda: 0)
    folder = teach(parts, tmp_path / "run")
    assert set(kinds) == {np.memmap}
    same_results(folder, whole)
    assert not (folder / "features").exists()


def test_no_features_are_left_behind_by_a_training_that_failed(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "available_memory", lambda: 0)
    seen = []

    def report(progress: Progress) -> None:
        seen.append((tmp_path / "run" / "features").exists())
        Stop(2)(progress)

    with pytest.raises(KeyboardInterrupt):
        teach(parts, tmp_path / "run", report=report)
    assert seen[-1]
    assert not (tmp_path / "run" / "features").exists()


def test_the_memory_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 8000 kB\n")
    monkeypatch.setattr(memory, "MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert memory.available_memory() == 8000 * 1024  # no limit that could be read
    (tmp_path / "memory.current").write_text("1000000\n")
    for limit, expected in (("max", 8000 * 1024), ("3000000", 2000000), ("900000", 0), ("99000000", 8000 * 1024)):
        (tmp_path / "memory.max").write_text(limit + "\n")
        assert memory.available_memory() == expected
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.stat").write_text("active_file 70\ninactive_file 400000\n")  # photos that were read before
    assert memory.available_memory() == 2400000


def test_features_that_do_not_fit_on_the_disk(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "available_memory", lambda: 0)
    monkeypatch.setattr(features.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    with pytest.raises(OutputError, match=r"features need 0\.0 GB in .*, where 0\.0 GB are free: make room"):
        teach(parts, tmp_path / "run")
    assert not (tmp_path / "run" / "features").exists()


def test_features_and_their_statistics(tmp_path: Path) -> None:
    model = RSTPM(EDGE)
    images = np.random.default_rng(0).integers(0, 256, (5, *SIZE, 3)).astype(np.uint8)
    cpu, done = torch.device("cpu"), []
    cache = features.compute_features(model, images, tmp_path, cpu, progress=done.append)
    assert done[-1] == 5
    pixels = torch.from_numpy(images)
    with torch.no_grad():
        raw1, raw2 = model.teachers(pixels)
        expected = model.prepare(pixels, raw1, raw2)
    assert [level.shape for level in (*cache.features1, *cache.features2)] == [level.shape for level in (*raw1, *raw2)]
    for level in expected.levels:
        torch.testing.assert_close(level.mean((0, 2, 3)), torch.zeros(level.shape[1]), atol=1e-2, rtol=0)
        assert float(level.std((0, 2, 3), correction=0).median()) == pytest.approx(1, abs=1e-2)
    rows = np.array([3, 1])
    batch = cache.batch(model, rows, cpu)
    half = {"atol": 0.02, "rtol": 0.01}  # half precision
    torch.testing.assert_close(batch.source, expected.source[rows], **half)
    torch.testing.assert_close(batch.deep, expected.deep[rows], **half)
    for got, want in zip(batch.levels, expected.levels, strict=True):
        torch.testing.assert_close(got, want[rows], **half)
