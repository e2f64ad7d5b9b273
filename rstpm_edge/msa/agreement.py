"""What the verdicts on reference parts say: effectiveness, miss and false-alarm rate, and kappa.

The definitions are those of the attribute study in AIAG, "Measurement Systems Analysis", 4th edition (2010), chapter
III, section C, with the station as the one appraiser. The tests hold them to that chapter's example.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from rstpm_edge.calibration import clopper_pearson
from rstpm_edge.msa.reference_parts import Reference
from rstpm_edge.result import Verdict

Grade: TypeAlias = Literal["acceptable", "marginal", "unacceptable"]

GRADES: tuple[Grade, ...] = ("acceptable", "marginal", "unacceptable")  # from best to worst
RIGHT: dict[Reference, Verdict] = {"good": "normal", "bad": "anomalous"}
KAPPA_GOOD, KAPPA_POOR = 0.75, 0.40


@dataclass(frozen=True)
class Judgement:
    """What the station says of one photo. `score` is None where it gave none, `invalid_reason` where it is valid."""

    photo: Path
    sha256: str  # of the file
    verdict: Verdict
    score: float | None
    invalid_reason: str | None = None


@dataclass(frozen=True)
class JudgedPart:
    """A part of known state with one judgement of each repeat."""

    name: str
    reference: Reference
    judgements: tuple[Judgement, ...]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Those of its repeats."""
        return tuple(judgement.verdict for judgement in self.judgements)

    @property
    def changes(self) -> bool:
        """Whether the verdict is not the same in all repeats."""
        return len(set(self.verdicts)) > 1

    @property
    def is_right(self) -> bool | None:
        """Whether all its repeats are judged right; None of a borderline part, for which nothing is."""
        right = RIGHT.get(self.reference)
        return None if right is None else all(verdict == right for verdict in self.verdicts)


@dataclass(frozen=True)
class Rate:
    """`count` of `of`, and the limits that AIAG sets it: up to which it is acceptable, and up to which marginal.

    Where `higher_is_better`, from which on.
    """

    count: int
    of: int
    acceptable: float
    marginal: float
    higher_is_better: bool = False

    @property
    def share(self) -> float | None:
        """In 0…1; None of nothing."""
        return self.count / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Clopper-Pearson interval of the share."""
        return clopper_pearson(self.count, self.of) if self.of else (0.0, 1.0)

    @property
    def grade(self) -> Grade:
        """By the share alone, as AIAG does."""
        return "unacceptable" if self.share is None else self._grade_of(self.share)

    @property
    def is_shown(self) -> bool:
        """Whether the interval supports the grade: its worse end is no worse, or, of "unacceptable", its better end no
        better."""
        low, high = self.interval
        worse, better = (low, high) if self.higher_is_better else (high, low)
        return self._grade_of(better if self.grade == "unacceptable" else worse) == self.grade

    def _grade_of(self, share: float) -> Grade:
        def within(limit: float) -> bool:
            return share >= limit if self.higher_is_better else share <= limit

        return "acceptable" if within(self.acceptable) else "marginal" if within(self.marginal) else "unacceptable"


def effectiveness(parts: Sequence[JudgedPart]) -> Rate:
    """Of the good and bad parts, those of which every repeat is judged right."""
    known = [part.is_right for part in parts if part.is_right is not None]
    return Rate(sum(known), len(known), 0.90, 0.80, higher_is_better=True)


def miss_rate(parts: Sequence[JudgedPart]) -> Rate:
    """Of the judgements of bad parts, those that say normal. An invalid photo is no judgement."""
    counts = _verdicts(parts, "bad")
    return Rate(counts["normal"], counts["normal"] + counts["anomalous"], 0.02, 0.05)


def false_alarm_rate(parts: Sequence[JudgedPart]) -> Rate:
    """Of the judgements of good parts, those that say anomalous. An invalid photo is no judgement."""
    counts = _verdicts(parts, "good")
    return Rate(counts["anomalous"], counts["normal"] + counts["anomalous"], 0.05, 0.10)


def cohens_kappa(parts: Sequence[JudgedPart]) -> float | None:
    """Agreement of the verdicts on good and bad parts with the reference, beyond what chance gives; at most 1.

    One item is a photo; an invalid one agrees with nothing. None where chance alone agrees always.

    Source: Cohen, "A coefficient of agreement for nominal scales", 1960.
    """
    pairs = Counter((RIGHT[part.reference], v) for part in parts if part.reference in RIGHT for v in part.verdicts)
    n = pairs.total()
    expected, said = Counter[str](), Counter[str]()
    for (right, verdict), count in pairs.items():
        expected[right] += count
        said[verdict] += count
    by_chance = sum(expected[verdict] * said[verdict] for verdict in expected)  # times n²
    if n * n == by_chance:
        return None
    agreed = sum(count for (right, verdict), count in pairs.items() if right == verdict)
    return (n * agreed - by_chance) / (n * n - by_chance)


def fleiss_kappa(parts: Sequence[JudgedPart]) -> float | None:
    """Agreement of the repeats of each part with one another, all parts, beyond what chance gives; at most 1.

    The repeats take the place of appraisers; their number may differ from part to part. None where all verdicts are
    one.

    Source: Fleiss, "Measuring nominal scale agreement among many raters", 1971; for unequal numbers Fleiss, Levin and
    Paik, "Statistical methods for rates and proportions", 2003, section 18.3.
    """
    counts = [Counter(part.verdicts) for part in parts]
    total = sum(counts, Counter[Verdict]())
    n = total.total()
    differing = 1 - sum((count / n) ** 2 for count in total.values())
    if len(total) < 2:
        return None
    within = sum(one.total() - sum(count**2 for count in one.values()) / one.total() for one in counts)
    return 1 - within / ((n - len(counts)) * differing)


def kappa_grade(kappa: float | None) -> Grade:
    """Above 0.75 AIAG calls the agreement good, below 0.40 poor."""
    if kappa is None or kappa < KAPPA_POOR:
        return "unacceptable"
    return "acceptable" if kappa > KAPPA_GOOD else "marginal"


def _verdicts(parts: Sequence[JudgedPart], reference: Reference) -> Counter[Verdict]:
    return Counter(verdict for part in parts if part.reference == reference for verdict in part.verdicts)
