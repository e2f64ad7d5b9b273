"""The trained model as an ONNX graph: traced, brought to the opset, with readable names."""

import logging
import re
import warnings
from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from onnxscript.optimizer import fold_constants

from rstpm_edge.errors import ExportError

from ..model.rstpm import RSTPM

OPSET = 17  # the newest that TensorRT 8.6 takes
IR_VERSION = 8  # the one that belongs to opset 17; ONNX Runtime 1.17 takes up to 9
MAPS = "maps/"  # what the names of all nodes begin with that measure maps: distances and segmentation head
FOLDED = 1 << 20  # numbers: constants of up to so many are computed when the graph is written


def to_onnx(model: RSTPM, size: tuple[int, int], *, any_batch: bool = False) -> onnx.ModelProto:
    """The model as ONNX: input `image` uint8 [N, H, W, 3], the named outputs, BatchNorm folded, readable names.

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
                output_names=list(model.graph_outputs),
                dynamic_shapes=batch,
                verbose=False,
            )
            assert program is not None
            # Weights that are put together from others, and what each position of a level has in common.
            fold_constants(program.model, input_size_limit=FOLDED, output_size_limit=FOLDED)
        finally:
            logging.disable(level)
    graph = program.model_proto
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    _to_opset(graph)
    if not any_batch:
        _free_batch(graph)
    _fold_divisions(graph.graph)
    _sum_by_convolution(graph.graph)
    used = {name for node in graph.graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.graph.initializer if tensor.name not in used]:
        graph.graph.initializer.remove(tensor)
    if any(node.op_type == "BatchNormalization" for node in graph.graph.node):
        raise ExportError("The exporter left a BatchNormalization in the graph: upgrade torch and onnxscript.")
    _name(graph)
    return graph


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
    domains = sorted({node.domain for node in model.graph.node} - {""})
    if domains:
        raise ExportError(f"The graph has operators outside ONNX's own ({', '.join(domains)}).")
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", OPSET))
    model.ir_version = IR_VERSION


def _fold_divisions(graph: onnx.GraphProto) -> None:
    """Put a division of each channel by a constant into the weights of the convolutions behind it: it is linear.

    That is how a teacher's input is scaled, at the size of the image.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in [node for node in graph.node if node.op_type == "Div" and node.input[1] in constants]:
        divisor = numpy_helper.to_array(constants[node.input[1]])
        users = [user for user in graph.node if node.output[0] in user.input]
        if not users:  # an output of the graph
            continue
        uses = Counter(name for other in graph.node for name in other.input)
        plain = (_is_plain(user) and user.input[1] in constants and uses[user.input[1]] == 1 for user in users)
        if divisor.shape[-2:] != (1, 1) or not all(plain):
            continue  # something else than scaling, or weights that others have, too
        for user in users:
            tensor = constants[user.input[1]]
            weight = numpy_helper.to_array(tensor) / divisor.reshape(-1, 1, 1)  # (O, C, h, w)
            tensor.CopyFrom(numpy_helper.from_array(weight.astype(np.float32), tensor.name))
            user.input[0] = node.input[0]
        graph.node.remove(node)


def _sum_by_convolution(graph: onnx.GraphProto) -> None:
    """Make each sum over channels that keeps their dimension a 1×1 convolution with ones.

    Runtimes take one as the features lie, in their own layout, and would bring them to another for a sum: half of what
    the maps' six levels cost, 2 % of the whole.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in graph.value_info}
    for node in graph.node:
        if node.op_type != "ReduceSum" or len(node.input) != 2 or node.input[1] not in constants:
            continue
        keeps = all(attribute.i == 1 for attribute in node.attribute if attribute.name == "keepdims")
        shape = shapes.get(node.input[0], [])
        if numpy_helper.to_array(constants[node.input[1]]).tolist() != [1] or not keeps or len(shape) != 4:
            continue
        ones = f"{node.output[0]}_ones"
        graph.initializer.append(numpy_helper.from_array(np.ones((1, shape[1], 1, 1), np.float32), ones))
        node.op_type, node.input[1] = "Conv", ones
        _drop_attributes(node, "keepdims", "noop_with_empty_axes")


def _is_plain(node: onnx.NodeProto) -> bool:
    """Whether a node is a convolution of all channels."""
    return node.op_type == "Conv" and all(attribute.i == 1 for attribute in node.attribute if attribute.name == "group")


def _free_batch(model: onnx.ModelProto) -> None:
    """Let every Reshape to a batch of one, as it was traced, keep the batch that it is given."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Reshape" and node.input[1] in constants:
            shape = numpy_helper.to_array(constants[node.input[1]])
            if shape.size > 1 and shape[0] == 1:
                freed = numpy_helper.from_array(np.array([0, *shape[1:]], np.int64), f"{node.input[1]}_any_batch")
                if freed.name not in constants:
                    constants[freed.name] = freed
                    model.graph.initializer.append(freed)
                node.input[1] = freed.name
                _drop_attributes(node, "allowzero")


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
    name = name.removeprefix("students.").replace("maps.distances.", "maps.").replace(".backbone.", ".")
    name = re.sub(r"\b(gate|stage)s\.(\d+)", r"\1_\2", name)
    name = re.sub(r"\bprojections\.(\d+)", r"head_\1", name)  # as files have always called them
    name = re.sub(r"\b(narrow|upsample)\.(\d+)", r"\1_\2", name)
    return name.replace(".", "/")
