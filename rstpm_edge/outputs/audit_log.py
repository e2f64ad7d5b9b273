"""What a station did, for those who have to answer for it: which model, by which threshold, and how many of what.

Never an image, a name of one, or a secret. `hash_chain` has the format, `chain_check` finds what was changed.
"""

import contextlib
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rstpm_edge.errors import OutputError, UsageError
from rstpm_edge.outputs.appended_file import is_at
from rstpm_edge.outputs.chain_writer import (
    ChainEnd,
    ForeignLineError,
    append,
    chain_end,
    locked,
    open_for_appending,
    who,
)
from rstpm_edge.outputs.hash_chain import last_of, next_aside
from rstpm_edge.outputs.write_trouble import WriteTrouble
from rstpm_edge.printable import one_line, without_passwords

INTERVAL = 600.0  # seconds between two entries of counts
LARGEST = 10_000_000  # bytes of a file, after which it is set aside


class AuditLog:
    """Appends entries to `path`; `tell` counts what `verdict_fields` and `failure_fields` give. Any thread may call it.

    Each entry is one write, and synced: a process that is killed, and a machine that goes down, leave whole lines, or a
    last one that was cut off, which the next entry says. One process writes a log at a time.

    report: where it is given, is told once when entries cannot be written, and again when they can; without it, that
        raises OutputError. `lost` counts them.
    largest: bytes after which a file is set aside, as FILE.000001 and so on. now: seconds, for the intervals.

    Raises UsageError for a file that holds something else, or that another process writes; OutputError for one that
    cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        *,
        report: Callable[[str], None] | None = None,
        largest: int = LARGEST,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lost = 0
        self.ending = "done"  # what the last entry is to say
        self._path, self._largest, self._now = path, largest, now
        self._lock = threading.Lock()  # of the file, which a thread that writes holds until it is synced
        self._counting = threading.Lock()  # of the counts, for which nobody waits
        self._counts: Counter[str] = Counter()
        self._origins: dict[str, Counter[str]] = {}
        self._trouble = WriteTrouble(path, report)
        self._started = False
        self._told = now()
        try:
            self._file = self._open()
            try:
                self._end = self._resume()
            except BaseException:
                os.close(self._file)  # or the lock would be held to the end of the process
                raise
        except OSError as error:
            raise OutputError(f"Cannot write {path}: {error.strerror or error}.") from error

    def start(self, facts: Mapping[str, Any]) -> None:
        """Say what judges from now on, and what of it is other than at the last start: [before, now] by name."""
        self._append("start", self._judging(facts))
        self._started = True
        self._told = self._now()

    def refuse(self, facts: Mapping[str, Any], why: object) -> None:
        """Say that nothing does, and why."""
        self._append("refused", who() | dict(facts) | _error(why))

    def swap(self, facts: Mapping[str, Any]) -> None:
        """Say that another model judges from now on, and what was counted up to here."""
        self._append("swap", self._judging(facts) | self._counted())

    def refuse_swap(self, facts: Mapping[str, Any], why: object) -> None:
        """Say that another model was not taken: `facts` are of the one that goes on judging."""
        self._append("swap refused", who() | dict(facts) | _error(why))

    def roll_back(self, facts: Mapping[str, Any], why: object) -> None:
        """Say that the model before judges again."""
        self._append("rolled back", self._judging(facts) | self._counted() | _error(why))

    def tell(self, fields: Mapping[str, Any]) -> None:
        """Count a verdict or a failure, and write an entry of counts where it is time for one."""
        self.count(fields["verdict"])
        if self._now() - self._told >= INTERVAL:
            self.tell_counts()

    def count(self, verdict: str, origin: str | None = None) -> None:
        """Count one more, which writes nothing; also by where it came from, where that is given."""
        with self._counting:
            self._counts[verdict] += 1
            if origin is not None:
                self._origins.setdefault(origin, Counter())[verdict] += 1

    def tell_counts(self) -> None:
        """Say what was counted since the start."""
        self._told = self._now()
        self._append("counts", self._counted())

    def record(self, event: str, fields: Mapping[str, Any]) -> None:
        """Say something else that happened; `event` is none of the words above."""
        self._append(event, fields)

    def tell_drift(self, fields: Mapping[str, Any]) -> None:
        """Say what is known of drift from now on."""
        self._append("drift", fields)

    def tell_shadow(self, fields: Mapping[str, Any]) -> None:
        """Say how a version in shadow compared with the one that judges."""
        self._append("shadow", fields)

    def __enter__(self) -> "AuditLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._started:
                ending = self.ending if kind is None else kind.__name__
                self._append("stop", {"ending": ending, **self._counted()})
        except OutputError:
            if kind is None:
                raise
        finally:
            with contextlib.suppress(OSError):
                os.close(self._file)

    def _counted(self) -> dict[str, Any]:
        """Since the start."""
        with self._counting:
            origins = {origin: _by_verdict(counts) for origin, counts in self._origins.items()}
            return _by_verdict(self._counts) | ({"origins": origins} if origins else {})

    def _judging(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that say what judges from now on, and what is other than it was, if it was ever said."""
        said = who() | dict(facts)
        before: Mapping[str, Any] = {}
        with contextlib.suppress(OSError):  # what cannot be read now is told when it is written to
            before = last_of(self._path, "start", "swap", "rolled back")
        now = json.loads(json.dumps(said))  # as it will be read: lists for tuples
        changed = {
            name: [before.get(name), now[name]] for name in now if name != "pid" and now[name] != before.get(name)
        }
        return said | ({"changed": changed} if before else {})

    def _append(self, event: str, fields: Mapping[str, Any]) -> None:
        with self._lock:
            self._append_next(event, fields)

    def _append_next(self, event: str, fields: Mapping[str, Any]) -> None:
        try:
            self._stay()
            self._end = append(self._file, self._end, event, fields)
        except (OSError, UsageError) as error:
            self.lost += 1
            self._trouble.begin(error)
        else:
            self._trouble.end()

    def _stay(self) -> None:
        """See to it that the next line goes to the end of `path`, whoever has moved the file, or filled the disk."""
        there = is_at(self._file, self._path)
        if there and os.fstat(self._file).st_size >= self._largest and self._end.torn is None:
            os.rename(self._path, next_aside(self._path))  # who dies here leaves it to the next one to go on
            there = False
        if not there:
            older, self._file = self._file, self._open()
            os.close(older)
        if self._trouble.lasts or (not there and os.fstat(self._file).st_size):
            self._end = self._resume()

    def _open(self) -> int:
        file = open_for_appending(self._path)
        try:
            if not locked(file):
                raise UsageError(f"Another process writes the audit log {self._path}: give each a file of its own.")
        except BaseException:
            os.close(file)
            raise
        return file

    def _resume(self) -> ChainEnd:
        try:
            return chain_end(self._path)
        except ForeignLineError as error:
            raise UsageError(
                f"{error.path} holds something else than an audit log, or was changed: look at it with "
                "`rstpm-edge audit-log`, and give another name."
            ) from error


def _by_verdict(counts: Counter[str]) -> dict[str, int]:
    return {name: counts[name] for name in ("normal", "anomalous", "invalid", "failed")}


def _error(why: object) -> dict[str, str]:
    return {"error": one_line(without_passwords(str(why)))[:2000]}
