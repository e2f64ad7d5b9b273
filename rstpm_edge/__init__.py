"""Finds defects in images of manufactured parts after learning from good parts only.

    from rstpm_edge import Detector

    detector = Detector("model.onnx")
    result = detector(frame)
    result.score, result.p_value, result.is_anomalous, result.anomaly_map, result.regions

Everything that this package raises on purpose derives from `RstpmEdgeError`.
"""

from typing import TYPE_CHECKING, Any

from rstpm_edge import errors
from rstpm_edge.errors import RstpmEdgeError

if TYPE_CHECKING:
    from rstpm_edge.detector import Detector
    from rstpm_edge.native import kernels
    from rstpm_edge.result import Region, Result

__version__ = "0.1.0"
__all__ = ["Detector", "Region", "Result", "RstpmEdgeError", "__version__", "errors", "kernels"]

# Loaded when first used: OpenCV and ONNX Runtime take longer than most commands that do not need them.
_LAZY = {
    "Detector": "rstpm_edge.detector",
    "Region": "rstpm_edge.result",
    "Result": "rstpm_edge.result",
    "kernels": "rstpm_edge.native",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
