"""A graph that is still in memory, run in ONNX Runtime."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from rstpm_edge.cpu import usable_cores
from rstpm_edge.engine.no_telemetry import onnxruntime
from rstpm_edge.engine.onnx_runtime import session_options
from rstpm_edge.engine.providers import INPUT_NAME


def open_graph(graph: onnx.ModelProto | bytes) -> Any:
    """An inference session on the CPU, with the options that `Detector` takes."""
    content = graph if isinstance(graph, bytes) else graph.SerializeToString()
    return onnxruntime.InferenceSession(content, session_options(usable_cores()), providers=["CPUExecutionProvider"])


def run_maps(session: Any, names: Sequence[str], images: Iterable[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
    """The outputs `names` for `images`, each (H, W, 3) uint8 RGB, one after another: (N, …) float32 of each name."""
    each = [session.run(list(names), {INPUT_NAME: image[None]}) for image in images]
    return [np.concatenate(values) for values in zip(*each, strict=True)]
