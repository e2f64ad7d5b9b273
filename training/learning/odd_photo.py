"""A held-out photo that alone sets the threshold: it may show a defect."""

from dataclasses import dataclass

from .run_summary import Summary

ODD = 1.25  # times as far above the typical score as the next


@dataclass(frozen=True)
class OddPhoto:
    """A held-out photo, by its name, with its score and that of the next below it."""

    name: str
    score: float
    next_score: float


def odd_photo(summary: Summary) -> OddPhoto | None:
    """The photo that the threshold rests on, far above all others; None where there is no such."""
    typical, threshold = summary.calibration.median, summary.calibration.threshold
    if len(summary.highest) < 3 or summary.highest[0][1] > threshold:
        return None
    (name, first), (_, second) = summary.highest[:2]
    return OddPhoto(name, first, second) if first - typical > ODD * (second - typical) else None
