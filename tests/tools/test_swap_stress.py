"""Swaps under load, a third of them with bad models: nothing is lost, and nothing is judged by half a model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import swap_stress
from bundles import Fusion, ModelFactory

from rstpm_edge.loaded_model import LoadedModel

pytestmark = pytest.mark.extra  # keys


@pytest.fixture
def models(model_factory: ModelFactory) -> list[Path]:
    """Two that differ in their networks, and in what is made of the maps."""
    other = model_factory("other.onnx", fusion=Fusion(weights=(2.0,) * 6), scale=1 / 100)
    return [model_factory("one.onnx"), other]


def check(models: list[Path], folder: Path, swaps: int) -> None:
    found = swap_stress.stress(models, folder, swap_stress.photos(models), swaps=swaps, threads=3)
    assert found.faults == []
    bad = [swap_stress.BAD[i % 4] for i in range(swaps // 3)]
    assert found.taken == swaps - len(bad)
    assert found.rolled_back == bad.count("failing on an image")
    assert found.refused.total() + found.rolled_back == len(bad)
    assert len(found.refused) == 3
    assert len(found.judged) == 2


def test_some_swaps(models: list[Path], tmp_path: Path) -> None:
    check(models, tmp_path, 24)


@pytest.mark.slow
def test_a_thousand_swaps(models: list[Path], tmp_path: Path) -> None:
    check(models, tmp_path, 1000)


def test_half_a_model_would_be_found(models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose threshold is that of the model before."""
    judge, thresholds = LoadedModel.judge, []

    def half(self: LoadedModel, *arguments: Any, **keywords: Any) -> Any:
        thresholds.append(self.threshold)
        mixed = dataclasses.replace(thresholds[-1], value=thresholds[-1].value + 0.1 * (len(thresholds) > 40))
        return judge(dataclasses.replace(self, threshold=mixed), *arguments, **keywords)

    monkeypatch.setattr(LoadedModel, "judge", half)
    found = swap_stress.stress(models, tmp_path, swap_stress.photos(models), swaps=6, threads=2)
    assert set(found.faults) == {"half a model judged"}
