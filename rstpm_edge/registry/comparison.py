"""What two models made of the same images: how often their verdicts differ, and by how much their scores do."""

from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rstpm_edge.result import Result

KEPT = 10_000  # images whose times and differences stay, for medians: those that came last


@dataclass(frozen=True)
class Judgement:
    """A verdict, with its score as a share of the way from a typical good score (0) to the threshold (1).

    Scores of two models have units of their own, and such shares can be compared. None of an INVALID image.
    """

    verdict: str
    score: float
    relative: float | None
    p_value: float
    model_sha256: str

    @classmethod
    def of(cls, result: Result, typical_score: float) -> "Judgement":
        """From a model whose typical good score this is."""
        way = result.threshold - typical_score
        relative = None if result.verdict == "invalid" or way <= 0 else (result.score - typical_score) / way
        return cls(result.verdict, result.score, relative, result.p_value, result.model_sha256 or "")


@dataclass
class Comparison:
    """Counts, until another model is judged in shadow. `skipped` are images that it was not given, to bound its cost.

    `only_live` and `only_shadow` are those that one of the two alone let not pass: as anomalous, or INVALID.
    """

    compared: int = 0
    same: int = 0
    only_live: int = 0
    only_shadow: int = 0
    skipped: int = 0
    failed: int = 0
    largest: float = 0.0
    differences: list[float] = field(default_factory=list)
    live_ms: list[float] = field(default_factory=list)
    shadow_ms: list[float] = field(default_factory=list)

    def take(self, live: Judgement, shadow: Judgement, live_ms: float, shadow_ms: float) -> None:
        """Count an image that both have judged."""
        self.compared += 1
        self.same += live.verdict == shadow.verdict
        passes = live.verdict == "normal", shadow.verdict == "normal"
        self.only_live += passes == (False, True)
        self.only_shadow += passes == (True, False)
        if live.relative is not None and shadow.relative is not None:
            difference = abs(live.relative - shadow.relative)
            self.largest = max(self.largest, difference)
            self.differences.append(difference)
        self.live_ms.append(live_ms)
        self.shadow_ms.append(shadow_ms)
        for kept in (self.differences, self.live_ms, self.shadow_ms):
            del kept[:-KEPT]

    def fields(self) -> dict[str, Any]:
        """As JSON: what is unknown is null."""
        return {
            "compared": self.compared,
            "same_verdict": self.same,
            "only_live_rejects": self.only_live,
            "only_shadow_rejects": self.only_shadow,
            "skipped": self.skipped,
            "failed": self.failed,
            "median_difference": _median(self.differences),
            "largest_difference": self.largest if self.differences else None,
            "live_ms": _median(self.live_ms),
            "shadow_ms": _median(self.shadow_ms),
        }

    def summary(self) -> str:
        """For people, on one line."""
        if not self.compared:
            return f"no image compared, {self.skipped} skipped, {self.failed} failed"
        differ = self.compared - self.same
        parts = [
            f"{self.compared} of {self.compared + self.skipped + self.failed} images compared, {self.failed} failed",
            f"{differ} verdicts differ ({differ / self.compared:.2%}): {self.only_live} that live alone rejects, "
            f"{self.only_shadow} that shadow alone does",
        ]
        if self.differences:
            parts.append(
                f"scores differ by {_median(self.differences):.2g} in the median and {self.largest:.2g} at most, as "
                "shares of the way from a typical score to the threshold"
            )
        parts.append(f"{_median(self.live_ms):.0f} ms live, {_median(self.shadow_ms):.0f} ms in shadow on one thread")
        return "; ".join(parts)


def _median(values: list[float]) -> float | None:
    return median(values) if values else None
