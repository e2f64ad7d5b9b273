"""Fixtures of the tests of exports."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
from workplace import Workplace

from rstpm_edge.training.export import export as exporting
from rstpm_edge.training.learning.run_folder import load_config


@pytest.fixture(scope="module")
def graph(workplace: Workplace) -> onnx.ModelProto:
    """The exported model; do not change it."""
    return onnx.load(workplace.model)


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
