"""A study: the photos of all reference parts, each checked to be an exposure of its own, and judged."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import cached_property
from typing import Any, Literal

from rstpm_edge import __version__
from rstpm_edge.detector import Detector
from rstpm_edge.errors import ImageError, InvalidImageError
from rstpm_edge.image.decode import decode_stored, read_encoded
from rstpm_edge.msa.agreement import (
    GRADES,
    Grade,
    JudgedPart,
    Judgement,
    Rate,
    cohens_kappa,
    effectiveness,
    false_alarm_rate,
    fleiss_kappa,
    kappa_grade,
    miss_rate,
)
from rstpm_edge.msa.reference_parts import ReferencePart
from rstpm_edge.msa.repeatability import Repeatability, repeatability
from rstpm_edge.msa.repeats import Copies, exposure


@dataclass(frozen=True)
class Station:
    """What judged, and with which options. `signed_by` is the SHA-256 of the key that the model had to be signed with;
    None where any was taken. `mask` names its file."""

    model: str
    model_sha256: str
    signed_by: str | None
    threshold: float
    calibrated_threshold: float
    roi: tuple[int, int, int, int] | Literal["model"] | None
    mask: str | None
    runs_with: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """Judgements of reference parts, and what follows from them."""

    data: str
    judged_at: str  # UTC, ISO 8601
    station: Station
    parts: tuple[JudgedPart, ...]

    @cached_property
    def rates(self) -> dict[str, Rate]:
        """Effectiveness, miss rate and false-alarm rate, by name."""
        return {
            "effectiveness": effectiveness(self.parts),
            "miss_rate": miss_rate(self.parts),
            "false_alarm_rate": false_alarm_rate(self.parts),
        }

    @cached_property
    def cohens_kappa(self) -> float | None:
        """Of the verdicts with the reference."""
        return cohens_kappa(self.parts)

    @cached_property
    def fleiss_kappa(self) -> float | None:
        """Of the repeats with one another."""
        return fleiss_kappa(self.parts)

    @cached_property
    def repeatability(self) -> Repeatability:
        """Of the score."""
        return repeatability(self.parts, self.station.threshold)

    @property
    def grade(self) -> Grade:
        """The worst one of the three rates and of Cohen's kappa."""
        grades = [*(rate.grade for rate in self.rates.values()), kappa_grade(self.cohens_kappa)]
        return max(grades, key=GRADES.index)

    @property
    def is_shown(self) -> bool:
        """Whether the intervals of all three rates support their grades."""
        return all(rate.is_shown for rate in self.rates.values())

    @property
    def changing(self) -> tuple[JudgedPart, ...]:
        """Parts of any kind whose verdict is not the same in all repeats."""
        return tuple(part for part in self.parts if part.changes)

    @property
    def invalid(self) -> int:
        """How many photos are invalid."""
        return sum(part.verdicts.count("invalid") for part in self.parts)

    def to_json(self) -> dict[str, Any]:
        """Everything, as docs/msa.md lists it."""
        return {
            "data": self.data,
            "judged_at": self.judged_at,
            "rstpm_edge": __version__,
            "station": asdict(self.station),
            "grade": self.grade,
            "is_shown": self.is_shown,
            **{name: _rate_fields(rate) for name, rate in self.rates.items()},
            "cohens_kappa": self.cohens_kappa,
            "cohens_kappa_grade": kappa_grade(self.cohens_kappa),
            "fleiss_kappa": self.fleiss_kappa,
            "invalid": self.invalid,
            "repeatability": asdict(self.repeatability),
            "changing": [f"{part.reference}/{part.name}" for part in self.changing],
            "parts": [_part_fields(part) for part in self.parts],
        }


def judge_parts(
    detector: Detector, parts: Sequence[ReferencePart], report: Callable[[int, int], None]
) -> tuple[JudgedPart, ...]:
    """Judge all photos, each read once: what is checked, hashed and judged are the same bytes.

    `report` gets how many photos are done, and of how many.

    Raises DatasetError for a replay; ImageError for a photo that cannot be read or judged, and what `Detector` does.
    """
    copies = Copies()
    total, done = sum(len(part.photos) for part in parts), 0
    judged = []
    report(0, total)
    for part in parts:
        exposures, judgements = [], []
        for path in part.photos:
            content = read_encoded(path)
            pixels = decode_stored(content, str(path))
            one = exposure(path, content, pixels, detector.info.bits)
            exposures.append(one)
            try:
                result = detector(pixels)
            except InvalidImageError as error:
                judgements.append(Judgement(path, one.file_sha256, "invalid", None, str(error)))
            except ImageError as error:
                raise ImageError(f"{path} cannot be judged, so that there is no study: {error}") from error
            else:
                found = (result.verdict, result.score, result.invalid_reason)
                judgements.append(Judgement(path, one.file_sha256, *found))
            done += 1
            report(done, total)
        copies.check(exposures)
        judged.append(JudgedPart(part.name, part.reference, tuple(judgements)))
    return tuple(judged)


def now() -> str:
    """UTC, ISO 8601, in seconds."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _rate_fields(rate: Rate) -> dict[str, Any]:
    fields = {"share": rate.share, "interval": list(rate.interval), "grade": rate.grade, "is_shown": rate.is_shown}
    return {**asdict(rate), **fields}


def _part_fields(part: JudgedPart) -> dict[str, Any]:
    judgements = [{**asdict(one), "photo": str(one.photo)} for one in part.judgements]
    return {"name": part.name, "reference": part.reference, "changes": part.changes, "judgements": judgements}
