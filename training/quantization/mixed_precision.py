"""Which parts of a network lose most in 8 bits, measured on the maps: those stay in float."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from rstpm_edge.engine.int8_check import Maps, relative_error

from ..graph.session import open_graph, run_maps
from .activation_ranges import Ranges
from .int8 import SafeWeights, quantize, weighted_nodes


@dataclass(frozen=True)
class Subject:
    """A float graph, the images that it is measured on, (H, W, 3) uint8, and its maps of them, (N, h, w) each.

    `safe` is what `safe_weights` makes of it.
    """

    graph: onnx.ModelProto
    names: Sequence[str]
    images: Sequence[NDArray[np.uint8]]
    maps: Maps
    symmetric: bool
    safe: Mapping[str, SafeWeights]

    def error(self, ranges: Ranges, nodes: Collection[str]) -> float:
        """What quantizing these nodes does to the maps: see `relative_error`."""
        quantized = quantize(self.graph, ranges, nodes, symmetric=self.symmetric, safe=self.safe)
        return relative_error(self.maps, run_maps(open_graph(quantized), self.names, self.images))


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
    blocks are, and measuring them ends after `seconds`: for a large network, only as many as it got to. `progress` is
    told how many pieces are done of how many.
    """
    parts = blocks(subject.graph)
    most = len(parts) // 2
    pieces = len(parts) + most
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
        progress(len(harm), pieces)
    kept: list[str] = []
    for name in sorted(harm, key=lambda block: -harm[block])[:most]:
        kept.append(name)
        # Errors of different blocks add up like those of independent measurements. What the sum of them says to be far
        # off is not worth a run of its own.
        rest = sum(harm[other] ** 2 for other in harm if other not in kept) ** 0.5
        if rest > 1.5 * target and len(kept) < most:
            continue
        error = subject.error(ranges, [n for part, nodes in parts.items() if part not in kept for n in nodes])
        progress(len(parts) + len(kept), pieces)
        if error <= target:
            break
    progress(pieces, pieces)
    return tuple(kept), error
