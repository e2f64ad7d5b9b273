"""Distil both pairs from good images, then calibrate on good images that were held out.

rstpm-edge train DATA        # does all of this; see `rstpm-edge train --help`
"""

import contextlib
import ctypes
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from numpy.typing import NDArray

from rstpm_edge import __version__
from rstpm_edge.calibration import conformal_threshold
from rstpm_edge.errors import OutputError, TrainingError, UsageError
from rstpm_edge.files import make_folder
from rstpm_edge.image.decode import read_image
from rstpm_edge.image.placement import ResizePolicy
from rstpm_edge.image.roi import Roi, check_roi, crop
from rstpm_edge.input_profile import BITS, InputProfile
from rstpm_edge.progress import Progress, Report

from .budget import Budget, expect
from .calibrate import calibrate_on
from .data import about_left_out, existing_folder, good_images, load_inputs
from .duplicates import find_duplicates, fingerprint
from .features import compute_features, remove_features
from .fit import fit
from .fit_head import fit_head
from .learned_photos import load_learned
from .model import DEEPEST, RSTPM
from .moved_copies import moved_copies, with_moved_copies
from .presets import EDGE, Preset
from .recorded_files import identify, recorded_files
from .run import (
    Checkpoint,
    RunConfig,
    Summary,
    load_checkpoint,
    load_config,
    new_run_folder,
    save_config,
    save_samples,
    save_summary,
    update_checkpoint,
)
from .run_log import RunLog
from .split import about_copies, split
from .turned_copies import lie_at_any_angle, turned_copies, with_turned_copies
from .usual import fit_usual

TURNED_EPOCHS = 2  # times as many where parts lie at any angle: there is more to learn
LARGEST = 4096  # pixels a side of the input
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
ABOUT_ANGLES = (
    "the parts lie at any angle, it seems: they are learned from at further ones, too, in twice the epochs unless "
    "--epochs says how many. --set turned=false leaves that out."
)
SMALLER = "train with a smaller --size, or with --device cpu"
NAMED = 5  # held-out images whose scores the summary names


@dataclass(frozen=True)
class TrainingOptions:
    """What the user chooses. `holdout` is the share of good images that is never trained on."""

    preset: Preset = EDGE
    epochs: int | None = None  # None: the preset's
    max_minutes: float | None = None
    seed: int = 0
    size: tuple[int, int] = (256, 256)  # height, width
    resize: ResizePolicy = "stretch"
    roi: Roi | None = None  # x, y, width, height of the part of each photo to learn; None for all of it
    holdout: float = 0.2
    alpha: float | None = None
    skip_unreadable: bool = False
    weights: Mapping[str, str] = field(default_factory=dict)
    bits: int | None = None  # the range of 16-bit values, 8 to 16; None: what the photos themselves use
    allow_size_change: bool = False  # take the ROI from photos of several sizes


@dataclass(frozen=True)
class Machine:
    """Where to train: Fabric's accelerator, precision (`PRECISIONS`), and how many processes share each batch.

    Precision "auto" is "bf16-mixed" on a CPU with bfloat16 instructions, where a step then takes half the time at the
    same AUROC, and "32-true" elsewhere.
    """

    device: str = "auto"
    precision: str = "auto"
    processes: int = 1


def train(
    data: str | Path | Sequence[Path],
    options: TrainingOptions | None = None,
    machine: Machine | None = None,
    *,
    folder: Path | None = None,
    report: Report = lambda progress: None,
) -> Path:
    """Train on the good images of `data` and return the run's folder (a new one in ./runs by default).

    `data` is a folder (see `good_images`), or the images themselves.
    Raises DatasetError, UsageError and WeightsError before training starts, TrainingError when it diverges,
    OutputError when the run cannot be written, or `folder` holds one. Whole epochs are never lost: see `resume`.
    """
    options = options or TrainingOptions()
    check_options(options)
    if folder is not None and load_checkpoint(folder):
        raise OutputError(f"{folder} holds a run already: go on with it by --resume, or name another folder.")
    budget = Budget(options.max_minutes)
    files = good_images(data) if isinstance(data, str | Path) else list(data)
    source, recorded = identify(files)
    fabric = _launch(machine or Machine())
    log = RunLog()
    report = _of_one_process(fabric, log.beside(report))
    for sentence in about_left_out(files[0].parent) if isinstance(data, str | Path) else ():
        report(Progress("skipped", 0, 0, warning=sentence))
    photos = _choose(files, options, budget, report)
    file_of = dict(zip(files, recorded, strict=True))
    config = RunConfig(
        data=os.path.abspath(data) if isinstance(data, str | Path) else str(source),
        preset=options.preset if options.epochs is None else replace(options.preset, epochs=options.epochs),
        height=options.size[0],
        width=options.size[1],
        resize=options.resize,
        seed=options.seed,
        alpha=options.alpha,
        max_minutes=options.max_minutes,
        weights={name: w if w == "random" else os.path.abspath(w) for name, w in options.weights.items()},
        train=tuple(file_of[photos.paths[i]] for i in photos.learned),
        holdout=tuple(file_of[photos.paths[i]] for i in photos.held_out),
        aside=tuple(file_of[photos.paths[i]] for i in photos.aside),
        version=__version__,
        roi=options.roi,
        profile=photos.profile,
    )
    model = _build(config)
    learned, held_out = photos.inputs[photos.learned], photos.inputs[photos.held_out]
    _plan(fabric, config, model, learned, held_out, budget)
    _check_time(budget, len(files), report)
    if config.preset.turned:
        config = _told_of_angles(fabric, config, model, learned, _aspect(photos.paths[0], options), budget, report)
        if config.turned is not None:  # there is more to learn from
            if options.epochs is None:
                config = replace(config, preset=replace(config.preset, epochs=TURNED_EPOCHS * config.preset.epochs))
            _plan(fabric, config, model, learned, held_out, budget)
            _check_time(budget, len(files), report)
    if folder is None and fabric.is_global_zero:
        folder = new_run_folder()
    folder = Path(fabric.broadcast(str(folder)))
    if fabric.is_global_zero:
        save_config(folder, config)
        save_samples(folder, [photos.paths[i] for i in photos.held_out])
        log.open(folder)
    fabric.barrier()
    with log.ended():
        _run(fabric, folder, config, model, learned, held_out, None, budget, report)
    return folder


@dataclass(frozen=True, eq=False)
class _Photos:
    """The readable photos, brought to the model's input, (N, H, W, 3), and which rows are for what, each ascending."""

    paths: Sequence[Path]
    inputs: NDArray[np.uint8]
    learned: NDArray[np.int64]
    held_out: NDArray[np.int64]
    aside: NDArray[np.int64]  # copies of held-out ones
    profile: InputProfile


def _choose(files: Sequence[Path], options: TrainingOptions, budget: Budget, report: Report) -> _Photos:
    """Read `files` and choose what is held out. Raises DatasetError, and UsageError for too few images for `alpha`."""
    tell = _stage(budget, report, "reading", len(files))
    inputs, paths, problems, profile = load_learned(
        files,
        options.size,
        options.resize,
        roi=options.roi,
        skip_unreadable=options.skip_unreadable,
        bits=options.bits,
        allow_size_change=options.allow_size_change,
        warn=lambda sentence: report(Progress("photos", 0, 0, warning=sentence)),
        progress=tell,
    )
    for problem in problems:
        report(Progress("skipped", 0, 0, warning=problem))
    copies = find_duplicates([fingerprint(image) for image in inputs], inputs)
    held_out, learned = split(len(paths), options.holdout, options.seed, copies)
    if copies:
        report(Progress("copies", 0, 0, warning=about_copies(copies, held_out, learned)))
    if options.alpha is not None:
        conformal_threshold((0.0,) * len(held_out), options.alpha)  # too few images: say so before the work
    aside = np.setdiff1d(np.arange(len(paths)), [*held_out, *learned])
    return _Photos(paths, inputs, learned, held_out, aside, profile)


def _told_of_angles(
    fabric: Fabric,
    config: RunConfig,
    model: RSTPM,
    learned: NDArray[np.uint8],
    aspect: float,
    budget: Budget,
    report: Report,
) -> RunConfig:
    """`config`, with turned copies where the photos (N, H, W, 3) that are learned from lie at any angle."""
    tell = _stage(budget, report, "angles", 1, budget.likely_epochs(config.preset.epochs))
    with _enough_memory(fabric, SMALLER):
        any_angle = lie_at_any_angle(model, learned, aspect, fabric.device)
    tell(1)
    if not fabric.broadcast(any_angle):
        return config
    report(Progress("angles", 0, 0, warning=ABOUT_ANGLES))
    return replace(config, turned=aspect)


def _plan(
    fabric: Fabric,
    config: RunConfig,
    model: RSTPM,
    learned: NDArray[np.uint8],
    held_out: NDArray[np.uint8],
    budget: Budget,
) -> None:
    """Move `model` to the device, and measure what the stages take there."""
    count = len(learned)
    copies = moved_copies(count, config.preset.moved) if config.turned is None else turned_copies(count)
    with _enough_memory(fabric, SMALLER):
        model.to(fabric.device)
        images = (1 + copies) * count
        budget.expect(expect(fabric, model, learned, images, len(held_out), angles=config.preset.turned))


def _check_time(budget: Budget, photos: int, report: Report) -> None:
    if sentence := budget.check(photos):
        report(Progress("time", 0, 0, warning=sentence))


def _stage(budget: Budget, report: Report, stage: str, total: int = 1, epochs: int = 0) -> "Callable[[int], None]":
    """Begin a stage of `total` pieces, before `epochs`; gives what is to be called with how many of them are done."""
    tell = _counted(budget, report, stage, total, epochs)
    return lambda done: tell(done, total)


def _counted(budget: Budget, report: Report, stage: str, total: int = 1, epochs: int = 0) -> Callable[[int, int], None]:
    """As `_stage`, for work that tells its total itself."""
    budget.begin(stage)
    plan = budget.plan(epochs)
    report(Progress(stage, 0, total, plan=plan))
    return lambda done, total: report(Progress(stage, done, total, plan=plan))


def _of_one_process(fabric: Fabric, report: Report) -> Report:
    """One voice is enough."""
    return report if fabric.is_global_zero else lambda progress: None


def resume(folder: Path, machine: Machine | None = None, *, report: Report = lambda progress: None) -> Path:
    """Go on with a run after its last whole epoch; its losses are those of an uninterrupted run.

    Raises TrainingError when `folder` is no run or its images have changed.
    """
    config, checkpoint = load_config(folder), load_checkpoint(folder)
    budget = Budget(config.max_minutes, checkpoint.minutes if checkpoint else 0.0)
    fabric = _launch(machine or Machine())
    log = RunLog()
    report = _of_one_process(fabric, log.beside(report))
    if fabric.is_global_zero:
        log.open(folder)
    source = existing_folder(config.data)
    paths = recorded_files(source, (*config.train, *config.holdout), "train again on the new images")
    with log.ended():
        tell = _stage(budget, report, "reading", len(paths))
        inputs, _, _ = load_inputs(paths, config.size, config.resize, roi=config.roi, bits=config.bits, progress=tell)
        learned, held_out = inputs[: len(config.train)], inputs[len(config.train) :]
        model = _build(config)
        _plan(fabric, config, model, learned, held_out, budget)
        _run(fabric, folder, config, model, learned, held_out, checkpoint, budget, report)
    return folder


def is_first_process() -> bool:
    """Whether this process is the only one of a training, or the one that speaks for all."""
    return not dist.is_initialized() or dist.get_rank() == 0


def check_options(options: TrainingOptions) -> None:
    """Raises UsageError for the first option that cannot work."""
    if options.roi is not None:
        check_roi(options.roi)
    unit = DEEPEST * options.preset.teacher1_shrink
    smallest = 2 * unit  # of one position there is no batch statistic
    if any(not smallest <= side <= LARGEST or side % unit for side in options.size):
        raise UsageError(
            f"The input size {options.size[0]}x{options.size[1]} does not work: "
            f"height and width must be multiples of {unit}, from {smallest} to {LARGEST}."
        )
    if options.preset.smoothing_sigma > max(options.size):
        raise UsageError(f"--set smoothing_sigma is at most the input's larger side, {max(options.size)} pixels.")
    if options.bits is not None and options.bits not in BITS:
        raise UsageError(f"--bits is one of {', '.join(map(str, BITS))}, or auto, not {options.bits}.")
    if not 0 < options.holdout < 1:
        raise UsageError(f"--holdout is a share between 0 and 1, not {options.holdout:g}.")
    if options.epochs is not None and options.epochs < 1:
        raise UsageError(f"--epochs must be at least 1, not {options.epochs}.")
    if options.max_minutes is not None and not options.max_minutes > 0:
        raise UsageError(f"--max-minutes must be positive, not {options.max_minutes:g}.")
    if not 0 <= options.seed < 1 << 63:
        raise UsageError(f"--seed must lie between 0 and 2^63 - 1, not {options.seed}.")
    unknown = set(options.weights) - {options.preset.teacher1, options.preset.teacher2}
    if unknown:
        raise UsageError(
            f"--weights names {', '.join(sorted(unknown))}, but the teachers are "
            f"{options.preset.teacher1} and {options.preset.teacher2}."
        )


def _launch(machine: Machine) -> Fabric:
    device = _checked_device(machine.device)
    if machine.precision not in PRECISIONS:
        raise UsageError(f"--precision is one of {', '.join(PRECISIONS)}, not {machine.precision!r}.")
    if machine.processes < 1:
        raise UsageError(f"--processes must be at least 1, not {machine.processes}.")
    strategy = "ddp" if machine.processes > 1 else "auto"
    precision = _auto_precision(device) if machine.precision == "auto" else machine.precision
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells which precision was asked for
    try:
        fabric = Fabric(
            accelerator=device,
            devices=machine.processes,
            strategy=strategy,
            precision=precision,  # type: ignore[arg-type]
        )
    except (ValueError, RuntimeError, TypeError) as error:
        raise UsageError(
            f"Cannot train on {machine.device!r} with --precision {precision} and --processes {machine.processes} "
            f"({error}); try --device cpu."
        ) from error
    if machine.processes > 1 and fabric.device.type == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // machine.processes))
    fabric.launch()
    return fabric


def _checked_device(device: str) -> str:
    """The device in lower case. Raises UsageError for others than ours, and for a GPU that is not there."""
    name = device.strip().lower()
    if name not in DEVICES:
        gpu = " An NVIDIA GPU is called cuda." if name in ("gpu", "mps", "nvidia", "tpu") or name.isdecimal() else ""
        raise UsageError(f"Cannot train on {device!r}: the device is one of {', '.join(DEVICES)}.{gpu}")
    if name == "cuda" and not torch.cuda.is_available():
        why = "there is no NVIDIA GPU here that it can use" if torch.version.cuda else "it was built for the CPU alone"
        raise UsageError(f"Cannot train on {name!r} (PyTorch says that {why}); try --device cpu.")
    return name


def _auto_precision(device: str) -> str:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        flags = ""
    native = "avx512_bf16" in flags or "amx_bf16" in flags
    on_cpu = device == "cpu" or (device == "auto" and not torch.cuda.is_available())
    return "bf16-mixed" if native and on_cpu else "32-true"


def _keep_freed_memory() -> None:
    """Let the C library keep what a step frees; by default the kernel gets it back and every step faults it in again.

    That takes a tenth to a half of the time on small boxes. glibc only: elsewhere nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    m_trim_threshold, m_mmap_max = -1, -4  # malloc.h
    mallopt(m_mmap_max, 0)
    mallopt(m_trim_threshold, (1 << 31) - 1)


def _aspect(photo: Path, options: TrainingOptions) -> float:
    """How many times as much of the scene's width as of its height a pixel of the input covers."""
    if options.resize == "letterbox":
        return 1.0
    height, width = crop(read_image(photo), options.roi, photo).shape[:2]
    return float((width / options.size[1]) / (height / options.size[0]))


def _build(config: RunConfig) -> RSTPM:
    torch.manual_seed(config.seed)
    return RSTPM(config.preset, config.weights)


def _run(
    fabric: Fabric,
    folder: Path,
    config: RunConfig,
    model: RSTPM,
    inputs: NDArray[np.uint8],
    held_out: NDArray[np.uint8],
    checkpoint: Checkpoint | None,
    budget: Budget,
    report: Report,
) -> None:
    model.students.to(memory_format=torch.channels_last)
    if fabric.device.type == "cpu":
        _keep_freed_memory()
    go_on = f"go on with --resume {folder} --device cpu"
    fewer = f"train again with --set batch_size=N, below {config.preset.batch_size}, or a smaller --size, or {go_on}"
    with _enough_memory(fabric, fewer):
        losses = _learn(fabric, folder, config, model, inputs, checkpoint, budget, report)
    if fabric.is_global_zero:
        with _enough_memory(fabric, go_on):
            found = calibrate_on(
                model,
                held_out,
                fabric.device,
                config.alpha,
                progress=_stage(budget, report, "calibration", len(held_out)),
            )
        hashes = (model.teacher1.record.sha256, model.teacher2.record.sha256)
        named = zip((photo.name for photo in config.holdout), found.scores, strict=True)
        highest = tuple(sorted(named, key=lambda pair: -pair[1])[:NAMED])
        save_summary(
            folder,
            Summary(
                len(losses),
                budget.minutes,
                tuple(losses),
                found.fusion,
                found.calibration,
                hashes,
                highest,
                found.evidence,
            ),
        )
    fabric.barrier()


def _learn(
    fabric: Fabric,
    folder: Path,
    config: RunConfig,
    model: RSTPM,
    inputs: NDArray[np.uint8],
    checkpoint: Checkpoint | None,
    budget: Budget,
    report: Report,
) -> Sequence[tuple[float, float]]:
    """Students, what is usual, and the head, from `inputs` and their copies; gives the losses of each epoch."""
    # Each process has its own.
    cache_folder = make_folder(folder / "features" / str(fabric.global_rank), below=folder)
    if config.turned is None:
        images = with_moved_copies(inputs, config.preset.moved, config.seed)
    else:
        images = with_turned_copies(inputs, config.turned, config.seed)
    done = 0 if checkpoint is None else len(checkpoint.losses)
    try:
        cache = compute_features(
            model,
            images,
            cache_folder,
            fabric.device,
            photos=len(inputs),
            progress=_stage(budget, report, "teachers", len(images), budget.likely_epochs(config.preset.epochs - done)),
        )
        budget.begin("students")
        losses = fit(fabric, folder, config, model, cache, checkpoint=checkpoint, budget=budget, report=report)
        if fabric.is_global_zero:
            if model.preset.distance == "surprise":
                fit_usual(model, cache, fabric.device, progress=_counted(budget, report, "usual"))
            if model.head is not None:
                fit_head(model, cache, fabric.device, progress=_counted(budget, report, "head"))
            update_checkpoint(folder, model)
    finally:
        remove_features(cache_folder)
    return losses


@contextlib.contextmanager
def _enough_memory(fabric: Fabric, otherwise: str) -> Iterator[None]:
    """Raises TrainingError, with `otherwise` for what to do, where the accelerator's memory is too small."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(f"The memory of {fabric.device} is too small; {otherwise}.") from error
