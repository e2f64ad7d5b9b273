"""Which values a graph's tensors take on real images, and where to cut their tails, by ONNX Runtime's own tools."""

import contextlib
import io
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from rstpm_edge.engine.no_telemetry import submodule
from rstpm_edge.engine.providers import INPUT_NAME

from ..graph.session import open_graph

# A tensor gets 256 values in the end, so finer bins tell little; the search for the least entropy takes time with
# their square.
BINS = 512
PERCENTILES = (99.99, 99.999)
METHODS = 2 + len(PERCENTILES)  # how many there are: with all values, and entropy

# Of each tensor, its smallest and largest value: what ONNX Runtime calls TensorsData.
Ranges = Any


def collect_ranges(
    graph: onnx.ModelProto,
    tensors: Collection[str],
    images: Sequence[NDArray[np.uint8]],
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> Mapping[str, Ranges]:
    """Ranges of these float tensors over `images` (H, W, 3) uint8, by each method: all values, and without tails.

    Tails are cut at percentiles, and where the distribution of what is left differs least from the whole (the
    entropy calibration of Migacz, "8-bit Inference with TensorRT", 2017). `progress` is told how many images are done.
    """
    calibrate = submodule("quantization.calibrate")
    methods = calibrate.CalibrationMethod
    observed = onnx.ModelProto()
    observed.CopyFrom(graph)
    known = {value.name for value in observed.graph.output}
    for name in sorted(set(tensors) - known):
        observed.graph.output.append(helper.make_empty_tensor_value_info(name))
    session = open_graph(observed)
    collector = calibrate.HistogramCollector(
        method="percentile", symmetric=False, num_bins=BINS, num_quantized_bins=128, percentile=100, scenario="same"
    )
    names = sorted(tensors)
    for done, image in enumerate(images, 1):
        values = session.run(names, {INPUT_NAME: image[None]})
        collector.collect_value(dict(zip(names, values, strict=True)))
        progress(done)

    def ranges(method: Any, limits: Mapping[str, Sequence[Any]]) -> Ranges:
        low_high = {name: (np.float32(limit[0]), np.float32(limit[1])) for name, limit in limits.items()}
        data = {name: calibrate.TensorData(lowest=low, highest=high) for name, (low, high) in low_high.items()}
        return calibrate.TensorsData(method, data)

    smallest_and_largest = {name: histogram[2:4] for name, histogram in collector.get_histogram_dict().items()}
    found = {"all values": ranges(methods.MinMax, smallest_and_largest)}
    with contextlib.redirect_stdout(io.StringIO()):  # they print as they go
        for percentile in PERCENTILES:
            collector.percentile = percentile
            found[f"percentile {percentile:g}"] = ranges(methods.Percentile, collector.compute_percentile())
        found["entropy"] = ranges(methods.Entropy, collector.compute_entropy())
    return found
