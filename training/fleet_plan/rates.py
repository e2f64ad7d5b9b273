"""How fast this machine trains and judges, by short runs of the code that does both."""

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from rstpm_edge.cpu import usable_cores
from rstpm_edge.detector import Detector
from rstpm_edge.engine.no_telemetry import onnxruntime
from rstpm_edge.engine.onnx_runtime import session_options
from rstpm_edge.engine.providers import INPUT_NAME
from rstpm_edge.image.decode import read_stored
from rstpm_edge.image.preprocess import InputFormat
from rstpm_edge.progress import Progress, Report

from ..data.images import load_inputs
from ..graph.latency import BESIDE
from ..graph.onnx_graph import to_onnx
from ..learning.augmentation import run_preset
from ..learning.machine import Machine, launch, tune
from ..learning.options import TrainingOptions
from ..learning.stage_times import StageRates, measure_rates
from ..model.rstpm import RSTPM

PHOTOS = 16  # that are read, and of which some go through each stage
SCORING = 4.0  # seconds in which all cores judge
CHECKED = 16  # images on which an export is checked, three times each


@dataclass(frozen=True)
class Rates:
    """What was measured, at an input of `size` (height, width) with photos as they were given.

    Seconds: `read` of a photo from its file to the model's input, `export` of a model. `photos_per_second` are judged
    by all `cores` together, each with a thread of its own, from file to score. `model_bytes` is the size of a model
    file. `load` is the machine's load average before: what else runs makes all of this slower.
    """

    size: tuple[int, int]
    stages: StageRates
    read: float
    export: float
    photos_per_second: float
    model_bytes: int
    cores: int
    load: float


def measure(
    files: Sequence[Path],
    size: tuple[int, int],
    options: TrainingOptions,
    machine: Machine,
    *,
    load: float,
    model_file: Path | None = None,
    report: Report = lambda progress: None,
) -> Rates:
    """Measure with some `files`, photos of good parts; `model_file` is judged with where it is given.

    Takes about half a minute on two cores. Raises UsageError, WeightsError, DatasetError for a photo that cannot be
    read, and ModelError.
    """
    some = list(files[:: max(1, len(files) // PHOTOS)][:PHOTOS])
    steps = itertools.count(1)
    report(Progress("measuring", 0, 4))

    def done() -> None:
        report(Progress("measuring", next(steps), 4))

    start = time.monotonic()
    photos, _, _ = load_inputs(some, size, options.resize, roi=options.roi)
    read = (time.monotonic() - start) / len(some)
    done()
    preset = run_preset(options)
    torch.manual_seed(options.seed)
    fabric, model = launch(machine), RSTPM(preset, options.weights)
    model.to(fabric.device)
    tune(fabric, model.students)
    stages = measure_rates(fabric, model, photos)
    done()
    start = time.monotonic()
    content = to_onnx(model.cpu().eval(), size).SerializeToString()
    tracing = time.monotonic() - start
    done()
    if model_file is None:
        rate, single = _graph_rate(content, some, size, options)
    else:
        rate, single = _model_rate(model_file, some)
    done()
    export = tracing + CHECKED * (stages.teachers + stages.look + 3 * single)
    return Rates(size, stages, read, export, rate, len(content), usable_cores(), load)


def _model_rate(model_file: Path, files: Sequence[Path]) -> tuple[float, float]:
    """Photos per second of all cores, and seconds of one on its own core, of a model file as it ships."""
    detectors = [
        Detector(model_file, threads=1, allow_size_change=True, notify=lambda sentence: None)
        for _ in range(usable_cores())
    ]
    return _rate([detector.__call__ for detector in detectors], files)


def _graph_rate(
    content: bytes, files: Sequence[Path], size: tuple[int, int], options: TrainingOptions
) -> tuple[float, float]:
    """The same of a graph that nobody has trained: reading and network, with `BESIDE` for what comes after it."""

    model_input = InputFormat(size, options.resize, options.bits or 16)

    def judging() -> Callable[[Path], object]:
        session = onnxruntime.InferenceSession(content, session_options(1), providers=["CPUExecutionProvider"])

        def judge(file: Path) -> object:
            photo, _ = model_input.prepare(read_stored(file), options.roi, file, channels="bgr")
            return session.run(None, {INPUT_NAME: photo[None]})

        return judge

    rate, single = _rate([judging() for _ in range(usable_cores())], files)
    return rate / BESIDE, single * BESIDE


def _rate(judges: Sequence[Callable[[Path], object]], files: Sequence[Path]) -> tuple[float, float]:
    """Photos per second of all `judges` at once, each in a thread, and seconds of one photo there."""
    counts = [0] * len(judges)
    begin, end = threading.Barrier(len(judges)), [0.0]

    def work(number: int) -> None:
        judges[number](files[0])  # the first one is slower
        begin.wait()
        end[0] = end[0] or time.monotonic() + SCORING
        for i in itertools.count(number):
            judges[number](files[i % len(files)])
            counts[number] += 1
            if time.monotonic() >= end[0]:
                return

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(judges))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = max(1, sum(counts))
    return total / SCORING, SCORING * len(judges) / total
