"""Which parts of a network lose most in 8 bits, measured on the maps: those stay in float."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from .graph_runner import open_graph, run_maps
from .quantize import quantize, weighted_nodes
from .ranges import Ranges

Maps = Sequence[NDArray[np.float32]]


@dataclass(frozen=True)
class Subject:
    """A float graph, the images that it is measured on, (H, W, 3) uint8, and its maps of them, (N, h, w) each."""

    graph: onnx.ModelProto
    names: Sequence[str]
    images: Sequence[NDArray[np.uint8]]
    maps: Maps
    symmetric: bool

    def error(self, ranges: Ranges, nodes: Collection[str]) -> float:
        """What quantizing these nodes does to the maps: see `relative_error`."""
        quantized = quantize(self.graph, ranges, nodes, symmetric=self.symmetric)
        return relative_error(self.maps, run_maps(open_graph(quantized), self.names, self.images))


def relative_error(before: Maps, after: Maps) -> float:
    """What of the maps `after` a change, (N, h, w) each, is not a scaled and shifted `before`: 0 nothing, 1 everything.

    Root mean square over the maps, each relative to its own deviation; maps that never vary say nothing. Scale and
    shift do not count, since the calibration takes them up.
    """
    unexplained = []
    for x, y in zip(before, after, strict=True):
        if max(x.std(), y.std()) < 1e-6:
            continue
        deviation = float(x.std()) * float(y.std())
        correlation = float(np.mean((x - x.mean()) * (y - y.mean()), dtype=np.float64)) / max(deviation, 1e-12)
        unexplained.append(1 - min(correlation, 1.0) ** 2)
    return float(np.sqrt(np.mean(unexplained))) if unexplained else 0.0


def blocks(graph: onnx.ModelProto) -> dict[str, list[str]]:
    """The nodes that can be quantized, by the block of the network that they belong to, in the graph's order.

    A block is what the first four parts of a name say, as in teacher1/blocks/2/0/conv_pw/Conv.
    """
    found: dict[str, list[str]] = {}
    for name in weighted_nodes(graph):
        found.setdefault("/".join(name.split("/")[:-1][:4]), []).append(name)
    return found


def keep_sensitive(
    subject: Subject,
    ranges: Ranges,
    *,
    target: float,
    seconds: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[tuple[str, ...], float]:
    """The blocks to leave in float so that the maps' error falls to `target`, and the error that is then left.

    Each block is quantized alone; those that do most harm are left in float, one more at a time. At most half of all
    blocks are, and measuring them ends after `seconds`: for a large network, only as many as it got to.
    """
    parts = blocks(subject.graph)
    everything = [node for nodes in parts.values() for node in nodes]
    error = subject.error(ranges, everything)
    if error <= target:
        return (), error
    started = time.monotonic()
    harm: dict[str, float] = {}
    for name, nodes in parts.items():
        if time.monotonic() - started > seconds:
            break
        harm[name] = subject.error(ranges, nodes)
        progress(len(harm), len(parts))
    kept: list[str] = []
    for name in sorted(harm, key=lambda block: -harm[block])[: len(parts) // 2]:
        kept.append(name)
        # Errors of different blocks add up like those of independent measurements. What the sum of them says to be far
        # off is not worth a run of its own.
        rest = sum(harm[other] ** 2 for other in harm if other not in kept) ** 0.5
        if rest > 1.5 * target and len(kept) < len(parts) // 2:
            continue
        error = subject.error(ranges, [n for part, nodes in parts.items() if part not in kept for n in nodes])
        if error <= target:
            break
    return tuple(kept), error
