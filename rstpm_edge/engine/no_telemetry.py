"""ONNX Runtime, imported so that it reports to nobody. The whole package takes it from here.

Since 1.29 its builds for Linux report to Microsoft and write to ~/.cache/Microsoft, from the moment of the import on.
"""

import importlib
import os
from typing import Any

_OPT_OUT = "ORT_DISABLE_TELEMETRY"


def _import() -> Any:
    quiet = _OPT_OUT in os.environ
    os.environ.setdefault(_OPT_OUT, "1")  # it looks once, while it is imported
    try:
        import onnxruntime  # a statement, so that programs like PyInstaller see it

        return onnxruntime
    finally:
        if not quiet:
            del os.environ[_OPT_OUT]


onnxruntime: Any = _import()


def submodule(name: str) -> Any:
    """A module of ONNX Runtime's own that it does not load by itself, such as "quantization.calibrate"."""
    return importlib.import_module(f"onnxruntime.{name}")
