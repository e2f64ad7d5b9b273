"""The photos of a new training: read, brought to the model's input, and some of them held out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.calibration import conformal_threshold
from rstpm_edge.image.duplicates import find_duplicates, fingerprint
from rstpm_edge.image.input_profile import InputProfile
from rstpm_edge.model.validity import Validity

from ..data.holdout import about_copies, split
from ..data.learned_photos import load_learned
from ..data.sessions import session_names, split_sessions
from .job import Job
from .options import TrainingOptions


@dataclass(frozen=True, eq=False)
class ChosenPhotos:
    """The readable photos, brought to the model's input, (N, H, W, 3), and which rows are for what, each ascending."""

    paths: Sequence[Path]
    inputs: NDArray[np.uint8]
    learned: NDArray[np.int64]
    held_out: NDArray[np.int64]
    aside: NDArray[np.int64]  # copies of held-out ones
    profile: InputProfile
    limits: Validity  # beyond what a photo is not like them; without novelty


def choose_photos(
    job: Job,
    files: Sequence[Path],
    size: tuple[int, int],
    options: TrainingOptions,
    names: Mapping[Path, str],
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> ChosenPhotos:
    """Read `files` at the input's `size` (height, width), and choose what is held out.

    `names` are those of the files that tell sessions. `progress` is called with the number of files read.
    Raises DatasetError, and UsageError for too few for `alpha`.
    """
    found = load_learned(
        files,
        size,
        options.resize,
        roi=options.roi,
        skip_unreadable=options.skip_unreadable,
        bits=options.bits,
        allow_size_change=options.allow_size_change,
        warn=lambda sentence: job.warn("photos", sentence),
        progress=progress,
    )
    inputs, paths = found.inputs, found.paths
    for problem in found.problems:
        job.warn("skipped", problem)
    copies = find_duplicates([fingerprint(image) for image in inputs], inputs)
    whole = None
    if options.sessions is not None:
        sessions = session_names([names[path] for path in paths], options.sessions)
        whole = split_sessions(sessions, options.holdout, options.seed, copies)
    held_out, learned = whole or split(len(paths), options.holdout, options.seed, copies)
    if copies:
        job.warn("copies", about_copies(copies, held_out, learned))
    if options.alpha is not None:
        conformal_threshold((0.0,) * len(held_out), options.alpha)  # too few images: say so before the work
    aside = np.setdiff1d(np.arange(len(paths)), [*held_out, *learned])
    light = tuple(sorted(round(float(one), 4) for one in found.brightness[held_out]))
    return ChosenPhotos(paths, inputs, learned, held_out, aside, found.profile, replace(found.limits, light=light))
