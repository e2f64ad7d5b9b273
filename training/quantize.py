"""A graph with 8-bit convolutions: QuantizeLinear and DequantizeLinear around them, by ONNX Runtime's quantizer."""

import logging
from collections.abc import Collection

import onnx

from rstpm_edge.ort import submodule

from .onnx_graph import MAPS
from .ranges import Ranges

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


def tensors_to_calibrate(graph: onnx.ModelProto) -> list[str]:
    """The tensors whose ranges `quantize` needs: what goes into the weighted nodes and what comes out of them."""
    chosen = set(weighted_nodes(graph))
    tensors = {name for node in graph.graph.node if node.name in chosen for name in (node.input[0], *node.output)}
    return sorted(tensors | set(_activation_of(graph).values()))


def quantize(
    graph: onnx.ModelProto, ranges: Ranges, nodes: Collection[str], *, symmetric: bool = False
) -> onnx.ModelProto:
    """`graph` with `nodes` (some of `weighted_nodes`) in 8 bits, weights per output channel; the rest stays float32.

    Activations are unsigned, with zero wherever it falls, which loses least and is what CPUs multiply fastest. With
    `symmetric` they are signed, with zero at 0, biases stay float32, and nothing is quantized behind a convolution, but
    only before the next: TensorRT takes nothing else.
    """
    quantizer, kinds = submodule("quantization.qdq_quantizer"), submodule("quantization").QuantType
    copy = onnx.shape_inference.infer_shapes(graph)  # the quantizer changes its model, and skips what has no type
    activations = [node.name for node in graph.graph.node if node.op_type in ACTIVATIONS]
    options = {}
    if symmetric:
        options = {
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
