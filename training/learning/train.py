"""Distil both pairs from good images, then calibrate on good images that were held out.

rstpm-edge train DATA        # does all of this; see `rstpm-edge train --help`
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rstpm_edge import __version__
from rstpm_edge.atomic_files import make_folder
from rstpm_edge.errors import DatasetError
from rstpm_edge.model.metadata import EMBEDDING
from rstpm_edge.progress import Report

from ..data.images import about_left_out, good_images, load_inputs, training_folder
from ..data.input_size import MOST, choose_size, sampled_sizes
from ..data.run_files import RecordedFile, identify, recorded_files
from ..data.sessions import FOLDERS, session_names
from ..model.rstpm import RSTPM
from .augmentation import (
    about_missing_copies,
    run_preset,
    with_copies,
    with_decided_augmentation,
    with_rotation_aspect,
)
from .checkpoint import Checkpoint, complete_checkpoint, load_checkpoint
from .feature_cache import compute_features, remove_features
from .head_training import train_segmentation_head
from .job import Job, start
from .machine import Machine, enough_memory, tune
from .map_calibration import calibrate_model
from .novelty import embed, novelty_of_learned, with_held_out
from .options import TrainingOptions, check_options, check_size, size_unit
from .photo_choice import ChosenPhotos, choose_photos
from .residual_normalization import fit_residual_normalization
from .run_config import RunConfig, load_config, save_config
from .run_folder import check_no_run, new_run_folder, one_training, save_samples
from .run_summary import Summary, save_summary
from .session_calibration import rates_of_run
from .stage_times import plan_again, plan_stages
from .student_training import train_students
from .synthetic_scores import synthetic_count, synthetic_scores
from .time_budget import Budget

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
    Raises DatasetError, UsageError and WeightsError before training starts, also where another process trains in
    `folder`, TrainingError when it diverges, OutputError when the run cannot be written, or `folder` holds one. Whole
    epochs are never lost: see `resume`.
    """
    options = options or TrainingOptions()
    check_options(options)
    if folder is not None:
        check_no_run(folder)
    budget = Budget(options.max_minutes)
    below = options.sessions == FOLDERS
    if isinstance(data, str | Path):
        files, base = good_images(data, below=below), training_folder(data)
    else:
        files, base = list(data), None
    job = start(machine, budget, report)
    tell = job.stage("reading", 2 * len(files))  # each for its checksum, and for its pixels
    source, recorded = identify(files, base, progress=tell)
    if options.sessions is not None:
        session_names([file.name for file in recorded], options.sessions)  # one that does not fit: before the work
    if isinstance(data, str | Path):
        source = Path(os.path.abspath(data))
        for sentence in [] if below else about_left_out(files[0].parent):
            job.warn("skipped", sentence)
    size = options.size or job.fabric.broadcast(
        _chosen_size(job, files, options)
    )  # each process may have timed its own
    names = {path: file.name for path, file in zip(files, recorded, strict=True)}
    photos = choose_photos(job, files, size, options, names, progress=lambda done: tell(len(files) + done))
    config = _configuration(source, dict(zip(files, recorded, strict=True)), photos, size, options)
    learned, held_out = photos.inputs[photos.learned], photos.inputs[photos.held_out]
    config, decided = with_decided_augmentation(with_rotation_aspect(config, photos.paths[0]), learned)
    model = _build(config)
    if about := decided or about_missing_copies(options, len(learned)):
        job.warn("augmentation", about)
    plan_stages(job, config, model, learned, held_out)
    job.check_time(len(files))
    with _new_run(job, folder, config, [photos.paths[i] for i in photos.held_out]) as run, job.log.ended():
        _finish(job, run, config, model, learned, held_out, None)
    return run


def resume(folder: Path, machine: Machine | None = None, *, report: Report = lambda progress: None) -> Path:
    """Go on with a run after its last whole epoch; its losses are those of an uninterrupted run.

    Raises TrainingError when `folder` is no run or its images have changed, UsageError where another process trains it.
    """
    config = load_config(folder)
    job = start(machine, Budget(config.max_minutes), report)
    with _held(job, folder):
        checkpoint = load_checkpoint(folder)  # now that nobody else replaces it
        job = replace(job, budget=Budget(config.max_minutes, checkpoint.minutes if checkpoint else 0.0))
        if job.fabric.is_global_zero:
            job.log.open(folder)
        with job.log.ended():
            _go_on(job, folder, config, checkpoint)
    return folder


def _go_on(job: Job, folder: Path, config: RunConfig, checkpoint: Checkpoint | None) -> None:
    """All of `resume` that a line of the run's log tells the end of."""
    source = Path(config.data)
    if not source.is_dir():
        raise DatasetError(
            f"The photos of the run {folder} were in {source}, and there is no such folder: put them back."
        )
    photos = (*config.train, *config.holdout)
    tell = job.stage("reading", 2 * len(photos))
    paths = recorded_files(source, photos, "train again on the new images", progress=tell)
    inputs, _, _ = load_inputs(
        paths,
        config.size,
        config.resize,
        roi=config.roi,
        bits=config.bits,
        least=1,  # without copies that were set aside, these may be fewer than a new training asks for
        progress=lambda done: tell(len(paths) + done),
    )
    learned, held_out = inputs[: len(config.train)], inputs[len(config.train) :]
    model = _build(config)
    plan_stages(job, config, model, learned, held_out)
    _finish(job, folder, config, model, learned, held_out, checkpoint)


def _chosen_size(job: Job, files: Sequence[Path], options: TrainingOptions) -> tuple[int, int]:
    """Of the input, (height, width), as the photos ask for. Raises UsageError where the preset does not work at it."""
    sizes, most = sampled_sizes(files, options.roi), options.most_pixels
    size = choose_size(sizes, size_unit(options.preset), MOST if most is None else most)
    check_size(size, options.preset)
    job.warn("size", f"The input has {size[0]}x{size[1]} pixels (height x width), in the shape of the photos.")
    return size


def _configuration(
    source: Path,
    recorded: Mapping[Path, RecordedFile],
    photos: ChosenPhotos,
    size: tuple[int, int],
    options: TrainingOptions,
) -> RunConfig:
    """What a new run on these photos in or below `source` is; `recorded` says of each file what a run keeps of it."""
    train, holdout, aside = (
        tuple(recorded[photos.paths[row]] for row in rows) for rows in (photos.learned, photos.held_out, photos.aside)
    )
    return RunConfig(
        data=str(source),
        preset=run_preset(options),
        height=size[0],
        width=size[1],
        resize=options.resize,
        seed=options.seed,
        alpha=options.alpha,
        max_minutes=options.max_minutes,
        weights={name: w if w == "random" else os.path.abspath(w) for name, w in options.weights.items()},
        train=train,
        holdout=holdout,
        aside=aside,
        version=__version__,
        roi=options.roi,
        profile=photos.profile,
        sessions=options.sessions,
        limits=photos.limits,
    )


def _build(config: RunConfig) -> RSTPM:
    torch.manual_seed(config.seed)
    return RSTPM(config.preset, config.weights)


@contextlib.contextmanager
def _new_run(job: Job, folder: Path | None, config: RunConfig, held_out: Sequence[Path]) -> Iterator[Path]:
    """The run's folder, the same for all processes, with what is known of the run before it begins; see `_held`."""
    if folder is None and job.fabric.is_global_zero:
        folder = new_run_folder()
    folder = Path(job.fabric.broadcast(str(folder)))
    with _held(job, folder):
        if job.fabric.is_global_zero:
            check_no_run(folder)  # another one may have begun and ended since this one looked
            save_config(folder, config)
            save_samples(folder, held_out)
            job.log.open(folder)
        job.fabric.barrier()
        yield folder


@contextlib.contextmanager
def _held(job: Job, folder: Path) -> Iterator[None]:
    """Let the processes of this job alone train in `folder`, until the end of the block: see `one_training`."""
    with one_training(folder) if job.fabric.is_global_zero else contextlib.nullcontext():
        job.fabric.barrier()
        yield


def _finish(
    job: Job,
    folder: Path,
    config: RunConfig,
    model: RSTPM,
    learned: NDArray[np.uint8],
    held_out: NDArray[np.uint8],
    checkpoint: Checkpoint | None,
) -> None:
    """Learn, from `checkpoint` on, then calibrate: all that a new run and one that is resumed have in common."""
    tune(job.fabric, model.students)
    go_on = f"go on with `resume={folder}` `device=cpu`"
    fewer = f"train again with `preset.batch_size=N`, below {config.preset.batch_size}, or a smaller `size`, or {go_on}"
    with enough_memory(job.fabric, fewer):
        losses, embeddings = _learn(job, folder, config, model, learned, checkpoint)
    if job.fabric.is_global_zero:
        with enough_memory(job.fabric, go_on):
            save_summary(folder, _calibrate(job, config, model, held_out, losses, embeddings))
    job.fabric.barrier()


def _learn(
    job: Job,
    folder: Path,
    config: RunConfig,
    model: RSTPM,
    learned: NDArray[np.uint8],
    checkpoint: Checkpoint | None,
) -> tuple[Sequence[tuple[float, float]], NDArray[np.float32] | None]:
    """Train students, residual normalization and segmentation head on photos and their copies.

    Gives all losses, and the embeddings that `embed` has; None for a model without.
    """
    fabric = job.fabric
    # Each process has its own.
    cache_folder = make_folder(folder / "features" / str(fabric.global_rank), below=folder)
    images = with_copies(config, learned)
    epochs = config.preset.epochs - (0 if checkpoint is None else len(checkpoint.losses))
    try:
        tell = job.stage("teachers", len(images), job.budget.likely_epochs(epochs))
        cache = compute_features(model, images, cache_folder, fabric.device, photos=len(learned), progress=tell)
        again = partial(plan_again, job, config, model, learned)
        losses = train_students(job, folder, config, model, cache, checkpoint, again)
        if fabric.is_global_zero and not (checkpoint and checkpoint.has_learned_all):
            if model.preset.distance == "normalized-residual":
                tell_of = job.stage_of_its_own_total("residuals")
                fit_residual_normalization(model, cache, fabric.device, progress=tell_of)
            if model.head is not None:
                tell_of = job.stage_of_its_own_total("segmentation")
                train_segmentation_head(model, cache, fabric.device, progress=tell_of)
            complete_checkpoint(folder, model)
        embeddings = embed(model, cache) if EMBEDDING in model.graph_outputs else None
    finally:
        remove_features(cache_folder)
    return losses, embeddings


def _calibrate(
    job: Job,
    config: RunConfig,
    model: RSTPM,
    held_out: NDArray[np.uint8],
    losses: Sequence[tuple[float, float]],
    embeddings: NDArray[np.float32] | None,
) -> Summary:
    """Fusion and threshold from held-out photos, and what else a finished run says of itself.

    `embeddings` are those of `embed`, of the photos that were learned from.
    """
    tell = job.stage("calibration", len(held_out) + synthetic_count(len(held_out)))
    found = calibrate_model(model, held_out, config.alpha, progress=tell)
    synthetic = synthetic_scores(model, held_out, found, progress=lambda done: tell(len(held_out) + done))
    names = [photo.name for photo in config.holdout]
    named = zip(names, found.scores, strict=True)
    rule = config.sessions
    novelty = of_learned = None
    if embeddings is not None and found.embedding is not None:
        of_learned = novelty_of_learned(embeddings, len(config.train))
        novelty = with_held_out(of_learned, found.embedding)
    return Summary(
        epochs=len(losses),
        minutes=job.budget.minutes,
        losses=tuple(losses),
        fusion=found.fusion,
        calibration=found.calibration,
        teacher_sha256=(model.teacher1.record.sha256, model.teacher2.record.sha256),
        highest=tuple(sorted(named, key=lambda pair: -pair[1])[:NAMED]),
        score_fusion=found.score_fusion,
        synthetic_scores=synthetic,
        sessions=None if rule is None else rates_of_run(config, rule, names, found.scores, found.calibration),
        session_rule=rule,
        novelty=novelty,
        novelty_of_learned=None if of_learned is None else of_learned.limit,
    )
