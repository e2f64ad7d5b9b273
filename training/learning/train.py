"""Distil both pairs from good images, then calibrate on good images that were held out.

rstpm-edge train DATA        # does all of this; see `rstpm-edge train --help`
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from rstpm_edge import __version__
from rstpm_edge.atomic_files import make_folder
from rstpm_edge.calibration import conformal_threshold
from rstpm_edge.errors import OutputError
from rstpm_edge.image.decode import read_image
from rstpm_edge.image.input_profile import InputProfile
from rstpm_edge.image.roi import crop
from rstpm_edge.progress import Progress, Report

from ..data.duplicates import find_duplicates, fingerprint
from ..data.holdout import about_copies, split
from ..data.images import about_left_out, existing_folder, good_images, load_inputs
from ..data.learned_photos import load_learned
from ..data.rotation_augmentation import rotated_copies, with_rotated_copies
from ..data.run_files import identify, recorded_files
from ..data.shift_augmentation import shifted_copies, with_shifted_copies
from ..model.rstpm import RSTPM
from .feature_cache import compute_features, remove_features
from .head_training import train_segmentation_head
from .machine import Machine, enough_memory, keep_freed_memory, launch, of_one_process
from .map_calibration import calibrate_model
from .options import TrainingOptions, check_options
from .residual_normalization import fit_residual_normalization
from .rotation_detection import lie_at_any_angle
from .run_folder import (
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
from .student_training import train_students
from .time_budget import Budget, expect

ROTATED_EPOCHS = 2  # times as many where parts lie at any angle: there is more to learn
ABOUT_ROTATION = (
    "the parts seem to lie at any angle, so the photos are learned from in rotated copies, too (rotation "
    "augmentation), in twice the epochs unless --epochs says how many. --set rotation_augmentation=false leaves that "
    "out."
)
SMALLER = "train with a smaller --size, or with --device cpu"
NAMED = 5  # held-out images whose scores the summary names


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
    fabric = launch(machine or Machine())
    log = RunLog()
    report = of_one_process(fabric, log.beside(report))
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
    if config.preset.rotation_augmentation:
        config = _with_rotation(fabric, config, model, learned, _aspect(photos.paths[0], options), budget, report)
        if config.rotation_aspect is not None:  # there is more to learn from
            if options.epochs is None:
                config = replace(config, preset=replace(config.preset, epochs=ROTATED_EPOCHS * config.preset.epochs))
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


def _with_rotation(
    fabric: Fabric,
    config: RunConfig,
    model: RSTPM,
    learned: NDArray[np.uint8],
    aspect: float,
    budget: Budget,
    report: Report,
) -> RunConfig:
    """`config`, with rotation augmentation where the photos (N, H, W, 3) that are learned from lie at any angle."""
    tell = _stage(budget, report, "rotation", 1, budget.likely_epochs(config.preset.epochs))
    with enough_memory(fabric, SMALLER):
        any_angle = lie_at_any_angle(model, learned, aspect, fabric.device)
    tell(1)
    if not fabric.broadcast(any_angle):
        return config
    report(Progress("rotation", 0, 0, warning=ABOUT_ROTATION))
    return replace(config, rotation_aspect=aspect)


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
    copies = (
        shifted_copies(count, config.preset.shift_augmentation)
        if config.rotation_aspect is None
        else rotated_copies(count)
    )
    with enough_memory(fabric, SMALLER):
        model.to(fabric.device)
        images = (1 + copies) * count
        budget.expect(
            expect(fabric, model, learned, images, len(held_out), rotation=config.preset.rotation_augmentation)
        )


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


def resume(folder: Path, machine: Machine | None = None, *, report: Report = lambda progress: None) -> Path:
    """Go on with a run after its last whole epoch; its losses are those of an uninterrupted run.

    Raises TrainingError when `folder` is no run or its images have changed.
    """
    config, checkpoint = load_config(folder), load_checkpoint(folder)
    budget = Budget(config.max_minutes, checkpoint.minutes if checkpoint else 0.0)
    fabric = launch(machine or Machine())
    log = RunLog()
    report = of_one_process(fabric, log.beside(report))
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
        keep_freed_memory()
    go_on = f"go on with --resume {folder} --device cpu"
    fewer = f"train again with --set batch_size=N, below {config.preset.batch_size}, or a smaller --size, or {go_on}"
    with enough_memory(fabric, fewer):
        losses = _learn(fabric, folder, config, model, inputs, checkpoint, budget, report)
    if fabric.is_global_zero:
        with enough_memory(fabric, go_on):
            found = calibrate_model(
                model,
                held_out,
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
                found.score_fusion,
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
    """Train students, residual normalization and segmentation head on `inputs` and copies; gives all losses."""
    # Each process has its own.
    cache_folder = make_folder(folder / "features" / str(fabric.global_rank), below=folder)
    if config.rotation_aspect is None:
        images = with_shifted_copies(inputs, config.preset.shift_augmentation, config.seed)
    else:
        images = with_rotated_copies(inputs, config.rotation_aspect, config.seed)
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
        losses = train_students(
            fabric, folder, config, model, cache, checkpoint=checkpoint, budget=budget, report=report
        )
        if fabric.is_global_zero:
            if model.preset.distance == "normalized-residual":
                fit_residual_normalization(model, cache, fabric.device, progress=_counted(budget, report, "residuals"))
            if model.head is not None:
                train_segmentation_head(model, cache, fabric.device, progress=_counted(budget, report, "segmentation"))
            update_checkpoint(folder, model)
    finally:
        remove_features(cache_folder)
    return losses
