"""Fixtures of the tests of quantization."""

from __future__ import annotations

import onnx
import pytest
from tiny_network import tiny_network


@pytest.fixture(scope="module")
def graph() -> onnx.ModelProto:
    """A tiny network; do not change it."""
    return tiny_network()
