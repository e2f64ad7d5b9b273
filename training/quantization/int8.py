"""A graph with 8-bit convolutions: QuantizeLinear and DequantizeLinear around them, where runtimes look for them.

They stand where ONNX Runtime's own quantizer puts them, and hold the same numbers (a test compares). It takes each
channel of each weight by itself, and all nodes for each tensor: seconds for a graph, of which dozens are tried before
it is known what stays in float.
"""

from collections import Counter
from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .activation_ranges import Ranges
from .int8_weights import WEIGHTED, Array, Weights, safe_weights, steps_of, weighted_nodes

ACTIVATIONS = ("Clip", "Relu")  # 8-bit numbers that stop at the right value need no operator for them
_INT32 = np.iinfo(np.int32)


def tensors_with_ranges(graph: onnx.ModelProto) -> list[str]:
    """The tensors whose ranges `quantize` needs: what goes into the weighted nodes and what comes out of them."""
    chosen = set(weighted_nodes(graph))
    tensors = {name for node in graph.graph.node if node.name in chosen for name in (node.input[0], *node.output)}
    return sorted(tensors | set(_activations(graph).values()))


def quantize(
    graph: onnx.ModelProto,
    ranges: Ranges,
    nodes: Collection[str],
    *,
    symmetric: bool = False,
    weights: Mapping[str, Weights] | None = None,
) -> onnx.ModelProto:
    """`graph` with `nodes` (some of `weighted_nodes`) in 8 bits, weights per output channel; the rest stays float32.

    `weights` is `safe_weights(graph)`, which takes a while: with them, no processor's sums saturate.

    Activations are unsigned, with zero wherever it falls, which loses least and is what CPUs multiply fastest. With
    `symmetric` they are signed, with zero at 0, biases stay float32, and nothing is quantized behind a convolution, but
    only before the next: TensorRT takes nothing else.
    """
    weights = safe_weights(graph) if weights is None else weights
    names = set(nodes)
    chosen = [node for node in graph.graph.node if node.name in names]
    activations = {} if symmetric else _activations(graph)
    # A node whose activation goes gives that one's output.
    renamed = {node.output[0]: activations.get(node.output[0], node.output[0]) for node in chosen}
    quantized = {node.input[0] for node in chosen} | (set() if symmetric else set(renamed.values()))
    quantized -= {value.name for value in graph.graph.output}
    superfluous = {before for before, after in renamed.items() if before != after}
    writer = _Writer(graph, symmetric)
    for node in graph.graph.node:
        if superfluous.intersection(node.input):
            continue
        copy = writer.add(node, renamed)
        if node.name in names:
            writer.quantize_constants(copy, node.input[0], weights[node.name])
        for name in quantized.intersection(copy.output):
            writer.quantize_tensor(name, *ranges[name])
    return writer.finish()


def _activations(graph: onnx.ModelProto) -> dict[str, str]:
    """Of each weighted node's output that goes to one activation and nowhere else, the output of that activation."""
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    outputs = {node.output[0] for node in graph.graph.node if node.op_type in WEIGHTED}
    outputs -= {value.name for value in graph.graph.output}
    return {
        name: users[name][0].output[0]
        for name in outputs
        if len(users.get(name, ())) == 1 and users[name][0].op_type in ACTIVATIONS
    }


class _Writer:
    """Copies a graph node by node. Whoever reads a tensor that was quantized reads what its 8-bit numbers mean."""

    def __init__(self, graph: onnx.ModelProto, symmetric: bool) -> None:
        self._graph, self._symmetric = graph, symmetric
        self._constants = {tensor.name: tensor for tensor in graph.graph.initializer}
        self._users = Counter(name for node in graph.graph.node for name in node.input)
        self._nodes: list[onnx.NodeProto] = []
        self._steps: dict[str, Array] = {}  # of quantized tensors
        self._read: dict[str, str] = {}  # what stands for them

    def add(self, node: onnx.NodeProto, renamed: Mapping[str, str]) -> onnx.NodeProto:
        """Copy a node, its outputs `renamed`; gives the copy."""
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [self._read.get(name, name) for name in node.input]
        copy.output[:] = [renamed.get(name, name) for name in node.output]
        self._nodes.append(copy)
        return copy

    def quantize_tensor(self, name: str, low: np.float32, high: np.float32) -> None:
        """Put both quantizers behind a tensor with values from `low` to `high`."""
        low, high = min(low, np.float32(0)), max(high, np.float32(0))
        if self._symmetric:
            step, zero = steps_of(np.maximum(-low, high), 127), np.zeros((), np.int8)
        else:
            span = np.float64(high) - np.float64(low)
            step = steps_of(span, 255)
            zero = np.round(-low / (span / 255) if step != 1 else 0.0).astype(np.uint8)
        self._steps[name] = step
        self._read[name] = self._pair(name, step, zero)

    def quantize_constants(self, node: onnx.NodeProto, data: str, weights: Weights) -> None:
        """Let a node that was just added, and reads `data`, have its weights in 8 bits and its bias in 32."""
        self._nodes.pop()
        steps, bias = weights.steps, None
        if len(node.input) > 2 and not self._symmetric:
            bias = numpy_helper.to_array(self._constants[node.input[2]]).astype(np.float64)  # (O,)
            # It counts in steps of the data times those of the weights, which must be wide enough for it.
            least = 1.0001 * np.abs(bias) / _INT32.max / np.float64(self._steps[data])
            steps = np.maximum(steps, least.astype(np.float32))
        # Under the same name, floats would take the place of those that another node reads.
        shared = self._symmetric and self._users[node.input[1]] > 1
        name, zeros = self._own(node.input[1], shared=shared), np.zeros(len(steps), np.int8)
        if self._symmetric:  # floats with both quantizers behind them, as TensorRT 8 needs weights
            self._constant(name, weights.values)
            node.input[1] = self._pair(name, steps, zeros, axis=weights.axis)
        else:
            node.input[1] = self._stored(name, weights.rounded(steps), steps, zeros, weights.axis)
        if bias is not None:
            product = steps * self._steps[data]
            counts = np.clip(np.round(bias / product.astype(np.float64)), _INT32.min, _INT32.max).astype(np.int32)
            node.input[2] = self._stored(self._own(node.input[2]), counts, product, np.zeros(len(counts), np.int32), 0)
        self._nodes.append(node)

    def finish(self) -> onnx.ModelProto:
        """The whole graph, with the constants that are used."""
        used = {name for node in self._nodes for name in node.input}
        made = helper.make_graph(
            self._nodes,
            self._graph.graph.name,
            self._graph.graph.input,
            self._graph.graph.output,
            [tensor for name, tensor in self._constants.items() if name in used],
        )
        return helper.make_model(made, opset_imports=self._graph.opset_import, ir_version=self._graph.ir_version)

    def _own(self, name: str, *, shared: bool = False) -> str:
        """A name for what a node makes of a constant, which others may use, too: a new one where it is `shared`."""
        return f"{name}_{len(self._nodes)}" if shared or f"{name}_scale" in self._constants else name

    def _constant(self, name: str, value: Array) -> str:
        self._constants[name] = numpy_helper.from_array(value, name)
        return name

    def _pair(self, name: str, step: Array, zero: Array, axis: int | None = None) -> str:
        """Both quantizers behind the float tensor `name`; gives what they give."""
        scale = [self._constant(f"{name}_scale", step), self._constant(f"{name}_zero_point", zero)]
        small = self._linear("QuantizeLinear", name, name, scale, axis)
        return self._linear("DequantizeLinear", name, small, scale, axis)

    def _stored(self, name: str, small: Array, step: Array, zero: Array, axis: int) -> str:
        """Integers as a constant, and what gives the floats that they stand for; gives the name of these."""
        scale = [self._constant(f"{name}_scale", step), self._constant(f"{name}_zero_point", zero)]
        return self._linear("DequantizeLinear", name, self._constant(f"{name}_quantized", small), scale, axis)

    def _linear(self, operator: str, name: str, source: str, scale: list[str], axis: int | None) -> str:
        output = f"{name}_{operator}_Output"
        node = helper.make_node(operator, [source, *scale], [output], f"{name}_{operator}")
        if axis is not None:
            node.attribute.append(helper.make_attribute("axis", axis))
        self._nodes.append(node)
        return output
