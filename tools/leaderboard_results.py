"""Results of a leaderboard, kept as JSON: a file for each in a folder, and one of many that is shown to others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from leaderboard_measure import METRICS

from rstpm_edge.atomic_files import write_bytes, write_json
from rstpm_edge.errors import TrainingError


@dataclass(frozen=True)
class Result:
    """What one contestant came to on one set with one seed. Figures are in 0…1, None where the set has no masks."""

    key: str
    set: str
    contestant: str
    seed: int
    quick: bool
    ours: bool
    options: Mapping[str, Any]
    figures: Mapping[str, float | None]  # by the names of METRICS
    intervals: Mapping[str, Sequence[float] | None]  # 95 %, over the test photos
    parts: Mapping[str, Mapping[str, float | None]]  # figures of ALONE, and without a part; none for anomalib's
    learned: int  # photos, held-out ones included
    good: int  # test photos
    defective: int
    core_minutes: float
    versions: Mapping[str, str]
    scores: Mapping[str, float] = field(default_factory=dict)  # by the photo's name; not in a file of many results


@dataclass(frozen=True)
class Latency:
    """One image in ONNX Runtime: milliseconds, median, and what that is of our default's in the same run."""

    ms: float
    ratio: float


@dataclass
class Store:
    """What is known of earlier: a folder with a file for each result, and one file of many that is shown to others."""

    folder: Path
    shown: Path | None = None
    results: dict[str, Result] = field(default_factory=dict)  # of `shown`, by key
    latencies: dict[str, Latency] = field(default_factory=dict)  # by timing_key

    def load(self) -> Store:
        """Read what files of many hold. Raises TrainingError where one is damaged."""
        for path in filter(None, (self.shown, self.folder / "latency.json")):
            content = _read(path, "delete it, or take an older copy of it")
            try:
                if content is not None:
                    found = [parse_result(each) for each in content.get("results", [])]
                    self.results |= {each.key: each for each in found}
                    self.latencies |= {key: Latency(**each) for key, each in content.get("latency", {}).items()}
            except (TypeError, ValueError, KeyError, AttributeError) as error:
                raise TrainingError(f"{path} is damaged ({error}): delete it, or take an older copy of it.") from error
        return self

    def path(self, key: str) -> Path:
        """Of the file of one result."""
        return self.folder / "results" / f"{key}.json"

    def find(self, key: str) -> Result | None:
        """The result of that key, or None. Raises TrainingError where its file is damaged."""
        path = self.path(key)
        content = _read(path, "delete it, and it is computed again")
        if content is None:
            return self.results.get(key)
        try:
            found = parse_result(content)
            if found.key != key:
                raise ValueError("it belongs to other photos or options")
            return found
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise TrainingError(f"{path} is damaged ({error}): delete it, and it is computed again.") from error

    def save(self, result: Result) -> None:
        """Raises OutputError."""
        write_json(self.path(result.key), asdict(result), below=self.folder)

    def save_latencies(self, measured: Mapping[str, Latency]) -> None:
        """Raises OutputError."""
        self.latencies |= measured
        content = {key: asdict(each) for key, each in self.latencies.items()}
        write_json(self.folder / "latency.json", {"latency": content}, below=self.folder)

    def show(self, results: Iterable[Result], used: Iterable[str]) -> None:
        """Add these to the file that is shown, each in the place of an older one of its set, contestant and seed.

        `used` are the keys of latencies that belong to them. Raises OutputError.
        """
        if self.shown is None:
            return
        kept = {_place(each): each for each in self.results.values()}
        kept |= {_place(each): replace(each, scores={}) for each in results}
        latencies = {key: asdict(self.latencies[key]) for key in used if key in self.latencies}
        older = (_read(self.shown, "delete it") or {}).get("latency", {})
        listed = [asdict(each) for each in kept.values()]
        for each in listed:
            del each["scores"]
        text = json.dumps({"results": listed, "latency": {**older, **latencies}}, indent=1, allow_nan=False)
        write_bytes(self.shown, f"{text}\n".encode())


def parse_result(content: Any) -> Result:
    """A Result from what JSON gave. Raises ValueError, TypeError, KeyError and AttributeError for anything else."""
    result = Result(**content)
    numbers = [figure for group in (result.figures, *result.parts.values()) for figure in group.values()]
    if set(result.figures) != set(METRICS):
        raise ValueError("its figures are others")
    if not all(number is None or 0 <= number <= 1 for number in numbers):
        raise ValueError("a figure is not between 0 and 1")
    return result


def _read(path: Path, advice: str) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object")
        return content
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path} is damaged ({error}): {advice}.") from error


def _place(result: Result) -> tuple[str, str, int, bool]:
    return result.contestant, result.set, result.seed, result.quick
