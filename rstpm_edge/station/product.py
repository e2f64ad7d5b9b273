"""A model of the station that is in memory, and takes its file anew when that has changed."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from rstpm_edge.detector import Detector
from rstpm_edge.errors import ModelError, RstpmEdgeError
from rstpm_edge.model.signature import signature_file
from rstpm_edge.model_watch import Change, state_of
from rstpm_edge.station.audit import Record, nobody
from rstpm_edge.unexpected import sentence

OpenDetector: TypeAlias = Callable[[Path], Detector]
Check: TypeAlias = Callable[[Path, str], None]


@dataclass(frozen=True)
class ProductName:
    """A product, and a version of it."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class Product:
    """`detector` judges for as long as anybody has it, also when the station has let go of it.

    `check` gets the path and SHA-256 of each file that was loaded, and raises ModelError for one that may not judge.
    `memory` is what loading it took, in bytes. `used` is when it was asked for last, by time.monotonic.
    `pinned` is how many lines judge with it: it is then never let go. `record` gets what becomes of its changed files.
    """

    def __init__(
        self, name: ProductName, path: Path, open_detector: OpenDetector, check: Check, record: Record = nobody
    ) -> None:
        """Loads the file, and runs it once. Raises what `Detector` and `check` do."""
        self.name, self.path = name, path
        before, resident = state_of(self._files), memory_of_process()
        self.detector = open_detector(path)
        check(path, self.detector.sha256)
        self.detector.warmup()
        self.memory = max(memory_of_process() - resident, os.path.getsize(path))
        self.used = time.monotonic()
        self.pinned = 0
        self.outcomes: Counter[str] = Counter()  # of changed files: taken, refused, rolled back
        self._check, self._record = check, record
        self._change = Change(before, time.monotonic())
        self._lock = threading.Lock()

    @property
    def _files(self) -> list[Path]:
        return [self.path, signature_file(self.path)]

    def look(self, path: Path, report: Callable[[str], None]) -> None:
        """Take the file anew where it, or its signature, has changed, or another file where that has its place by now.

        One that is refused changes nothing. `report` gets a sentence on what came of it.
        """
        is_another = path != self.path
        if is_another:
            self.path = path
            self._change = Change(state_of(self._files), time.monotonic())
        elif not self._change.settled(state_of(self._files), time.monotonic()):
            return
        else:
            self._change.take()
        if os.path.exists(path):  # Path.exists raises where a share is away
            self.take(report)

    def take(self, report: Callable[[str], None]) -> RstpmEdgeError | None:
        """Take the file as it is now; gives why it was refused, None where it was not."""

        def roll_back(why: ModelError) -> None:
            self.outcomes["rolled back"] += 1
            report(str(why))
            self._record("model rolled back", self.facts() | {"error": str(why)})

        with self._lock:
            before = self.detector.sha256
            try:
                new = self.detector.prepare(self.path)
                self._check(self.path, new.sha256)
                taken = self.detector.swap(new, on_rollback=roll_back)
            except RstpmEdgeError as error:
                refused = error
            except Exception as error:  # a fault of ours, or no memory: no reason to stop judging
                refused = ModelError(sentence(error))
            else:
                if taken:
                    self.outcomes["taken"] += 1
                    after = self.detector.sha256
                    report(
                        f"The model {self.path} has changed, and judges {self.name} from now on: "
                        f"SHA-256 {after[:12]}…, before {before[:12]}…."
                    )
                    self._record("model swapped", self.facts() | {"sha256_before": before})
                return None
            self.outcomes["refused"] += 1
            report(f"{refused} The model before goes on judging.")
            self._record("model swap refused", self.facts() | {"error": str(refused)})
            return refused

    def facts(self) -> dict[str, Any]:
        """What the audit log says of what judges now."""
        detector = self.detector
        return {
            "product": self.name.name,
            "product_version": self.name.version,
            "model": str(self.path),
            "sha256": detector.sha256,
            "threshold": detector.threshold,
            "calibrated_threshold": detector.info.calibration.threshold,
            "runs_with": list(detector.providers),
            "precision": detector.precision,
        }


def memory_of_process() -> int:
    """Bytes of this process that no file on disk holds; 0 where nobody says."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            _, resident, shared, *_ = file.read().split()
    except OSError:
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
