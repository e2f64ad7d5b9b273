"""Triton's published model_config.proto, as the wheel `tritonclient` has it compiled."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest


def parse_config(text: str) -> Any:
    """The ModelConfig that a config.pbtxt is. Raises google.protobuf.text_format.ParseError for what is none.

    The module is loaded by its file: the package around it needs gRPC. Skips the test where the wheel is missing.
    """
    text_format = pytest.importorskip("google.protobuf.text_format")
    package = importlib.util.find_spec("tritonclient")
    if package is None or not package.submodule_search_locations:
        pytest.skip("tritonclient is missing: pip install '.[dev]'")
    file = Path(package.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return text_format.Parse(text, module.ModelConfig())
