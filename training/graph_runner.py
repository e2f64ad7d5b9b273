"""A graph that is still in memory, run in ONNX Runtime."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from rstpm_edge.ort import onnxruntime
from rstpm_edge.providers import INPUT_NAME
from rstpm_edge.session import usable_cores


def open_graph(graph: onnx.ModelProto | bytes) -> Any:
    """An inference session on the CPU, with as many threads as there are physical cores."""
    content = graph if isinstance(graph, bytes) else graph.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    options.log_severity_level = 4  # what goes wrong is raised
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run_maps(session: Any, names: Sequence[str], images: Iterable[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
    """The outputs `names` for `images`, each (H, W, 3) uint8 RGB, one after another: (N, …) float32 of each name."""
    each = [session.run(list(names), {INPUT_NAME: image[None]}) for image in images]
    return [np.concatenate(values) for values in zip(*each, strict=True)]
