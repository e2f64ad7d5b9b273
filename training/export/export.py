"""A finished run into one ONNX file that stands on its own, checked on real images before it is written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from rstpm_edge import __version__
from rstpm_edge.atomic_files import write_bytes
from rstpm_edge.errors import ExportError, ModelError, OutputError
from rstpm_edge.model.metadata import METADATA_KEY, Bundle, Precision
from rstpm_edge.model.model_file import stamps
from rstpm_edge.model.onnx_check import check_onnx
from rstpm_edge.model.onnx_file import split_onnx
from rstpm_edge.model.read_metadata import parse_bundle
from rstpm_edge.progress import Progress, Report

from ..graph.compatibility import obstacles
from ..graph.fusion_nodes import add_fusion
from ..graph.onnx_graph import to_onnx
from ..learning.run_config import RunConfig, load_config
from ..learning.run_summary import load_summary
from ..learning.trained_model import load_model, teachers_changed
from ..model.rstpm import RSTPM
from ..quantization.acceptance import PrecisionComparison
from ..quantization.reduced_precision import TRACING, ReducedModel, Reduction, load_photos, reduce
from .goldens import add_goldens, read_goldens
from .run_metadata import bundle_of, fitting_mask, reduced_bundle, without_defective
from .self_check import check, check_alone, images_to_check_on

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
        "Exp",
        "Flatten",
        "Gemm",
        "GlobalAveragePool",
        "HardSigmoid",
        "HardSwish",
        "Log",
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


@dataclass(frozen=True)
class ExportReport:
    """What the self-check measured: the largest differences over `images` real images."""

    path: Path
    images: int
    map_difference: float  # ONNX Runtime against PyTorch, as `map_difference` has it
    score_difference: float  # ONNX Runtime and the extension against PyTorch and NumPy, as `score_difference` has it
    operators: tuple[str, ...]
    rare_operators: tuple[str, ...]
    obstacles: tuple[str, ...]  # what else TensorRT or OpenVINO may not take: sentences
    precision: Precision = "fp32"
    reduced: ReducedModel | None = None  # None for fp32


def export(
    run: Path,
    output: Path,
    *,
    fused: bool = False,
    mask: Path | None = None,
    goldens: Sequence[Path] = (),
    reduction: Reduction | None = None,
    report: Report = lambda progress: None,
    compared: Callable[[PrecisionComparison], None] = lambda comparison: None,
) -> ExportReport:
    """Write the run's model to `output`.

    `goldens` are photos that are kept in the file, with its verdicts on them: see `add_goldens`.
    `mask` is kept in the file; the threshold stays that of all of the part, which promises no less with it. With
    `fused`, the graph also gives `anomaly_map` (N, H, W) and `score` (N,). A `reduction` asks for fewer bits: the
    float graph is checked first, then reduced and compared; see `reduce`, which `report` and `compared` go to.

    Raises TrainingError when the run is not finished or damaged, WeightsError when the teachers' weights are not
    to be had, ExportError when ONNX Runtime disagrees with PyTorch or a reduction moves too much, OutputError when
    `output` cannot be written; and what `load_photos` raises. Whatever goes wrong, an older `output` stays as it was.
    """
    reduction = reduction or Reduction()
    if not output.absolute().parent.is_dir():
        raise OutputError(f"Cannot write {output}: there is no folder {output.absolute().parent}.")
    photos = read_goldens(goldens)  # before the work: they may not be there
    finished = _load(run, mask)
    if reduction.precision == "fp32":
        made = _export_float(finished, fused)
    else:
        made = _export_reduced(finished, fused, reduction, report, compared)
    write_bytes(output, add_goldens(made.content, made.bundle, photos) if photos else made.content)
    operators = tuple(sorted({node.op_type for node in made.graph.graph.node}))
    return ExportReport(
        output,
        len(finished.images),
        *made.differences,
        operators,
        tuple(name for name in operators if name not in SAFE_OPERATORS),
        tuple(obstacles(made.graph)),
        reduction.precision,
        made.reduced,
    )


@dataclass(frozen=True, eq=False)
class _FinishedRun:
    """What is exported, and the images (H, W, 3) that the file is checked on.

    `session_rule` is that by which the bundle says something of sessions; None where it says nothing.
    """

    config: RunConfig
    model: RSTPM
    bundle: Bundle
    images: Sequence[NDArray[np.uint8]]
    session_rule: str | None


@dataclass(frozen=True, eq=False)
class _Exported:
    """A graph, the file's bytes, and what `check` measured on the float32 one: of maps, and of scores."""

    graph: onnx.ModelProto
    bundle: Bundle
    content: bytes
    differences: tuple[float, float]
    reduced: ReducedModel | None = None


def _load(run: Path, mask: Path | None) -> _FinishedRun:
    config, summary, model = load_config(run), load_summary(run), load_model(run)
    config = without_defective(config, summary)
    records = (model.teacher1.record, model.teacher2.record)
    if teachers_changed(model, summary.teacher_sha256):
        raise ExportError("The teachers' weights are not those that the run was trained with; train again.")
    bundle = bundle_of(config, summary, records)
    if mask is not None:
        bundle = replace(bundle, mask=fitting_mask(mask, config))
    rule = None if summary.sessions is None else summary.session_rule
    return _FinishedRun(config, model, bundle, images_to_check_on(run, config.roi, config.bits), rule)


def _export_float(finished: _FinishedRun, fused: bool) -> _Exported:
    """In float32: traced, completed, checked against PyTorch."""
    try:
        return _traced(finished, fused, any_batch=False)
    except ExportError:
        # Rarely a backbone computes with the size of the batch, which must then be traced: twice the time.
        return _traced(finished, fused, any_batch=True)


def _export_reduced(
    finished: _FinishedRun,
    fused: bool,
    reduction: Reduction,
    report: Report,
    compared: Callable[[PrecisionComparison], None],
) -> _Exported:
    """In fewer bits: the float32 graph reduced, compared with it, completed, and run alone."""
    photos = load_photos(finished.config, reduction)  # before the work: they may be missing
    report(Progress(TRACING, 0, 1))
    whole = _export_float(finished, fused=False)
    report(Progress(TRACING, 1, 1))
    reduced = reduce(whole.graph, finished.config, photos, reduction, report=report, compared=compared)
    bundle = reduced_bundle(finished.bundle, reduced, reduction.precision, finished.config, finished.session_rule)
    content = _complete(reduced.graph, bundle, fused)
    check_alone(content, bundle, finished.images, fused)
    return _Exported(reduced.graph, bundle, content, whole.differences, reduced)


def _traced(finished: _FinishedRun, fused: bool, *, any_batch: bool) -> _Exported:
    model, bundle = finished.model, finished.bundle
    graph = to_onnx(model, (bundle.height, bundle.width), any_batch=any_batch)
    content = _complete(graph, bundle, fused)
    return _Exported(graph, bundle, content, check(content, model, bundle, finished.images, fused))


def _complete(graph: onnx.ModelProto, bundle: Bundle, fused: bool) -> bytes:
    """Put into `graph` what makes a model file of it, and give the file's bytes."""
    if fused:
        add_fusion(graph, bundle.fusion, bundle.score_fusion, (bundle.height, bundle.width))
    document = bundle.to_json()
    graph.producer_name, graph.producer_version = "rstpm-edge", __version__
    helper.set_model_props(graph, {METADATA_KEY: document, **stamps(graph.SerializeToString(), document)})
    onnx.checker.check_model(graph, full_check=True)
    content: bytes = graph.SerializeToString()
    try:
        parse_bundle(document)
        check_onnx(split_onnx(content))
    except (ModelError, ValueError) as error:
        raise ExportError(
            f"No runtime would be given this model ({error}): nothing was written. Train again, or with other teachers."
        ) from error
    return content
