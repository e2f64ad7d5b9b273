"""From a float graph to one in fewer bits: calibrated on the run's own photos, compared with float32, or refused."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from rstpm_edge.engine.providers import INPUT_NAME
from rstpm_edge.errors import ExportError
from rstpm_edge.model.metadata import EMBEDDING, Precision
from rstpm_edge.model.outputs import ModelOutputs
from rstpm_edge.progress import Progress, Report

from ..data.images import load_inputs
from ..data.run_files import recorded_files
from ..data.synthetic_defects import KINDS, spoiled
from ..graph.session import open_graph, run_maps
from ..learning.run_config import RunConfig
from .acceptance import Behaviour, Margins, PrecisionComparison, behave, compare_precisions
from .activation_ranges import METHODS, collect_ranges
from .fp16 import to_fp16
from .int8 import tensors_with_ranges
from .int8_weights import safe_weights, weighted_nodes
from .integer_coverage import IntegerShare, integer_share
from .kept_in_float import Subject, Trial, blocks, keep_sensitive

LEAST_LEARNED, MOST_LEARNED = 32, 64  # photos that ranges are taken from; more change them little
LEAST_HELD_OUT = 8  # photos without which nothing can be said of what moved
MEASURED = 8  # of the photos for ranges, those that errors are measured on
SPOILED = 100  # good photos that pseudo-defects are painted into, each kind once

# What of the maps may be noise of the quantization. With everything in 8 bits it is half of them on the tiles: image
# AUROC falls by 0.0066, and one good score moves by a third of the way to its threshold. At this much it is 0.0023 and
# a tenth; at half as much no less, for more time.
TARGET_ERROR = 0.25
SECONDS = 60.0  # for the search of what to leave in float

# The stages of an export in fewer bits, and the seconds that they took on two cores: what progress is told by.
TRACING = "tracing"
PLANS: Mapping[Precision, Mapping[str, float]] = {
    "fp16": {TRACING: 20, "comparison": 25},
    "int8": {TRACING: 20, "activations": 12, "sensitivity": 40, "comparison": 20},
}


@dataclass(frozen=True)
class Reduction:
    """What is asked for. `data` is where the run's photos lie now; None for where they lay."""

    precision: Precision = "fp32"
    symmetric: bool = False  # INT8 for TensorRT
    data: Path | None = None
    margins: Margins = field(default_factory=Margins)


@dataclass(frozen=True, eq=False)
class Photos:
    """The run's own photos as the model's input, each (H, W, 3) uint8: some of those learned from, and all held out."""

    learned: list[NDArray[np.uint8]]  # empty where they are not needed
    held_out: list[NDArray[np.uint8]]


@dataclass(frozen=True, eq=False)
class ReducedModel:
    """The graph in fewer bits, its own calibration, and what is to be said of it."""

    graph: onnx.ModelProto
    behaviour: Behaviour
    comparison: PrecisionComparison
    milliseconds: tuple[float, float]  # of one image on this machine, at best: float32, and this graph
    embedding: NDArray[np.float32] | None = None  # (n, C), of the held-out photos
    method: str | None = None  # INT8: how ranges were chosen
    kept: tuple[str, ...] = ()  # INT8: blocks that stay in float
    blocks: int = 0  # INT8: of how many
    share: IntegerShare | None = None  # INT8
    symmetric: bool = False


def load_photos(config: RunConfig, wanted: Reduction) -> Photos:
    """The photos that `reduce` needs.

    Raises ExportError when there are too few, or when their folder is gone; TrainingError when some of them are missing
    or others; DatasetError when one cannot be read.
    """
    learned = _photos(config, "learned from", LEAST_LEARNED, MOST_LEARNED, wanted) if wanted.precision == "int8" else []
    return Photos(learned, _photos(config, "held out", LEAST_HELD_OUT, None, wanted))


def reduce(
    graph: onnx.ModelProto,
    config: RunConfig,
    photos: Photos,
    wanted: Reduction,
    *,
    report: Report = lambda progress: None,
    compared: Callable[[PrecisionComparison], None] = lambda comparison: None,
) -> ReducedModel:
    """The run's float `graph`, without fusion, in the precision that is wanted.

    Ranges come from photos that were learned from, all else from photos that were held out. `compared` is told what
    moved before anything is refused.

    Raises ExportError when a margin is exceeded, or maps are not finite.
    """
    outputs, held_out = [output.name for output in graph.graph.output], photos.held_out
    names = [name for name in outputs if name != EMBEDDING]
    details: dict[str, Any] = {}
    if wanted.precision == "fp16":
        small = to_fp16(graph)
    else:
        small, details = _quantized(graph, names, photos.learned, wanted.symmetric, report)
    painted = list(spoiled(_spread(held_out, SPOILED), per_image=len(KINDS)))
    sessions = open_graph(graph), open_graph(small)
    behaviours, embedding, done = [], None, 0

    def counted(images: list[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
        nonlocal done
        for image in images:
            yield image
            done += 1
            report(Progress("comparison", done, 2 * (len(held_out) + len(painted))))

    for session in sessions:
        good, bad = (
            ModelOutputs.named(outputs, run_maps(session, outputs, counted(images))) for images in (held_out, painted)
        )
        if not all(np.isfinite(one).all() for one in (*good.flat(), *bad.flat())):
            raise ExportError(
                f"In {wanted.precision} the maps are not finite: nothing was written. This network needs FP32."
            )
        behaviours.append(behave(good, bad, config.preset, config.size, config.alpha))
        embedding = good.embedding
    comparison = compare_precisions(behaviours[0], behaviours[1], wanted.margins)
    compared(comparison)
    if comparison.broken:
        raise ExportError(comparison.refusal(wanted.precision.upper()))
    return ReducedModel(
        small,
        behaviours[1],
        comparison,
        _milliseconds(*sessions, held_out[0]),
        embedding,
        symmetric=wanted.symmetric,
        **details,
    )


def _quantized(
    graph: onnx.ModelProto, names: Sequence[str], learned: list[NDArray[np.uint8]], symmetric: bool, report: Report
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The graph in INT8, and the fields about it that `ReducedModel` has."""
    pieces = len(learned) + METHODS

    def tell(done: int) -> None:
        report(Progress("activations", done, pieces))

    ranges = collect_ranges(graph, tensors_with_ranges(graph), learned, progress=tell)
    images = _spread(learned, MEASURED)
    subject = Subject(graph, names, images, run_maps(open_graph(graph), names, images), symmetric, safe_weights(graph))
    everything = weighted_nodes(graph)
    trials: dict[str, Trial] = {}
    for done, name in enumerate(ranges, len(learned) + 1):
        trials[name] = subject.quantized(ranges[name], everything)
        tell(done)
    method = min(trials, key=lambda name: trials[name].error)
    kept, trial = keep_sensitive(
        subject,
        ranges[method],
        trials[method],
        target=TARGET_ERROR,
        seconds=SECONDS,
        progress=lambda done, total: report(Progress("sensitivity", done, total)),
    )
    parts, share = len(blocks(graph)), integer_share(trial.graph)
    return trial.graph, {"method": method, "kept": kept, "blocks": parts, "share": share}


def _photos(config: RunConfig, which: str, least: int, most: int | None, wanted: Reduction) -> list[NDArray[np.uint8]]:
    """The run's photos that were held out or learned from, as the model's input, (H, W, 3); `most` evenly spread."""
    recorded = config.holdout if which == "held out" else config.train
    name = wanted.precision.upper()
    if len(recorded) < least:
        raise ExportError(
            f"{name} needs at least {least} photos that were {which}, but the run has {len(recorded)}: train on more "
            "photos, or stay with FP32."
        )
    if most is not None:
        recorded = tuple(_spread(recorded, most))
    data = wanted.data or Path(config.data)
    if not data.is_dir():
        raise ExportError(
            f"{name} needs the photos of the run, and there is no folder {data}: put them back, or say where they are "
            "with `data=FOLDER`."
        )
    paths = recorded_files(data, recorded, f"{name} needs the run's own photos: say where they are with `data=FOLDER`")
    return list(load_inputs(paths, config.size, config.resize, roi=config.roi, bits=config.bits, least=1)[0])


def _spread(items: Any, most: int) -> Any:
    """`most` of `items`, evenly spread, or all of them."""
    return items if len(items) <= most else [items[i * len(items) // most] for i in range(most)]


def _milliseconds(before: Any, after: Any, image: NDArray[np.uint8]) -> tuple[float, float]:
    """The least time of one image in each session, which take turns so that whatever else runs hits both."""
    times: tuple[list[float], list[float]] = [], []
    for session, seen in [(before, times[0]), (after, times[1]), (before, times[0])] * 5:
        time.sleep(0.1)  # the threads of one session spin on for a while
        for call in range(7):
            start = time.perf_counter()
            session.run(None, {INPUT_NAME: image[None]})
            if call >= 2:
                seen.append(1000 * (time.perf_counter() - start))
    return min(times[0]), min(times[1])
