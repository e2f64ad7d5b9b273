"""The goldens of a model file, judged once more on this device: is it what it was when it was exported?"""

from dataclasses import dataclass

import numpy as np

from rstpm_edge.engine.session import Session
from rstpm_edge.errors import ImageError, ModelError
from rstpm_edge.model.goldens import parse_goldens
from rstpm_edge.pipeline import Pipeline
from rstpm_edge.postprocess.postprocessor import Postprocessor
from rstpm_edge.preprocessor import Preprocessor

# Of the way from a typical score to the threshold. docs/experiments.md has what was measured.
TOLERANCE, TOLERANCE_REDUCED = 0.01, 0.25


@dataclass(frozen=True)
class Replayed:
    """A golden that was judged again. Differences and `margin` are in the unit of `Replay`."""

    name: str
    expected_score: float
    score: float
    was_anomalous: bool
    is_anomalous: bool
    score_difference: float
    map_difference: float  # the largest of any pixel of the anomaly map
    margin: float  # between score and threshold
    invalid_reason: str | None = None  # why this device says that the photo says nothing of its part; at export it did

    @property
    def flipped(self) -> bool:
        """Whether the verdict is another."""
        return self.was_anomalous != self.is_anomalous or self.invalid_reason is not None


@dataclass(frozen=True)
class Replay:
    """What came of all goldens. Differences are shares of the way from a typical score to the threshold."""

    results: tuple[Replayed, ...]
    tolerance: float
    threshold: float

    @property
    def score_difference(self) -> float:
        """The largest."""
        return max(one.score_difference for one in self.results)

    @property
    def map_difference(self) -> float:
        """The largest."""
        return max(one.map_difference for one in self.results)

    @property
    def margin(self) -> float:
        """The smallest."""
        return min(one.margin for one in self.results)

    def problem(self) -> str | None:
        """In one sentence, why this device should not judge with this model; None where nothing speaks against it."""
        for one in self.results:
            if one.invalid_reason is not None:
                return (
                    f"this device judges its golden {one.name} as INVALID ({one.invalid_reason}), and it was "
                    f"{_verdict(one.was_anomalous)} when it was exported"
                )
            if one.flipped:
                return (
                    f"this device judges its golden {one.name} as {_verdict(one.is_anomalous)} (score {one.score:.4g}, "
                    f"threshold {self.threshold:.4g}), and it was {_verdict(one.was_anomalous)} "
                    f"({one.expected_score:.4g}) when it was exported"
                )
        worst = max(self.results, key=lambda one: max(one.score_difference, one.map_difference))
        if not max(worst.score_difference, worst.map_difference) <= self.tolerance:  # neither is NaN
            return (
                f"this device scores its golden {worst.name} with {worst.score:.4g} where it was "
                f"{worst.expected_score:.4g}, and its map differs by {worst.map_difference:.2g} of the way from a "
                f"typical score to the threshold, where {self.tolerance:g} is allowed"
            )
        return None


def replay(session: Session) -> Replay:
    """Judge the goldens with a session that was opened with them, as the model says: its own threshold, ROI and mask.

    Raises ModelError where there are none, and for one that is damaged.
    """
    if session.goldens is None:
        raise ModelError(
            f"The model {session.path} has no goldens to verify it by: export it with photos, `goldens`, or leave "
            "`verify` out."
        )
    bundle = session.bundle
    judged = Pipeline(
        Preprocessor(bundle, notify=lambda sentence: None, threads=session.threads), session, Postprocessor(bundle)
    )
    threshold = bundle.calibration.promised()
    results = []
    for golden in parse_goldens(session.goldens):
        try:
            (found,) = judged.judge([golden.image], threshold)
        except ImageError as error:
            raise ModelError(f"The model's golden {golden.name} cannot be judged: {error}") from error
        expected = golden.anomaly_map.values()
        if expected.shape != found.model_map.shape:
            raise ModelError(f"The model's golden {golden.name} is damaged: its map has another size than the model's.")
        results.append(
            Replayed(
                golden.name,
                golden.score,
                found.score,
                golden.is_anomalous,
                found.is_anomalous,
                abs(found.score - golden.score) / found.span,
                float(np.abs(found.model_map - expected).max()) / found.span,
                abs(found.score - threshold.value) / found.span,
                found.invalid_reason,
            )
        )
    return Replay(tuple(results), tolerance_of(session), threshold.value)


def tolerance_of(session: Session) -> float:
    """What a golden's score and map may differ by: rounding in another order, or in fewer bits."""
    exact = session.precision == "f32" or (session.precision is None and session.providers[0].startswith("CPU"))
    return TOLERANCE if exact and session.bundle.precision == "fp32" else TOLERANCE_REDUCED


def check_goldens(session: Session) -> None:
    """Raises ModelError where the model has no goldens, or where they do not come out as they did at export."""
    problem = replay(session).problem()
    if problem:
        raise ModelError(f"The model {session.path} is not what it was: {problem}.")


def _verdict(is_anomalous: bool) -> str:
    return "anomalous" if is_anomalous else "normal"
