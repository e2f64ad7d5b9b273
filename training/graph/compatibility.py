"""What could keep TensorRT or OpenVINO from running a graph, found without either of them."""

import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper, shape_inference

# Operators whose inputs after the first TensorRT wants to know when it builds the engine.
_CONSTANT_INPUTS = frozenset(
    {
        "Clip",
        "Conv",
        "ConvTranspose",
        "DequantizeLinear",
        "Gemm",
        "QuantizeLinear",
        "ReduceSum",
        "Reshape",
        "Resize",
        "Slice",
    }
)
_COMPUTED = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UNDEFINED)
_QUANTIZING = ("QuantizeLinear", "DequantizeLinear")
_RESIZE_MODES = {
    "mode": {b"nearest", b"linear"},
    "coordinate_transformation_mode": {b"half_pixel", b"pytorch_half_pixel", b"asymmetric", b"align_corners"},
}


def obstacles(model: onnx.ModelProto) -> list[str]:
    """Sentences, one for each thing in `model` that a runtime with static shapes may not take; empty when all is well.

    Static means: with the size of the batch given, every shape is known, and only the first dimension depends on it.
    After the operator notes of ONNX-TensorRT; uint8 inputs since TensorRT 8.5, and then for casts only.
    Operators themselves are another question: see SAFE_OPERATORS in export.py.
    """
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer} | {""}
    for node in graph.node:  # weights that are stored as integers are as constant as others
        if node.op_type in _QUANTIZING and constants.issuperset(node.input):
            constants.update(node.output)
    found = _asymmetric(graph)
    for node in graph.node:
        if any(attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for attribute in node.attribute):
            found.append(f"{node.name} decides at run time what to compute.")
        if node.op_type in _CONSTANT_INPUTS and not constants.issuperset(node.input[1:]):
            found.append(f"{node.name} takes computed values where {node.op_type} should have constants.")
        if node.op_type == "MaxPool" and len(node.output) > 1:
            found.append(f"{node.name} gives indices.")
        if node.op_type == "Resize":
            given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
            if not all(given.get(name, min(modes)) in modes for name, modes in _RESIZE_MODES.items()):
                found.append(f"{node.name} resizes in a way of its own.")
    one, two = _values(model, 1), _values(model, 2)
    for node in graph.node:
        for name in node.output:
            kind, shape = one.get(name, (TensorProto.UNDEFINED, None))
            if shape is None or shape[1:] != (two[name][1] or ())[1:]:
                found.append(f"The shape of {name} depends on more than the size of the batch.")
            if kind not in _COMPUTED and node.op_type != "QuantizeLinear":
                found.append(f"{node.name} computes in {TensorProto.DataType.Name(kind)}.")
        for name in node.input:
            if name in one and one[name][0] == TensorProto.UINT8 and node.op_type not in ("Cast", "DequantizeLinear"):
                found.append(f"{node.name} takes uint8, which only a cast may.")
    return found


def static_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors of `model` for one image, its constants among them, where they are known."""
    constants = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    computed = {name: shape for name, (_, shape) in _values(model, 1).items() if shape is not None}
    return constants | computed


def _asymmetric(graph: onnx.GraphProto) -> list[str]:
    """One sentence where tensors are quantized to anything but signed numbers of 8 bits with zero at 0."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in _QUANTIZING:
            zero = constants.get(node.input[2]) if len(node.input) > 2 else None
            kind = TensorProto.UINT8 if zero is None else zero.data_type  # unsigned unless it is said
            if kind != TensorProto.INT8 or (zero is not None and numpy_helper.to_array(zero).any()):
                return ["TensorRT takes signed integers with zero at 0 only: `rstpm-edge export --int8 --symmetric`."]
    return []


def _values(model: onnx.ModelProto, batch: int) -> dict[str, tuple[int, tuple[int, ...] | None]]:
    """Type and shape of every value for this size of the batch; None for a shape that is not known from it."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = batch
    for value in fixed.graph.output:  # what is declared there would be believed
        value.type.tensor_type.ClearField("shape")
    graph = shape_inference.infer_shapes(fixed, strict_mode=False, data_prop=True).graph
    found: dict[str, tuple[int, tuple[int, ...] | None]] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        dims = kind.shape.dim
        known = kind.HasField("shape") and all(dim.HasField("dim_value") for dim in dims)
        found[value.name] = (kind.elem_type, tuple(dim.dim_value for dim in dims) if known else None)
    return found
