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
from .int8 import quantize
from .int8_weights import Weights, weighted_nodes


@dataclass(frozen=True, eq=False)
class Trial:
    """A graph that is quantized in some nodes, and what that does to the maps: see `relative_error`."""

    graph: onnx.ModelProto
    error: float


@dataclass(frozen=True, eq=False)
class Subject:
    """A float graph, the images that it is measured on, (H, W, 3) uint8, and its maps of them, (N, h, w) each.

    `weights` is what `safe_weights` makes of it.
    """

    graph: onnx.ModelProto
    names: Sequence[str]
    images: Sequence[NDArray[np.uint8]]
    maps: Maps
    symmetric: bool
    weights: Mapping[str, Weights]

    def quantized(self, ranges: Ranges, nodes: Collection[str]) -> Trial:
        """With these nodes in 8 bits."""
        graph = quantize(self.graph, ranges, nodes, symmetric=self.symmetric, weights=self.weights)
        return Trial(graph, relative_error(self.maps, run_maps(open_graph(graph), self.names, self.images)))


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
    everything: Trial,
    *,
    target: float,
    seconds: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[tuple[str, ...], Trial]:
    """The blocks to leave in float so that the maps' error falls to `target`, and the graph that is then left.

    `everything` has all blocks quantized. Each is quantized alone; those that do most harm are left in float, one more
    at a time. At most half of all blocks are, and measuring them ends after `seconds`: for a large network, only as
    many as it got to. `progress` is told how many pieces are done of how many.
    """
    if everything.error <= target:
        return (), everything
    parts = blocks(subject.graph)
    most = len(parts) // 2
    pieces = len(parts) + most
    started = time.monotonic()
    harm: dict[str, float] = {}
    for name, nodes in parts.items():
        if time.monotonic() - started > seconds:
            break
        harm[name] = subject.quantized(ranges, nodes).error
        progress(len(harm), pieces)
    kept: list[str] = []
    trial = everything
    for name in sorted(harm, key=lambda block: -harm[block])[:most]:
        kept.append(name)
        # Errors of different blocks add up like those of independent measurements. What the sum of them says to be far
        # off is not worth a run of its own.
        rest = sum(harm[other] ** 2 for other in harm if other not in kept) ** 0.5
        if rest > 1.5 * target and len(kept) < min(most, len(harm)):
            continue
        trial = subject.quantized(ranges, [n for part, nodes in parts.items() if part not in kept for n in nodes])
        progress(len(parts) + len(kept), pieces)
        if trial.error <= target:
            break
    progress(pieces, pieces)
    return tuple(kept), trial
