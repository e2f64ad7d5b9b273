"""ONNX Runtime, imported so that it reports to nobody. The whole package takes it from here.

Since 1.29 its builds for Linux report to Microsoft and write to ~/.cache/Microsoft, from the moment of the import on.
"""

import importlib
import os
from typing import Any

_OPT_OUT = "ORT_DISABLE_TELEMETRY"


def _import() -> Any:
    if _OPT_OUT in os.environ:
        return importlib.import_module("onnxruntime")
    os.environ[_OPT_OUT] = "1"  # it looks once, while it is imported
    try:
        return importlib.import_module("onnxruntime")
    finally:
        del os.environ[_OPT_OUT]


onnxruntime: Any = _import()


def submodule(name: str) -> Any:
    """A module of ONNX Runtime's own that it does not load by itself, such as "quantization.calibrate"."""
    return importlib.import_module(f"onnxruntime.{name}")
