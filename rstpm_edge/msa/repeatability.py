"""How far the score of one part scatters from repeat to repeat, beside how far the threshold is away."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rstpm_edge.msa.agreement import JudgedPart


@dataclass(frozen=True)
class Repeatability:
    """Repeatability of the score.

    `pooled` is the standard deviation within parts, pooled over all of them, `good`, `borderline` and `bad` that of
    each kind; None where there is none. `median_good` is the median score of the photos of good parts, `margin` the
    threshold less that.
    `used` is 3 standard deviations within good parts, as a share of the margin; None where that is not positive.
    """

    pooled: float | None
    good: float | None
    borderline: float | None
    bad: float | None
    median_good: float | None
    margin: float | None
    used: float | None


def repeatability(parts: Sequence[JudgedPart], threshold: float) -> Repeatability:
    """That of `parts`, by all photos that have a score and are not invalid."""
    of_kind = {
        kind: pooled_deviation(_scores(part) for part in parts if part.reference == kind)
        for kind in ("good", "borderline", "bad")
    }
    of_good = [score for part in parts if part.reference == "good" for score in _scores(part)]
    median = statistics.median(of_good) if of_good else None
    margin = None if median is None else threshold - median
    good = of_kind["good"]
    return Repeatability(
        pooled=pooled_deviation(map(_scores, parts)),
        **of_kind,
        median_good=median,
        margin=margin,
        used=3 * good / margin if good is not None and margin is not None and margin > 0 else None,
    )


def pooled_deviation(groups: Iterable[Sequence[float]]) -> float | None:
    """The root of the variance within groups, each weighted by its degrees of freedom; None where there are none."""
    squares, freedom = 0.0, 0
    for group in groups:
        if len(group) > 1:
            squares += statistics.variance(group) * (len(group) - 1)
            freedom += len(group) - 1
    return math.sqrt(squares / freedom) if freedom else None


def _scores(part: JudgedPart) -> list[float]:
    return [one.score for one in part.judgements if one.score is not None and one.verdict != "invalid"]
