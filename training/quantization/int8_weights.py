"""Weights in 8 bits: of each output channel, which numbers are rounded and what a step means."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from ..graph.onnx_graph import MAPS
from .saturation import without_saturation

Array: TypeAlias = NDArray[Any]

WEIGHTED = ("Conv", "Gemm")  # what is worth it: nearly all multiplications
_FULL, _HALF = 127, 64  # the largest number, where sums fit into 16 bits and where two of the largest must


@dataclass(frozen=True, eq=False)
class Weights:
    """A weighted node's weights before they are rounded, and of each of its O output channels, along `axis`, a step."""

    values: NDArray[np.float32]
    steps: NDArray[np.float32]  # (O,)
    axis: int

    def rounded(self, steps: NDArray[np.float32]) -> NDArray[np.int8]:
        """In these steps, (O,), no smaller than its own."""
        shape = [1] * self.values.ndim
        shape[self.axis] = len(steps)
        return np.clip(np.round(self.values / steps.reshape(shape)), -128, 127).astype(np.int8)


def weighted_nodes(graph: onnx.ModelProto) -> list[str]:
    """The nodes that can be quantized: convolutions and products with constant weights, in the graph's order.

    Not those that measure maps, distances and head, which stay in float whole.
    """
    constants = {tensor.name: len(tensor.dims) for tensor in graph.graph.initializer}
    return [
        node.name
        for node in graph.graph.node
        if node.op_type in WEIGHTED
        and not node.name.startswith(MAPS)
        and node.input[1] in constants
        and all(constants.get(bias) == 1 for bias in node.input[2:])
        and not any(_changes_factors(entry) for entry in node.attribute)
    ]


def _changes_factors(attribute: onnx.AttributeProto) -> bool:
    """Whether a Gemm transposes its data or multiplies by another factor than 1, which none does that is exported."""
    return attribute.i != 0 if attribute.name == "transA" else attribute.name in ("alpha", "beta") and attribute.f != 1


def plain_weights(graph: onnx.ModelProto) -> dict[str, Weights]:
    """Of each of `weighted_nodes`, by its name, the weights as they are."""
    return {
        node.name: Weights(values, steps_of(np.abs(values).max(axis=_others(values, axis), initial=0.0), _FULL), axis)
        for node, values, axis in _constants(graph)
    }


def safe_weights(graph: onnx.ModelProto) -> dict[str, Weights]:
    """Of each of `weighted_nodes`, by its name, weights such that no sums saturate on any processor.

    As they are where an output has one input channel: its products are added in 32 bits everywhere.
    """
    found = plain_weights(graph)
    for node, values, axis in _constants(graph):
        if node.op_type != "Conv":
            largest = np.abs(values).max(axis=_others(values, axis), initial=0.0)
            found[node.name] = Weights(values, steps_of(largest, _HALF), axis)
        elif values.shape[1] > 1:
            fitting, limits = without_saturation(values, pairs=values.shape[1] % 2 == 0)
            found[node.name] = Weights(fitting, steps_of(limits, _FULL), axis)
    return found


def steps_of(largest: NDArray[np.floating], number: int) -> NDArray[np.float32]:
    """What 1 means where `largest` is to become `number`; 1 where there is nothing to tell apart."""
    steps = np.asarray(largest, np.float64) / number
    return np.where(steps < np.finfo(np.float32).tiny, 1.0, steps).astype(np.float32)


def _others(values: NDArray[np.float32], axis: int) -> tuple[int, ...]:
    return tuple(other for other in range(values.ndim) if other != axis)


def _constants(graph: onnx.ModelProto) -> list[tuple[onnx.NodeProto, NDArray[np.float32], int]]:
    """The weighted nodes with their weights, and along which axis the output channels of these lie."""
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    chosen = set(weighted_nodes(graph))
    found = []
    for node in graph.graph.node:
        if node.name in chosen:
            transposed = any(entry.name == "transB" and entry.i for entry in node.attribute)
            axis = 0 if node.op_type == "Conv" or transposed else 1
            found.append((node, numpy_helper.to_array(tensors[node.input[1]]), axis))
    return found
