"""A finished run into one ONNX file that stands on its own, checked on real images before it is written."""

import logging
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rstpm_edge import __version__
from rstpm_edge.bundle import METADATA_KEY, Bundle, Fusion, Precision
from rstpm_edge.errors import ExportError, OutputError, RstpmEdgeError, TrainingError
from rstpm_edge.files import write_bytes
from rstpm_edge.fusion import make_fuser
from rstpm_edge.fusion_reference import bilinear_matrix, gaussian_matrix
from rstpm_edge.image import EXTENSIONS, read_image, to_input
from rstpm_edge.ort import onnxruntime
from rstpm_edge.roi import Roi, crop

from .fit import Report
from .gate import Comparison
from .graph_runner import open_graph
from .model import RSTPM
from .portability import obstacles
from .reduced import Reduced, Reduction, load_photos, reduce
from .run import load_checkpoint, load_config, load_summary, load_trained_state

OPSET = 17  # the newest that TensorRT 8.6 takes
IR_VERSION = 8  # the one that belongs to opset 17; ONNX Runtime 1.17 takes up to 9

# What ONNX Runtime, TensorRT and OpenVINO all take with static shapes. Backbones outside the presets may need more;
# they are exported with a warning.
SAFE_OPERATORS = frozenset(
    {
        "Add",
        "AveragePool",
        "Cast",
        "Clip",
        "Concat",
        "Conv",
        "ConvTranspose",
        "DequantizeLinear",
        "Div",
        "Flatten",
        "Gemm",
        "GlobalAveragePool",
        "HardSigmoid",
        "HardSwish",
        "MatMul",
        "MaxPool",
        "Mul",
        "QuantizeLinear",
        "ReduceMax",
        "ReduceMean",
        "ReduceSum",
        "Relu",
        "Reshape",
        "Resize",
        "Sigmoid",
        "Slice",
        "Softmax",
        "Sqrt",
        "Sub",
        "Tanh",
        "Transpose",
    }
)

MAP_TOLERANCE = 1e-4  # absolute; maps lie between 0 and 2
SCORE_TOLERANCE = 1e-3  # relative


@dataclass(frozen=True)
class ExportReport:
    """What the self-check measured: the largest differences over `images` real images."""

    path: Path
    images: int
    map_difference: float  # ONNX Runtime against PyTorch, absolute
    score_difference: float  # ONNX Runtime and the extension against PyTorch and NumPy, relative
    operators: tuple[str, ...]
    unusual_operators: tuple[str, ...]
    obstacles: tuple[str, ...]  # what else TensorRT or OpenVINO may not take: sentences
    precision: Precision = "fp32"
    reduced: Reduced | None = None  # None for fp32


def export(
    run: Path,
    output: Path,
    *,
    fused: bool = False,
    reduction: Reduction | None = None,
    report: Report = lambda progress: None,
    compared: Callable[[Comparison], None] = lambda comparison: None,
) -> ExportReport:
    """Write the run's model to `output`.

    With `fused`, the graph also gives `anomaly_map` (N, H, W) and `score` (N,). A `reduction` asks for fewer bits: the
    float graph is checked first, then reduced and compared; see `reduce`, which `report` and `compared` go to.

    Raises TrainingError when the run is not finished or damaged, WeightsError when the teachers' weights are not
    to be had, ExportError when ONNX Runtime disagrees with PyTorch or a reduction moves too much, OutputError when
    `output` cannot be written; and what `load_photos` raises. Whatever goes wrong, an older `output` stays as it was.
    """
    reduction = reduction or Reduction()
    small = reduction.precision != "fp32"
    if not output.absolute().parent.is_dir():
        raise OutputError(f"Cannot write {output}: there is no folder {output.absolute().parent}.")
    config, summary, model = load_config(run), load_summary(run), load_model(run)
    records = (model.teacher1.record, model.teacher2.record)
    if tuple(record.sha256 for record in records) != summary.teacher_sha256:
        raise ExportError("The teachers' weights are not those that the run was trained with; train again.")
    final = summary.losses[-1]
    bundle = Bundle(
        preset=config.preset.name,
        height=config.height,
        width=config.width,
        resize=config.resize,
        strides=config.preset.strides,
        fusion=summary.fusion,
        calibration=summary.calibration,
        teachers=records,
        package_version=__version__,
        training={
            "images": len(config.train),
            "holdout": len(config.holdout),
            "epochs": summary.epochs,
            "minutes": round(summary.minutes, 2),
            "seed": config.seed,
            "loss": {"stpm": final[0], "recon": final[1]},
        },
        roi=config.roi,
    )
    images = _check_images(run, config.roi)
    photos = load_photos(config, reduction) if small else None  # before the work: they may be missing
    try:
        graph, content, differences = _checked(model, bundle, images, fused and not small, any_batch=False)
    except ExportError:
        # Rarely a backbone computes with the size of the batch, which must then be traced: twice the time.
        graph, content, differences = _checked(model, bundle, images, fused and not small, any_batch=True)
    map_difference, score_difference = differences
    reduced = None
    if photos is not None:
        reduced = reduce(graph, config, photos, reduction, report=report, compared=compared)
        graph, behaviour = reduced.graph, reduced.behaviour
        bundle = replace(
            bundle,
            fusion=behaviour.fusion,
            calibration=behaviour.calibration,
            precision=reduction.precision,
            moved=reduced.comparison.moved,
        )
        content = _complete(graph, bundle, fused)
        check_alone(content, bundle, images, fused)
    write_bytes(output, content)
    operators = tuple(sorted({node.op_type for node in graph.graph.node}))
    unusual = tuple(name for name in operators if name not in SAFE_OPERATORS)
    return ExportReport(
        output,
        len(images),
        map_difference,
        score_difference,
        operators,
        unusual,
        tuple(obstacles(graph)),
        reduction.precision,
        reduced,
    )


def load_model(run: Path) -> RSTPM:
    """The run's model as its last checkpoint left it, in evaluation mode. Raises TrainingError and WeightsError."""
    config, checkpoint = load_config(run), load_checkpoint(run)
    if checkpoint is None:
        raise TrainingError(f"The run {run} has no checkpoint; train again.")
    model = RSTPM(config.preset, config.weights)
    load_trained_state(model, checkpoint)
    return model.eval()


def _checked(
    model: RSTPM, bundle: Bundle, images: Sequence[NDArray[np.uint8]], fused: bool, *, any_batch: bool
) -> tuple[onnx.ModelProto, bytes, tuple[float, float]]:
    """The graph, the file's bytes, and what `check` measured on them."""
    graph = to_onnx(model, (bundle.height, bundle.width), any_batch=any_batch)
    content = _complete(graph, bundle, fused)
    return graph, content, check(content, model, bundle, images, fused)


def _complete(graph: onnx.ModelProto, bundle: Bundle, fused: bool) -> bytes:
    """Put into `graph` what makes a model file of it, and give the file's bytes."""
    if fused:
        add_fusion(graph, bundle.fusion, (bundle.height, bundle.width))
    helper.set_model_props(graph, {METADATA_KEY: bundle.to_json()})
    graph.producer_name, graph.producer_version = "rstpm-edge", __version__
    onnx.checker.check_model(graph, full_check=True)
    content: bytes = graph.SerializeToString()
    return content


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


def check(
    content: bytes, model: RSTPM, bundle: Bundle, images: Sequence[NDArray[np.uint8]], fused: bool
) -> tuple[float, float]:
    """Compare the file in ONNX Runtime with `model` on real images, one at a time and as a batch.

    Returns the largest difference of any map (absolute) and of any score (relative).
    Raises ExportError when either exceeds its tolerance, or is NaN, or when the file does not run.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    inputs = np.stack([to_input(image, (bundle.height, bundle.width), bundle.resize)[0] for image in images])
    with torch.no_grad():
        expected = [m.numpy() for m in model(torch.from_numpy(inputs))]  # six of (N, h, w)
    try:
        singly = [session.run(list(bundle.map_names), {"image": image[None]}) for image in inputs]
        batch = session.run(list(bundle.map_names), {"image": inputs})
    except Exception as error:  # ONNX Runtime's exceptions have no base class but Exception
        raise ExportError(f"ONNX Runtime cannot run the exported graph ({error}): nothing was written.") from error
    single = [np.concatenate(level) for level in zip(*singly, strict=True)]
    # By NumPy: Python's max lets NaN pass.
    pairs = [(got, want) for maps in (single, batch) for got, want in zip(maps, expected, strict=True)]
    map_difference = float(np.max([np.abs(got - want).max() for got, want in pairs]))
    score_difference = float("nan")
    if map_difference <= MAP_TOLERANCE:  # what is not finite cannot be fused
        fuser = make_fuser(bundle.fusion, [m.shape[1:] for m in single[:3]], (bundle.height, bundle.width))
        want = fuser(expected).score
        scores = [fuser(single).score]
        if fused:
            scores.append(session.run(["score"], {"image": inputs})[0])
        scale = np.maximum(np.abs(want), np.abs(want).mean())  # a normalized score may lie near zero
        score_difference = float(np.max([np.abs(got - want) / scale for got in scores]))
    if not score_difference <= SCORE_TOLERANCE:
        raise ExportError(
            f"ONNX Runtime and PyTorch disagree (maps {map_difference:.2g}, score {score_difference:.2g} relative; "
            f"allowed are {MAP_TOLERANCE:g} and {SCORE_TOLERANCE:g}): nothing was written. Train again, and report it."
        )
    return map_difference, score_difference


def check_alone(content: bytes, bundle: Bundle, images: Sequence[NDArray[np.uint8]], fused: bool) -> None:
    """Run a file that is not PyTorch's to the last digit: single images and a batch, and its fusion by the extension.

    Raises ExportError when it does not run, or gives what is not finite, or scores that are not those of its maps.
    """
    names = [*bundle.map_names, *(["score"] if fused else [])]
    inputs = np.stack([to_input(image, (bundle.height, bundle.width), bundle.resize)[0] for image in images])
    session = open_graph(content)
    try:
        for some in (inputs[:1], inputs):
            outputs = session.run(names, {"image": some})
            fuser = make_fuser(bundle.fusion, [m.shape[1:] for m in outputs[:3]], (bundle.height, bundle.width))
            score = fuser(outputs[:6]).score  # refuses what is not finite
            if fused and not np.allclose(outputs[6], score, SCORE_TOLERANCE, SCORE_TOLERANCE * np.abs(score).mean()):
                raise ExportError("The fused graph's score is not that of its maps: nothing was written; report it.")
    except (RstpmEdgeError, KeyboardInterrupt):
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no base class but Exception
        raise ExportError(f"ONNX Runtime cannot run the exported graph ({error}): nothing was written.") from error


def _check_images(run: Path, roi: Roi | None) -> list[NDArray[np.uint8]]:
    """The run's samples as learned from, and each once more cropped and enlarged: larger, and not square."""
    files = sorted(path for path in (run / "samples").glob("*") if path.suffix.lower() in EXTENSIONS)
    if not files:
        raise ExportError(f"{run / 'samples'} holds no image, so the export cannot be checked; train again.")
    images = [crop(read_image(path), roi, path) for path in files]
    large = []
    for image in images:
        cropped = image[: max(1, image.shape[0] * 3 // 4)]
        large.append(np.asarray(cv2.resize(cropped, (900, 500), interpolation=cv2.INTER_LINEAR), np.uint8))
    return images + large


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
