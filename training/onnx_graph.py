"""The trained model as an ONNX graph: traced, brought to the opset, with readable names, and the fusion behind it."""

import logging
import re
import warnings
from collections.abc import Mapping

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rstpm_edge.bundle import Fusion
from rstpm_edge.errors import ExportError
from rstpm_edge.fusion_reference import bilinear_matrix, gaussian_matrix

from .model import RSTPM

OPSET = 17  # the newest that TensorRT 8.6 takes
IR_VERSION = 8  # the one that belongs to opset 17; ONNX Runtime 1.17 takes up to 9


def to_onnx(model: RSTPM, size: tuple[int, int], *, any_batch: bool = False) -> onnx.ModelProto:
    """The model as ONNX: input `image` uint8 [N, H, W, 3], six named outputs, BatchNorm folded, readable names.

    It is traced for one image, which holds for any number of them where no operator names the batch's size; with
    `any_batch` the tracer follows that size, too.
    """
    example = torch.zeros(2 if any_batch else 1, *size, 3, dtype=torch.uint8)  # it takes a batch of one for a constant
    batch = ({0: torch.export.Dim("N", min=1, max=4096)},) if any_batch else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations are no concern of the user
        level = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["image"],
                output_names=list(model.map_names),
                dynamic_shapes=batch,
                verbose=False,
            )
            assert program is not None
        finally:
            logging.disable(level)
    graph = program.model_proto
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    _to_opset(graph)
    if any(node.op_type == "BatchNormalization" for node in graph.graph.node):
        raise ExportError("The exporter left a BatchNormalization in the graph: upgrade torch and onnxscript.")
    _name(graph)
    return graph


def add_fusion(model: onnx.ModelProto, fusion: Fusion, size: tuple[int, int]) -> None:
    """Append upsampling, normalisation, fusion and score to the graph, as outputs `anomaly_map` and `score`.

    Bilinear upsampling and Gaussian smoothing are linear along each axis, so each level takes two matrix products:
    exact for every size, and free of the resize modes on which runtimes disagree.
    """
    graph = model.graph
    maps = [output.name for output in graph.output]
    shapes = [[d.dim_value for d in output.type.tensor_type.shape.dim[1:]] for output in graph.output]
    smooth = [gaussian_matrix(side, fusion.smoothing_sigma) for side in size]
    linear = fusion.mode == "normalized"

    def constant(name: str, value: NDArray[np.float64]) -> str:
        graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), f"fusion/{name}"))
        return f"fusion/{name}"

    def node(operator: str, name: str, *inputs: str, **attributes: object) -> str:
        output = name if name in ("anomaly_map", "score") else f"fusion/{name}"
        graph.node.append(helper.make_node(operator, inputs, [output], f"fusion/{name}", **attributes))  # type: ignore[arg-type]
        return output

    levels = []
    for level in range(3):
        first, second = maps[level], maps[level + 3]
        tag = f"level_{level}"
        if linear:
            scale = [fusion.weights[i] / fusion.std[i] for i in (level, level + 3)]
            offset = -sum(s * fusion.mean[i] for s, i in zip(scale, (level, level + 3), strict=True))
            first = node("Mul", f"{tag}/scaled_stpm", first, constant(f"{tag}/scale_stpm", np.array(scale[0])))
            second = node("Mul", f"{tag}/scaled_recon", second, constant(f"{tag}/scale_recon", np.array(scale[1])))
        both = node("Add", f"{tag}/sum", first, second)  # (N, h, w)
        if linear:
            both = node("Add", f"{tag}/centred", both, constant(f"{tag}/offset", np.array(offset)))
        rows, columns = (bilinear_matrix(side, small) for side, small in zip(size, shapes[level], strict=True))
        if linear:  # smoothing goes into the same matrices
            rows, columns = smooth[0] @ rows, smooth[1] @ columns
        tall = node("MatMul", f"{tag}/rows", constant(f"{tag}/row_weights", rows), both)  # (N, H, w)
        levels.append(node("MatMul", f"{tag}/columns", tall, constant(f"{tag}/column_weights", columns.T)))  # (N, H, W)
    combine = "Add" if linear else "Mul"
    late_smoothing = not linear and fusion.smoothing_sigma > 0
    partial = node(combine, "levels_0_1", levels[0], levels[1])
    result = node(combine, "product" if late_smoothing else "anomaly_map", partial, levels[2])
    if late_smoothing:
        tall = node("MatMul", "smoothed_rows", constant("smooth_rows", smooth[0]), result)
        result = node("MatMul", "anomaly_map", tall, constant("smooth_columns", smooth[1].T))
    node("ReduceMax", "score", result, axes=[1, 2], keepdims=0)
    graph.output.append(helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["N", *size]))
    graph.output.append(helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"]))


def _to_opset(model: onnx.ModelProto) -> None:
    """Make sure that the file says, and keeps to, opset 17 and IR version 8."""
    version = next(entry.version for entry in model.opset_import if entry.domain == "")
    if version != OPSET:
        # Opset 18 differs from 17, for what the exporter writes, in where Resize and the reductions keep options.
        if version != 18:
            raise ExportError(f"The exporter wrote opset {version}, not {OPSET}: use another version of torch.")
        constants = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Resize":
                _drop_attributes(node, "antialias", "axes", "keep_aspect_ratio_policy")
            if node.op_type in ("ReduceMean", "ReduceMax", "ReduceMin") and len(node.input) > 1:
                axes = numpy_helper.to_array(constants[node.input[1]]).tolist()
                del node.input[1:]
                _drop_attributes(node, "noop_with_empty_axes")
                node.attribute.append(helper.make_attribute("axes", axes))
        used = {name for node in model.graph.node for name in node.input}
        for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in used]:
            model.graph.initializer.remove(tensor)
    domains = sorted({node.domain for node in model.graph.node} - {""})
    if domains:
        raise ExportError(f"The graph has operators outside ONNX's own ({', '.join(domains)}).")
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", OPSET))
    model.ir_version = IR_VERSION


def _drop_attributes(node: onnx.NodeProto, *names: str) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name not in names]
    del node.attribute[:]
    node.attribute.extend(kept)


def _name(model: onnx.ModelProto) -> None:
    """Name nodes, values and initialisers after the modules they come from, and drop the exporter's notes.

    The notes hold stack traces with paths of the machine that exported.
    """
    graph = model.graph
    keep = {value.name for value in (*graph.input, *graph.output)}
    renamed: dict[str, str] = {}
    taken: set[str] = set(keep)

    def unique(name: str) -> str:
        candidate, i = name, 1
        while candidate in taken:
            candidate, i = f"{name}_{i}", i + 1
        taken.add(candidate)
        return candidate

    initializers = {tensor.name for tensor in graph.initializer}
    for tensor in graph.initializer:
        if "." in tensor.name:
            renamed[tensor.name] = unique(_readable(re.sub(r"\.weight_bias$", ".bias", tensor.name)))
    for node in graph.node:
        weight = next((renamed[name] for name in node.input if name in renamed and name in initializers), None)
        scope = _scope(node)
        if weight is not None and node.op_type in ("Conv", "ConvTranspose", "Gemm"):
            scope = weight.rsplit("/", 1)[0]
        node.name = unique(f"{scope}/{node.op_type}" if scope else node.op_type)
        for name in node.input:
            if name in initializers and name not in renamed:
                renamed[name] = unique(f"{scope or 'graph'}/constant")
        for name in node.output:
            if name not in keep:
                renamed[name] = unique(f"{node.name}_output")
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
        node.ClearField("doc_string")
        del node.metadata_props[:]
    for tensor in graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
        tensor.ClearField("doc_string")
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        del value.metadata_props[:]
        value.ClearField("doc_string")
    del graph.metadata_props[:]
    del model.metadata_props[:]
    model.ClearField("doc_string")
    model.ClearField("functions")
    graph.name = "rstpm"


def _scope(node: onnx.NodeProto) -> str:
    notes: Mapping[str, str] = {entry.key: entry.value for entry in node.metadata_props}
    scopes = re.findall(r"'([^']*)'", notes.get("pkg.torch.onnx.name_scopes", ""))
    return _readable(scopes[-2]) if len(scopes) > 1 else ""


def _readable(name: str) -> str:
    """students.student2.gates.16.score.weight -> student2/gate_16/score/weight"""
    name = name.removeprefix("students.").removeprefix("maps.").replace(".backbone.", ".")
    name = re.sub(r"\b(gate|head|stage)s\.(\d+)", r"\1_\2", name)
    name = re.sub(r"\b(narrow|upsample)\.(\d+)", r"\1_\2", name)
    return name.replace(".", "/")
