"""How much of a quantized graph is computed in integers."""

from dataclasses import dataclass
from math import prod

import onnx
from onnx import helper

from ..graph.compatibility import static_shapes
from .int8 import ACTIVATIONS

_AROUND = ("QuantizeLinear", "DequantizeLinear")
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class IntegerShare:
    """Shares from 0 to 1: of the operators (quantizing itself not counted), and of the multiplications."""

    operators: float
    multiplications: float


def integer_share(graph: onnx.ModelProto) -> IntegerShare:
    """What of `graph` a runtime can compute in integers: operators that take and give nothing but quantized tensors.

    Multiplications are those of convolutions and matrix products, for one image.
    """
    shapes = static_shapes(graph)
    constants = {tensor.name: tuple(tensor.dims) for tensor in graph.graph.initializer}
    dequantized = {node.output[0]: node for node in graph.graph.node if node.op_type == "DequantizeLinear"}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    counted = integer = 0
    products = integer_products = 0
    for node in graph.graph.node:
        if node.op_type in _AROUND:
            continue
        inputs = [name for name in node.input if name and name not in constants]
        quantized = bool(inputs) and all(name in dequantized for name in inputs)
        behind = users.get(node.output[0], [])
        if len(behind) == 1 and behind[0].op_type in ACTIVATIONS:  # runtimes compute it along with the node
            behind = users.get(behind[0].output[0], [])
        whole = quantized and {user.op_type for user in behind} == {"QuantizeLinear"}
        counted, integer = counted + 1, integer + whole
        if node.op_type in _WEIGHTED:
            work = _multiplications(node, shapes)
            products, integer_products = products + work, integer_products + work * whole
    return IntegerShare(integer / max(counted, 1), integer_products / max(products, 1))


def _multiplications(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    """Multiplications of a convolution or a matrix product for one image."""
    data, weights, output = (shapes[name] for name in (*node.input[:2], node.output[0]))
    if node.op_type == "Conv":
        return prod(output) * prod(weights[1:])
    if node.op_type == "ConvTranspose":
        return prod(data) * prod(weights[1:])
    transposed = any(a.name == "transA" and helper.get_attribute_value(a) for a in node.attribute)
    return prod(output) * data[0 if transposed else -1]
