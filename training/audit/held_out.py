"""Held-out photos for a person to look at, and the calibration without those that show a defect.

Label-trim (Bashari, Sesia and Romano, arXiv 2502.04807): the few highest held-out photos are looked at, and only
confirmed defects among them are dropped. All good photos stay, however odd, so a new good part is as likely as before
to lie anywhere among them, and the rate that is promised holds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rstpm_edge.calibration import conformal_rank, smallest_alpha
from rstpm_edge.errors import TrainingError, UsageError
from rstpm_edge.image.decode import read_stored
from rstpm_edge.image.placement import Placement
from rstpm_edge.image.preprocess import InputFormat
from rstpm_edge.model.outputs import ModelOutputs
from rstpm_edge.postprocess.scoring import Scorer
from rstpm_edge.progress import Progress, Report

from ..data.images import some_of
from ..data.run_files import recorded_files
from ..data.sessions import session_names
from ..learning.map_calibration import calibrate_maps, outputs_of
from ..learning.novelty import with_held_out
from ..learning.recalibration import load_steps, one_at_a_time, save_again
from ..learning.run_config import RunConfig, load_config
from ..learning.run_summary import Summary, load_summary
from ..learning.session_calibration import rates_of_run
from ..learning.synthetic_scores import synthetic_count, synthetic_scores
from ..learning.trained_model import load_model, teachers_changed
from ..model.rstpm import RSTPM
from .sheet import CELLS

LEAST_SHOWN = 12

# What each stage takes, about, for a hundred held-out photos.
PLAN = {"held-out photos": 10.0, "synthetic defects": 12.0}


@dataclass(frozen=True, eq=False)
class Candidate:
    """One of the highest held-out photos. `rank` is from 1; `score` is that of the training's own calibration."""

    rank: int
    name: str
    path: Path
    score: float
    anomaly_map: NDArray[np.float32]  # (H, W) of the model's input
    placement: Placement
    dropped: bool


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The held-out photos of a run, as its own training calibrated them, highest first as far as they are shown."""

    run: Path
    config: RunConfig
    as_trained: Summary
    summary: Summary  # that holds now
    candidates: tuple[Candidate, ...]
    model: RSTPM
    photos: NDArray[np.uint8]  # (N, H, W, 3), as config.holdout has them
    outputs: ModelOutputs  # of the same


def check_names(run: Path, names: Sequence[str], sessions: str | None = None) -> None:
    """Before the work: raises UsageError for names that are not those of held-out photos of the run, and for a rule
    `sessions` that does not fit."""
    config = load_config(run)
    if sessions is not None:
        session_names([photo.name for photo in (*config.train, *config.holdout, *config.aside)], sessions)
    held, learned, aside = ({photo.name for photo in some} for some in (config.holdout, config.train, config.aside))
    for name in names:
        if name in learned:
            raise UsageError(
                f"{name} was learned from, not held out: if it shows a defect, take it out of the folder and train "
                "again."
            )
        if name in aside:
            raise UsageError(f"{name} is a copy of a held-out photo and has no part in the calibration.")
        if name not in held:
            raise UsageError(f"{name} is no photo of this run; those held out are {some_of(sorted(held))}.")


def look(
    run: Path, *, data: Path | None = None, most: int | None = None, report: Report = lambda progress: None
) -> HeldOut:
    """Judge the held-out photos of a finished run. `data` is where they lie now; None for where they lay.

    `most` are shown; without it those that lie at the threshold or above, and as many again, 12 at least.

    Raises TrainingError where the run is not finished, or a photo is missing or another; UsageError for more than a
    sheet holds; ImageError, WeightsError.
    """
    config, summary, as_trained = load_config(run), load_summary(run), load_summary(run, as_trained=True)
    load_steps(run)  # damaged, it is told before the work
    if most is not None and not 1 <= most <= CELLS:
        raise UsageError(f"`most` is from 1 to {CELLS}, as many as a contact sheet shows, not {most}.")
    folder = Path(data or config.data)
    if not folder.is_dir():
        raise TrainingError(
            f"The run's photos are needed, and there is no folder {folder}: put them back, or say where they are with "
            "`data=FOLDER`."
        )
    paths = recorded_files(folder, config.holdout, "say where the run's photos are with `data=FOLDER`")
    model = load_model(run)
    if teachers_changed(model, as_trained.teacher_sha256):
        raise TrainingError("The teachers' weights are not those that the run was trained with; train again.")
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    photos, placements = _read(paths, config)
    tell = _stage(report, "held-out photos", len(photos))
    outputs = outputs_of(model, photos, progress=tell)
    score = Scorer(as_trained.fusion, as_trained.score_fusion, outputs.level_sizes, config.size)
    scores = score(outputs).score
    order = np.argsort(-scores, kind="stable")[: most or _shown(as_trained)]
    maps = score(outputs.rows(order)).anomaly_map
    candidates = tuple(
        Candidate(
            rank,
            config.holdout[row].name,
            paths[row],
            float(scores[row]),
            maps[rank - 1],
            placements[row],
            config.holdout[row].name in summary.defective,
        )
        for rank, row in enumerate(order.tolist(), 1)
    )
    return HeldOut(run, config, as_trained, summary, candidates, model, photos, outputs)


def calibrate_again(
    held: HeldOut,
    names: Sequence[str] = (),
    sessions: str | None = None,
    *,
    report: Report = lambda progress: None,
) -> Summary:
    """Calibrate without the photos of these names, and those that were dropped before, and keep that in the run.

    `sessions` is the rule of `session_names` from now on; without it, the one that held before does. Where neither
    changes anything, nothing does. Gives what holds then.

    Raises UsageError for a name that is none of those shown, where less than half of the photos would be left, and for
    a rule that does not fit; OutputError.
    """
    check_names(held.run, names)
    for name in names:
        _check(held, name)
    with one_at_a_time(held.run):  # somebody else may have decided since the photos were shown
        return _calibrate_again(replace(held, summary=load_summary(held.run)), names, sessions, report)


def _calibrate_again(held: HeldOut, names: Sequence[str], sessions: str | None, report: Report) -> Summary:
    config, before = held.config, held.summary
    defective = tuple(sorted({*before.defective, *names}))
    rule = sessions or before.session_rule
    if set(defective) == set(before.defective) and rule == before.session_rule:
        return before
    kept = np.array([photo.name not in defective for photo in config.holdout])
    if 2 * kept.sum() < len(kept):
        raise UsageError(
            f"{len(kept) - kept.sum()} of {len(kept)} held-out photos would be defective: the photos that were learned "
            "from will be no better. Sort them, and train again."
        )
    left = [photo.name for photo, keep in zip(config.holdout, kept, strict=True) if keep]
    alpha = max(held.as_trained.calibration.alpha, smallest_alpha(len(left)))
    found = calibrate_maps(held.outputs.rows(kept), config.preset, config.size, alpha)
    rates = None if rule is None else rates_of_run(config, rule, left, found.scores, found.calibration)
    named = sorted(zip(left, found.scores, strict=True), key=lambda pair: -pair[1])
    synthetic, photos = before.synthetic_scores, held.photos[kept]
    if set(defective) != set(before.defective) or not synthetic:
        tell = _stage(report, "synthetic defects", synthetic_count(len(photos)))
        synthetic = synthetic_scores(held.model, photos, found, progress=tell)
    novelty, of_learned = held.as_trained.novelty, held.as_trained.novelty_of_learned
    embedding = held.outputs.rows(kept).embedding
    if novelty is not None and of_learned is not None and embedding is not None:
        # A defect over half of a photo must not decide how unlike good ones another may be.
        novelty = with_held_out(replace(novelty, limit=of_learned), embedding)
    summary = replace(
        held.as_trained,
        fusion=found.fusion,
        score_fusion=found.score_fusion,
        calibration=found.calibration,
        highest=tuple(named[: len(held.as_trained.highest)]),
        synthetic_scores=synthetic,
        defective=defective,
        sessions=rates,
        session_rule=rule,
        novelty=novelty,
    )
    save_again(held.run, summary)
    return summary


def take_back(run: Path) -> bool:
    """Let the calibration of the training hold again; whether another one did. Raises TrainingError and OutputError."""
    load_config(run)
    as_trained = load_summary(run, as_trained=True)
    with one_at_a_time(run):
        if load_summary(run) == as_trained:
            return False
        save_again(run, as_trained, as_trained=True)
    return True


def _shown(summary: Summary) -> int:
    n = len(summary.calibration.scores)
    at_least = n + 1 - conformal_rank(n, summary.calibration.alpha)
    return min(max(LEAST_SHOWN, 2 * at_least), CELLS, n)


def _check(held: HeldOut, name: str) -> None:
    """Raises UsageError for a name that nobody has looked at."""
    shown = [one.name for one in held.candidates]
    if name in shown or name in held.summary.defective:
        return
    raise UsageError(
        f"{name} is held out, but none of the {len(shown)} highest, which are to be looked at; `most=N` shows more. A "
        "photo that lies lower does not raise the threshold."
    )


def _read(paths: Sequence[Path], config: RunConfig) -> tuple[NDArray[np.uint8], list[Placement]]:
    """The photos (N, H, W, 3) as the model's input, and where they lie there. Raises ImageError."""
    model_input = InputFormat(config.size, config.resize, config.bits)
    prepared = [model_input.prepare(read_stored(path), config.roi, path, channels="bgr") for path in paths]
    return np.stack([image for image, _ in prepared]), [grid.placement for _, grid in prepared]


def _stage(report: Report, name: str, total: int) -> Callable[[int], None]:
    report(Progress(name, 0, total))
    return lambda done: report(Progress(name, done, total))
