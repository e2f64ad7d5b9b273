"""A registry and models for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from bundles import Fusion, ModelFactory

from rstpm_edge.registry.registry import Registry, make_registry


@pytest.fixture
def models(model_factory: ModelFactory) -> list[Path]:
    """Three models of one product."""
    return [model_factory(f"{i}.onnx", fusion=Fusion(weights=(float(i),) * 6)) for i in (1, 2, 3)]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """An empty one."""
    return make_registry(tmp_path / "registry")


@pytest.fixture
def filled(registry: Registry, models: list[Path]) -> Registry:
    """Three versions of bracket: the first one is live."""
    for model in models:
        registry.add("bracket", model)
    registry.promote("bracket", 1, "live")
    return registry
