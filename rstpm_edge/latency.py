"""How long each step of judging an image takes, measured on the pipeline that the detector calls."""

import contextlib
import itertools
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.calibration import Threshold
from rstpm_edge.cpu import advice
from rstpm_edge.engine.providers import Provider
from rstpm_edge.environment import Environment, read_environment
from rstpm_edge.errors import UsageError
from rstpm_edge.image.file_sizes import MAX_PIXELS
from rstpm_edge.native import kernels
from rstpm_edge.pipeline import InferenceOptions, Pipeline, open_pipeline
from rstpm_edge.preprocessor import ImageLike, Photo

WARM_UP_CALLS = 3  # at least; ONNX Runtime plans its memory in the first, caches and branch predictors take two more
KERNEL_VARIABLE = "RSTPM_EDGE_KERNEL"


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one step, over all calls that were timed."""

    median: float
    p95: float
    p99: float
    min: float


@dataclass(frozen=True)
class LatencyReport:
    """One measurement. All times are of one call, which judges `batch` images.

    `decode_ms` is reading a file up to pixels in memory; None for frames, which are there already.
    `preprocess_ms` is everything from there to the engine, `network_ms` what the engine takes (ONNX Runtime or
    OpenVINO), and `postprocess_ms` everything after it: fusion, score, and regions where a score is above the threshold
    (`anomalous` says for what share of the images). `overhead_ms` is preprocess and postprocess together.
    `peak_memory_mb` (10⁶ bytes) is that of this process since it started, so loading the model is in it.
    `precision` is that of the model file, "fp32", "fp16" or "int8", and `advice` whether this processor suits it.
    """

    model: str
    preset: str
    precision: str
    input_size: tuple[int, int]  # (height, width)
    frame_size: tuple[int, int] | None  # (height, width) of an image in memory; None for files
    files: int
    runs: int
    batch: int
    decode_ms: Timing | None
    preprocess_ms: Timing
    network_ms: Timing
    postprocess_ms: Timing
    total_ms: Timing
    overhead_ms: Timing
    anomalous: float
    images_per_second: float
    peak_memory_mb: float
    advice: str
    environment: Environment


def measure_latency(
    model: str | os.PathLike[str],
    files: Sequence[Path] = (),
    *,
    frame_size: tuple[int, int] | None = None,
    runs: int = 100,
    batch: int = 1,
    providers: Sequence[Provider] | str | None = None,
    threads: int | None = None,
    polite: bool = False,
    engine_cache: str | os.PathLike[str] | None = None,
    kernel: str | None = None,
    threshold: float | None = None,
    public_key: str | os.PathLike[str] | None = None,
) -> LatencyReport:
    """Time `runs` calls of a detector on `batch` images each, after calls that are not counted.

    files: images that are read anew in each call, in turn; without any, a synthetic frame in memory, BGR as a
        camera gives it, of `frame_size` (height, width), by default the model's input size.
    kernel: one of `kernels().available`, by default the active one.
    providers, threads, polite, engine_cache, threshold, public_key: those of `Detector`.

    Raises UsageError, ProviderError, ModelError, or ImageError for an image that cannot be read or judged.
    """
    load = os.getloadavg()[0]
    with _forced(kernel):
        # A frame in memory stands for what a model with a ROI would cut out of a photo, and no mask need fit it.
        part: Literal["model"] | None = "model" if files else None
        options = InferenceOptions(
            providers=providers,
            threads=threads,
            polite=polite,
            engine_cache=engine_cache,
            threshold=threshold,
            roi=part,
            mask=part,
            allow_size_change=True,  # a frame stands for others, and no verdict is shown
            notify=lambda sentence: None,
            public_key=public_key,
        )
        pipeline = open_pipeline(model, options)
    session, info = pipeline.session, pipeline.session.bundle
    limit = options.threshold_of(info)
    if not files:
        frame_size = frame_size or info.size
    images: Sequence[ImageLike] = files or [_frame(frame_size)]
    source = itertools.cycle(images)
    # Each image once, so that the disk is not what is measured.
    for _ in range(max(WARM_UP_CALLS, math.ceil(min(len(images), runs * batch) / batch))):
        _timed(pipeline, list(itertools.islice(source, batch)), limit)
    calls = np.array([_timed(pipeline, list(itertools.islice(source, batch)), limit) for _ in range(runs)])  # (runs, 5)
    decode, preprocess, network, postprocess, anomalous = calls.T
    total = _timing(decode + preprocess + network + postprocess)
    return LatencyReport(
        model=str(model),
        preset=info.preset,
        precision=info.precision,
        input_size=info.size,
        frame_size=None if files else frame_size,
        files=len(files),
        runs=runs,
        batch=batch,
        decode_ms=_timing(decode) if files else None,
        preprocess_ms=_timing(preprocess),
        network_ms=_timing(network),
        postprocess_ms=_timing(postprocess),
        total_ms=total,
        overhead_ms=_timing(preprocess + postprocess),
        anomalous=float(anomalous.mean()) / batch,
        images_per_second=1000 * batch / total.median,
        peak_memory_mb=peak_memory() / 1e6,
        advice=advice(info.precision),
        environment=read_environment(
            session.providers,
            session.threads,
            precision=session.precision,
            polite=polite,
            kernel=pipeline.postprocessor.kernel,
            load=load,
        ),
    )


def peak_memory() -> int:
    """Most bytes of memory that this process ever held at once, its files that are mapped included."""
    # Not getrusage, whose maximum is inherited from the process that started this one.
    status = Path("/proc/self/status").read_text()
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(kilobytes)


def _timed(
    pipeline: Pipeline, images: Sequence[ImageLike], threshold: Threshold
) -> tuple[float, float, float, float, int]:
    """Milliseconds of decoding, preprocessing, network and postprocessing; how many images were anomalous."""
    decode, preprocessor = 0.0, pipeline.preprocessor

    def loaded() -> Iterator[Photo]:
        nonlocal decode
        for image in images:
            before = time.perf_counter()
            photo = preprocessor.load(image)
            if not isinstance(image, np.ndarray):
                decode += time.perf_counter() - before
            yield photo

    start = time.perf_counter()  # from here on, as in `Pipeline.judge`
    batch = preprocessor.batch(loaded(), room=len(images))
    prepared = time.perf_counter()
    outputs = pipeline.session.run(batch.pixels)
    computed = time.perf_counter()
    results = pipeline.postprocessor.results(outputs, batch.grids, batch.ignored, threshold, invalid=batch.invalid)
    end = time.perf_counter()
    return (
        1000 * decode,
        1000 * (prepared - start - decode),
        1000 * (computed - prepared),
        1000 * (end - computed),
        sum(result.is_anomalous for result in results),
    )


@contextlib.contextmanager
def _forced(kernel: str | None) -> Iterator[None]:
    """Detectors made inside use this kernel."""
    if kernel is None:
        yield
        return
    if kernel not in kernels().available:
        raise UsageError(f"There is no kernel {kernel!r} here; choose one of {', '.join(kernels().available)}.")
    before = os.environ.get(KERNEL_VARIABLE)
    os.environ[KERNEL_VARIABLE] = kernel
    try:
        yield
    finally:
        if before is None:
            del os.environ[KERNEL_VARIABLE]
        else:
            os.environ[KERNEL_VARIABLE] = before


def _frame(size: tuple[int, int] | None) -> NDArray[np.uint8]:
    height, width = size or (0, 0)
    if not 0 < height * width <= MAX_PIXELS:
        raise UsageError(f"A frame has at least one and at most {MAX_PIXELS:,} pixels, not {width}×{height}.")
    return np.random.default_rng(0).integers(96, 160, (height, width, 3), np.uint8)


def _timing(milliseconds: NDArray[np.float64]) -> Timing:
    median, p95, p99 = np.percentile(milliseconds, (50, 95, 99)).tolist()
    return Timing(median, p95, p99, float(milliseconds.min()))
