"""Scores of photos that a person has confirmed as good, with those left out that are not new."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.calibration import Calibration
from rstpm_edge.errors import ImageError, InvalidImageError, UsageError
from rstpm_edge.image.duplicates import find_alike, fine_detail, fingerprint
from rstpm_edge.pipeline import Pipeline
from rstpm_edge.printable import one_line

# docs/experiments.md, recalibration. Of the way from a typical score to the threshold: a held-out photo, judged once
# more, comes back within a quarter of that.
SAME_SCORE = 2e-4
# Among many held-out scores, one lies that close to almost any. What is left out by chance must stay a small share of
# the new photos, and the same of typical and of high scores, or those that stay were no fair sample.
BY_CHANCE = 0.02
NEIGHBOURS = 8  # held-out scores on either side that tell how close together they lie
SAME_EMBEDDING = 1e-3  # of a photo that was learned from; another photo of the product lies 30 times farther away
NAMED = 5  # photos at most, in a sentence


@dataclass(frozen=True)
class ConfirmedPhotos:
    """`scores` of those that are new, in the order of the photos; how many of `photos` showed what another of them did
    (`copies`), and how many were learned from or held out before (`known`)."""

    photos: int
    scores: tuple[float, ...]
    copies: int
    known: int


@dataclass(frozen=True, eq=False)
class _Looked:
    score: float
    learned: bool
    fingerprint: bytes
    detail: NDArray[np.float32]


def score_photos(
    pipeline: Pipeline, paths: Sequence[Path], *, progress: Callable[[int], None] = lambda done: None
) -> ConfirmedPhotos:
    """Judge good photos by a model: all of the part, as those it was calibrated on were, so by a pipeline without mask.

    A group of photos that are the same counts once, by its first. `progress` gets how many are done.
    Raises UsageError for photos that cannot be read, or are INVALID, with their names; nothing is left out silently.
    """
    bundle = pipeline.session.bundle
    looked: list[_Looked] = []
    refused: list[tuple[Path, str]] = []
    for done, path in enumerate(paths, 1):
        try:
            looked.append(_look(pipeline, path))
        except InvalidImageError as error:
            refused.append((path, str(error)))
        except ImageError as error:
            raise UsageError(f"{error} Leave it out, or mend it.") from error
        progress(done)
    if refused:
        raise UsageError(_about_invalid(refused))
    copies = find_alike([one.fingerprint for one in looked], [one.detail for one in looked])
    repeated = {row for group in copies for row in group.rows[1:]}
    once = [one for row, one in enumerate(looked) if row not in repeated]
    known = [one.learned or is_held_out(bundle.calibration, one.score) for one in once]
    scores = tuple(one.score for one, seen in zip(once, known, strict=True) if not seen)
    return ConfirmedPhotos(len(looked), scores, len(repeated), sum(known))


def was_learned(novelty: float | None) -> bool:
    """Whether a photo of this `Result.novelty` is, but for rounding, one of those that the model learned from."""
    return novelty is not None and novelty <= SAME_EMBEDDING


def is_held_out(calibration: Calibration, score: float) -> bool:
    """Whether a score is, but for rounding, one of those calibrated on: then it is most likely of that photo."""
    scores = np.asarray(calibration.scores)
    place = int(np.searchsorted(scores, score))
    near = scores[max(place - NEIGHBOURS, 0) : place + NEIGHBOURS]
    rounding = SAME_SCORE * (calibration.threshold - calibration.median)
    if len(near) == 2 * NEIGHBOURS:  # elsewhere they are few, or lie far apart
        rounding = min(rounding, BY_CHANCE / 2 * (near[-1] - near[0]) / (len(near) - 1))
    return bool((np.abs(near - score) <= rounding).any())


def _look(pipeline: Pipeline, path: Path) -> _Looked:
    """Raises ImageError, and InvalidImageError for a photo that is INVALID."""
    batch = pipeline.preprocessor.batch([pipeline.preprocessor.load(path)])
    outputs = pipeline.session.run(batch.pixels)
    (likeness,) = pipeline.postprocessor.compared(outputs, batch.invalid)
    if likeness.invalid_reason is not None:
        raise InvalidImageError(f"{path} is {likeness.invalid_reason}")
    return _Looked(
        float(pipeline.postprocessor.score(outputs).score[0]),
        was_learned(likeness.novelty),
        fingerprint(batch.pixels[0]),
        fine_detail(batch.pixels[0]),
    )


def _about_invalid(refused: Sequence[tuple[Path, str]]) -> str:
    names = ", ".join(one_line(path.name) for path, _ in refused[:NAMED])
    more = f" and {len(refused) - NAMED} more" if len(refused) > NAMED else ""
    what = "photo is" if len(refused) == 1 else "photos are"
    why = refused[0][1].rstrip(".")
    return (
        f"{len(refused)} {what} INVALID, so no verdict on such photos counts: {names}{more}. The first: {why}. Leave "
        "them out; where they are good ones of this station, train again with such photos."
    )
