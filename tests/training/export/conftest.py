"""Fixtures of the tests of exports."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from workplace import Workplace

from rstpm_edge.image.decode import read_image
from rstpm_edge.training.export import export as exporting
from rstpm_edge.training.learning.run_config import load_config


@pytest.fixture(scope="module")
def images(parts: Path) -> list[NDArray[np.uint8]]:
    """Pictures of parts, RGB, with and without a defect."""
    return [read_image(path) for path in sorted((parts / "test").rglob("*.png"))[::2]]


@pytest.fixture(scope="module")
def graph(workplace: Workplace) -> onnx.ModelProto:
    """The exported model; do not change it."""
    return onnx.load(workplace.model)


@pytest.fixture
def run_copy(workplace: Workplace, tmp_path: Path) -> Path:
    """A copy of the run, to spoil."""
    return Path(shutil.copytree(workplace.run, tmp_path / "run"))


@pytest.fixture
def quick(graph: onnx.ModelProto, workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> onnx.ModelProto:
    """Lets `export` take the graph from the model that is there: tracing it again takes long. May be changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    del copy.metadata_props[:]

    def to_onnx(model: Any, size: tuple[int, int], *, any_batch: bool = False) -> onnx.ModelProto:
        assert size == (load_config(workplace.run).height, load_config(workplace.run).width)
        fresh = onnx.ModelProto()
        fresh.CopyFrom(copy)
        return fresh

    monkeypatch.setattr(exporting, "to_onnx", to_onnx)
    return copy
