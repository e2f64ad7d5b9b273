"""Which values a graph's tensors take on real images, and where to cut their tails."""

import contextlib
import io
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from rstpm_edge.engine.no_telemetry import submodule
from rstpm_edge.engine.providers import INPUT_NAME

from ..graph.session import open_graph
from .entropy import VALUES, Histogram, least_divergence

# A tensor gets 256 values in the end, so finer bins tell little; the search for the least entropy takes time with
# their square.
BINS = 512
PERCENTILES = (99.99, 99.999)
METHODS = 2 + len(PERCENTILES)  # how many there are: with all values, and entropy

Ranges: TypeAlias = Mapping[str, tuple[np.float32, np.float32]]  # of each tensor, its smallest and largest value


def collect_ranges(
    graph: onnx.ModelProto,
    tensors: Collection[str],
    images: Sequence[NDArray[np.uint8]],
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> Mapping[str, Ranges]:
    """Ranges of these float tensors over `images` (H, W, 3) uint8, by each method: all values, and without tails.

    Tails are cut at percentiles, and where the distribution of what is left differs least from the whole: see
    `least_divergence`. `progress` is told how many images are done.
    """
    calibrate = submodule("quantization.calibrate")
    observed = onnx.ModelProto()
    observed.CopyFrom(graph)
    known = {value.name for value in observed.graph.output}
    for name in sorted(set(tensors) - known):
        observed.graph.output.append(helper.make_empty_tensor_value_info(name))
    session = open_graph(observed)
    collector = calibrate.HistogramCollector(
        method="percentile", symmetric=False, num_bins=BINS, num_quantized_bins=VALUES, percentile=100, scenario="same"
    )
    names = sorted(tensors)
    for done, image in enumerate(images, 1):
        values = session.run(names, {INPUT_NAME: image[None]})
        collector.collect_value(dict(zip(names, values, strict=True)))
        progress(done)

    histograms = {name: Histogram(*found[:4]) for name, found in collector.get_histogram_dict().items()}
    ranges: dict[str, Ranges] = {"all values": {name: found[2:] for name, found in histograms.items()}}
    for percentile in PERCENTILES:
        collector.percentile = percentile
        with contextlib.redirect_stdout(io.StringIO()):  # it prints as it goes
            limits = collector.compute_percentile()
        ranges[f"percentile {percentile:g}"] = {name: (low, high) for name, (low, high, *_) in limits.items()}
    ranges["entropy"] = {name: least_divergence(found) for name, found in histograms.items()}
    return ranges
