"""A finished run into one ONNX file that stands on its own, checked on real images before it is written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from rstpm_edge import __version__
from rstpm_edge.atomic_files import write_bytes
from rstpm_edge.engine.no_telemetry import onnxruntime
from rstpm_edge.errors import ExportError, ModelError, OutputError, RstpmEdgeError, TrainingError
from rstpm_edge.image.decode import read_image
from rstpm_edge.image.grid import Grid
from rstpm_edge.image.listing import find_images
from rstpm_edge.image.mask import load_mask
from rstpm_edge.image.placement import place
from rstpm_edge.image.preprocess import InputFormat
from rstpm_edge.image.roi import Roi, crop
from rstpm_edge.image.stored_mask import StoredMask
from rstpm_edge.model import protobuf as wire
from rstpm_edge.model.metadata import METADATA_KEY, Bundle, Precision, Teacher, parse_bundle
from rstpm_edge.model.model_file import stamps
from rstpm_edge.model.outputs import ModelOutputs
from rstpm_edge.postprocess.postprocessor import Postprocessor
from rstpm_edge.progress import Progress, Report

from ..graph.compatibility import obstacles
from ..graph.onnx_graph import add_fusion, to_onnx
from ..graph.session import open_graph, run_maps
from ..learning.convergence import unfinished
from ..learning.run_folder import RunConfig, Summary, load_checkpoint, load_config, load_summary, load_trained_state
from ..model.rstpm import RSTPM
from ..quantization.acceptance import PrecisionComparison
from ..quantization.reduced_precision import TRACING, ReducedModel, Reduction, load_photos, reduce

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

MAP_TOLERANCE = 1e-4  # see `map_difference`
SCORE_TOLERANCE = 1e-3  # see `score_difference`


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
    reduction: Reduction | None = None,
    report: Report = lambda progress: None,
    compared: Callable[[PrecisionComparison], None] = lambda comparison: None,
) -> ExportReport:
    """Write the run's model to `output`.

    `mask` is kept in the file; the threshold stays that of all of the part, which promises no less with it. With
    `fused`, the graph also gives `anomaly_map` (N, H, W) and `score` (N,). A `reduction` asks for fewer bits: the
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
    bundle = _bundle(config, summary, records)
    if mask is not None:
        bundle = replace(bundle, mask=_fitting_mask(mask, config))
    images = _check_images(run, config.roi, config.bits)
    photos = load_photos(config, reduction) if small else None  # before the work: they may be missing
    if small:
        report(Progress(TRACING, 0, 1))
    try:
        graph, content, differences = _checked(model, bundle, images, fused and not small, any_batch=False)
    except ExportError:
        # Rarely a backbone computes with the size of the batch, which must then be traced: twice the time.
        graph, content, differences = _checked(model, bundle, images, fused and not small, any_batch=True)
    map_difference, score_difference = differences
    reduced = None
    if photos is not None:
        report(Progress(TRACING, 1, 1))
        reduced = reduce(graph, config, photos, reduction, report=report, compared=compared)
        graph, bundle = reduced.graph, _reduced_bundle(bundle, reduced, reduction.precision)
        content = _complete(graph, bundle, fused)
        check_alone(content, bundle, images, fused)
    write_bytes(output, content)
    operators = tuple(sorted({node.op_type for node in graph.graph.node}))
    rare = tuple(name for name in operators if name not in SAFE_OPERATORS)
    return ExportReport(
        output,
        len(images),
        map_difference,
        score_difference,
        operators,
        rare,
        tuple(obstacles(graph)),
        reduction.precision,
        reduced,
    )


def _bundle(config: RunConfig, summary: Summary, teachers: tuple[Teacher, Teacher]) -> Bundle:
    """What the model file of a run says of itself."""
    final, reason = summary.losses[-1], unfinished(summary.losses)
    return Bundle(
        preset=config.preset.name,
        height=config.height,
        width=config.width,
        resize=config.resize,
        strides=config.preset.strides,
        fusion=summary.fusion,
        calibration=summary.calibration,
        teachers=teachers,
        package_version=__version__,
        training={
            "images": len(config.train),
            "holdout": len(config.holdout),
            "epochs": summary.epochs,
            "minutes": round(summary.minutes, 2),
            "seed": config.seed,
            "loss": {"stpm": round(final[0], 4), "recon": round(final[1], 4)},
            **({} if reason is None else {"not_converged": reason}),
        },
        roi=config.roi,
        score_fusion=summary.score_fusion,
        profile=config.profile,
    )


def _fitting_mask(file: Path, config: RunConfig) -> StoredMask:
    """The mask in a file. Raises UsageError where it is none, or fits none of the photos that were learned from."""
    mask = load_mask(file)
    if config.profile is not None:
        height, width = config.profile.sizes[0]
        x, y, part_width, part_height = config.roi or (0, 0, width, height)
        placement = place(part_height, part_width, config.size, config.resize)
        mask.ignored(Grid(placement, part_height, part_width, x, y, (height, width)), config.size)
    return mask.stored()


def _reduced_bundle(bundle: Bundle, reduced: ReducedModel, precision: Precision) -> Bundle:
    """The same of its graph in fewer bits, whose maps and scores are others."""
    behaviour = reduced.behaviour
    return replace(
        bundle,
        fusion=behaviour.fusion,
        score_fusion=behaviour.score_fusion,
        calibration=behaviour.calibration,
        precision=precision,
        precision_change=reduced.comparison.change,
        saturation_free=precision == "int8",
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
        add_fusion(graph, bundle.fusion, bundle.score_fusion, (bundle.height, bundle.width))
    document = bundle.to_json()
    graph.producer_name, graph.producer_version = "rstpm-edge", __version__
    helper.set_model_props(graph, {METADATA_KEY: document, **stamps(graph.SerializeToString(), document)})
    onnx.checker.check_model(graph, full_check=True)
    content: bytes = graph.SerializeToString()
    try:
        parse_bundle(document)
        wire.check(wire.split(content))
    except (ModelError, ValueError) as error:
        raise ExportError(
            f"No runtime would be given this model ({error}): nothing was written. Train again, or with other teachers."
        ) from error
    return content


def check(
    content: bytes, model: RSTPM, bundle: Bundle, images: Sequence[NDArray[np.uint8]], fused: bool
) -> tuple[float, float]:
    """Compare the file in ONNX Runtime with `model` on real images, one at a time and as a batch.

    Returns the largest difference of any map, relative to its largest value where that is above 1, and of any score
    (relative).
    Raises ExportError when either exceeds its tolerance, or is NaN, or when the file does not run.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    inputs = _inputs(bundle, images)
    expected = model.outputs(inputs)
    try:
        single = run_maps(session, bundle.output_names, inputs)
        batch = session.run(list(bundle.output_names), {"image": inputs})
    except Exception as error:  # ONNX Runtime's exceptions have no base class but Exception
        raise ExportError(f"ONNX Runtime cannot run the exported graph ({error}): nothing was written.") from error
    # By NumPy, here and below: Python's max lets NaN pass.
    maps_apart = float(np.max([map_difference(maps, expected.flat()) for maps in (single, batch)]))
    scores_apart = float("nan")
    if maps_apart <= MAP_TOLERANCE:  # what is not finite cannot be fused
        postprocessor = Postprocessor(bundle)
        want = postprocessor.score(expected).score
        scores = [postprocessor.score(ModelOutputs.named(bundle.output_names, single)).score]
        if fused:
            scores.append(session.run(["score"], {"image": inputs})[0])
        scores_apart = float(np.max([score_difference(got, want) for got in scores]))
    if not scores_apart <= SCORE_TOLERANCE:
        raise ExportError(
            f"ONNX Runtime and PyTorch disagree (maps {maps_apart:.2g}, score {scores_apart:.2g} relative; "
            f"allowed are {MAP_TOLERANCE:g} and {SCORE_TOLERANCE:g}): nothing was written. Train again, and report it."
        )
    return maps_apart, scores_apart


def map_difference(found: Sequence[NDArray[np.float32]], expected: Sequence[NDArray[np.float32]]) -> float:
    """The largest difference between maps (N, h, w), each as a share of its largest value, or of 1 where that is less.

    Anomaly maps and cosines lie below 2, log odds within 8, normalized angles wherever they like. NaN where a
    map holds one.
    """
    pairs = zip(found, expected, strict=True)
    return float(np.max([np.abs(got - want).max() / np.maximum(1, np.abs(want).max()) for got, want in pairs]))


def score_difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The largest difference between scores (N,), each as a share of itself, or of their mean size where that is more.

    A normalized score may lie near zero.
    """
    scale = np.maximum(np.abs(expected), np.abs(expected).mean())
    return float(np.max(np.abs(found - expected) / scale))


def check_alone(content: bytes, bundle: Bundle, images: Sequence[NDArray[np.uint8]], fused: bool) -> None:
    """Run a file that is not PyTorch's to the last digit: single images and a batch, and its fusion by the extension.

    Raises ExportError when it does not run, or gives what is not finite, or scores that are not those of its maps.
    """
    names = [*bundle.output_names, *(["score"] if fused else [])]
    inputs = _inputs(bundle, images)
    session, postprocessor = open_graph(content), Postprocessor(bundle)
    try:
        for some in (inputs[:1], inputs):
            found = dict(zip(names, session.run(names, {"image": some}), strict=True))
            maps = [found[name] for name in bundle.output_names]
            outputs = ModelOutputs.named(bundle.output_names, maps)
            score = postprocessor.score(outputs).score  # refuses what is not finite
            if fused and not np.allclose(
                found["score"], score, SCORE_TOLERANCE, SCORE_TOLERANCE * np.abs(score).mean()
            ):
                raise ExportError("The fused graph's score is not that of its maps: nothing was written; report it.")
    except (RstpmEdgeError, KeyboardInterrupt):
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no base class but Exception
        raise ExportError(f"ONNX Runtime cannot run the exported graph ({error}): nothing was written.") from error


def _inputs(bundle: Bundle, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """(N, H, W, 3) for images in RGB."""
    model_input = InputFormat(bundle.size, bundle.resize)
    return np.stack([model_input.prepare(image)[0] for image in images])


def _check_images(run: Path, roi: Roi | None, bits: int) -> list[NDArray[np.uint8]]:
    """The run's samples as learned from, and each once more cropped and enlarged: larger, and not square."""
    samples = run / "samples"
    files = sorted(find_images(samples, recursive=False)) if samples.is_dir() else []
    if not files:
        raise ExportError(f"{run / 'samples'} holds no image, so the export cannot be checked; train again.")
    images = [crop(read_image(path, bits=bits), roi, path) for path in files]
    large = []
    for image in images:
        cropped = image[: max(1, image.shape[0] * 3 // 4)]
        large.append(np.asarray(cv2.resize(cropped, (900, 500), interpolation=cv2.INTER_LINEAR), np.uint8))
    return images + large
