"""A graph with 8-bit convolutions: QuantizeLinear and DequantizeLinear around them, by ONNX Runtime's quantizer."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import numpy_helper

from rstpm_edge.engine.no_telemetry import submodule

from ..graph.onnx_graph import MAPS
from .activation_ranges import Ranges
from .saturation import without_saturation

WEIGHTED = ("Conv", "Gemm")  # what is worth it: nearly all multiplications
ACTIVATIONS = ("Clip", "Relu")  # 8-bit numbers that stop at the right value need no operator for them
_QUANTIZED = (*WEIGHTED, *ACTIVATIONS)


def weighted_nodes(graph: onnx.ModelProto) -> list[str]:
    """The nodes that can be quantized: convolutions and products with constant weights, in the graph's order.

    Not those that measure maps, distances and head, which stay in float whole.
    """
    constants = {tensor.name for tensor in graph.graph.initializer}
    return [
        node.name
        for node in graph.graph.node
        if node.op_type in WEIGHTED and constants.issuperset(node.input[1:]) and not node.name.startswith(MAPS)
    ]


def tensors_with_ranges(graph: onnx.ModelProto) -> list[str]:
    """The tensors whose ranges `quantize` needs: what goes into the weighted nodes and what comes out of them."""
    chosen = set(weighted_nodes(graph))
    tensors = {name for node in graph.graph.node if node.name in chosen for name in (node.input[0], *node.output)}
    return sorted(tensors | set(_activation_of(graph).values()))


@dataclass(frozen=True)
class SafeWeights:
    """A weighted node's weights such that no sums saturate, and what the quantizer is to be told of each channel."""

    tensor: onnx.TensorProto
    overrides: list[dict[str, Any]]


def safe_weights(graph: onnx.ModelProto) -> dict[str, SafeWeights]:
    """Of each of `weighted_nodes`, by its name, weights such that no sums saturate.

    Not of those whose outputs have one input channel each: their products are added in 32 bits everywhere.
    """
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    chosen, found = set(weighted_nodes(graph)), {}
    for node in graph.graph.node:
        if node.name not in chosen:
            continue
        tensor = constants[node.input[1]]
        if node.op_type != "Conv":
            transposed = any(entry.name == "transB" and entry.i for entry in node.attribute)
            found[node.name] = SafeWeights(tensor, [{"axis": 0 if transposed else 1, "reduce_range": True}])
        elif tensor.dims[1] > 1:
            weights, limits = without_saturation(numpy_helper.to_array(tensor), pairs=tensor.dims[1] % 2 == 0)
            overrides = [{"axis": 0, "rmin": -limit, "rmax": limit} for limit in limits]
            found[node.name] = SafeWeights(numpy_helper.from_array(weights, tensor.name), overrides)
    return found


def quantize(
    graph: onnx.ModelProto,
    ranges: Ranges,
    nodes: Collection[str],
    *,
    symmetric: bool = False,
    safe: Mapping[str, SafeWeights] | None = None,
) -> onnx.ModelProto:
    """`graph` with `nodes` (some of `weighted_nodes`) in 8 bits, weights per output channel; the rest stays float32.

    Weights are such that no processor's sums saturate: `safe` is `safe_weights(graph)`, which takes a while.

    Activations are unsigned, with zero wherever it falls, which loses least and is what CPUs multiply fastest. With
    `symmetric` they are signed, with zero at 0, biases stay float32, and nothing is quantized behind a convolution, but
    only before the next: TensorRT takes nothing else.
    """
    quantizer, kinds = submodule("quantization.qdq_quantizer"), submodule("quantization").QuantType
    copy = onnx.shape_inference.infer_shapes(graph)  # the quantizer changes its model, and skips what has no type
    activations = [node.name for node in graph.graph.node if node.op_type in ACTIVATIONS]
    used = [weights for name, weights in (safe_weights(graph) if safe is None else safe).items() if name in nodes]
    constants = {tensor.name: tensor for tensor in copy.graph.initializer}
    for weights in used:
        constants[weights.tensor.name].CopyFrom(weights.tensor)
    options: dict[str, Any] = {"TensorQuantOverrides": {w.tensor.name: w.overrides for w in used}}
    if symmetric:
        options |= {
            "ActivationSymmetric": True,
            "AddQDQPairToWeight": True,  # float weights behind which both nodes stand, as TensorRT 8 needs them
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": list(_QUANTIZED),
        }
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        made = quantizer.QDQQuantizer(
            copy,
            per_channel=True,
            reduce_range=False,
            weight_qType=kinds.QInt8,
            activation_qType=kinds.QInt8 if symmetric else kinds.QUInt8,
            tensors_range=ranges,
            nodes_to_quantize=[*nodes, *activations],
            nodes_to_exclude=[],
            op_types_to_quantize=list(_QUANTIZED),
            extra_options=options,
        )
        made.quantize_model()
        made.model.topological_sort()  # it appends what it adds
    finally:
        logging.disable(level)
    quantized: onnx.ModelProto = made.model.model
    quantized.ir_version = graph.ir_version
    del quantized.opset_import[:]
    quantized.opset_import.extend(graph.opset_import)
    del quantized.graph.value_info[:]
    return quantized


def _activation_of(graph: onnx.ModelProto) -> dict[str, str]:
    """Of each weighted node's output that goes to one activation and nowhere else, the output of that activation."""
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    outputs = [node.output[0] for node in graph.graph.node if node.op_type in WEIGHTED]
    return {
        name: users[name][0].output[0]
        for name in outputs
        if len(users.get(name, ())) == 1 and users[name][0].op_type in ACTIVATIONS
    }
