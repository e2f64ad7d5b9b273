"""What `faults.py` does everything to: commands of rstpm-edge in forked processes, and checks of what they leave."""

from __future__ import annotations

import csv
import itertools
import json
import os
import random
import runpy
import shutil
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rstpm_edge.outputs.chain_check import check_chain

ROOT = Path(__file__).parent.parent
HELPERS = ROOT / "tests" / "helpers"
_NUMBERS = itertools.count()
HANGS = 300.0  # seconds after which a command that should end is a failure


def nothing() -> None:
    """What a command needs to be told before it starts, or while it runs."""


@dataclass
class Outcome:
    """What a fault did, how often, and what was checked each time."""

    fault: str
    checked: str
    times: int = 0
    failures: list[str] = field(default_factory=list)

    def expect(self, holds: object, what: str) -> None:
        if not holds:
            self.failures.append(f"{self.fault}, time {self.times}: {what}")


@dataclass
class Ended:
    """How a command ended: its exit code, or None where it was killed, and what it said on standard error."""

    code: int | None
    errors: str
    seconds: float


class Command:
    """`rstpm-edge` in a process of its own, forked with all that it imports already loaded."""

    def __init__(
        self, *arguments: object, folder: Path, output: Path | None = None, before: Callable[[], None] = nothing
    ):
        self.arguments = [str(argument) for argument in arguments]
        self._errors = folder.with_name(f"{folder.name}.{next(_NUMBERS)}.stderr")
        self._start = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        self._pid = os.fork()
        if self._pid:
            return
        code = 70
        try:  # in the child, which never comes back
            os.chdir(folder)
            flags = os.O_WRONLY | os.O_CREAT
            os.dup2(os.open(output or os.devnull, flags | os.O_APPEND, 0o666), 1)
            os.dup2(os.open(self._errors, flags | os.O_TRUNC, 0o666), 2)
            before()
            from rstpm_edge.cli.main import main

            main(self.arguments)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        except BaseException as error:
            print(repr(error), file=sys.stderr)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    @property
    def passed(self) -> float:
        return time.monotonic() - self._start

    def signal(self, number: int) -> None:
        os.kill(self._pid, number)

    def until(self, due: Callable[[], bool], tick: Callable[[], None] = nothing) -> Ended | None:
        """Wait until `due`, calling `tick` meanwhile; how it ended, if it has."""
        while True:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                errors = self._errors.read_text(errors="replace") if self._errors.exists() else ""
                self._errors.unlink(missing_ok=True)
                return Ended(code if code >= 0 else None, errors, self.passed)
            if due():
                return None
            tick()
            time.sleep(0.001)

    def killed_when(self, due: Callable[[], bool], tick: Callable[[], None] = nothing) -> Ended:
        """SIGKILL when it is `due`; how it ended, by that or before."""
        ended = self.until(due, tick)
        if ended is not None:
            return ended
        self.signal(signal.SIGKILL)
        ended = self.until(lambda: False)
        assert ended is not None
        return ended

    def killed_after(self, seconds: float) -> Ended:
        return self.killed_when(lambda: self.passed >= seconds)

    def finished(self, tick: Callable[[], None] = nothing) -> Ended:
        """To its end; killed, and so no success, where that takes too long."""
        return self.killed_when(lambda: self.passed > HANGS, tick)


def one_sentence(errors: str) -> bool:
    """Whether a command ended with an error that people can read."""
    lines = [line for line in errors.splitlines() if "Error" in line or "Traceback" in line]
    return "Traceback" not in errors and len(lines) == 1 and lines[0].startswith("Error: Cannot")


def leftovers(folder: Path) -> list[str]:
    """Temporary files that nobody writes any more."""
    return [str(path) for path in folder.rglob("*") if path.name.endswith(".tmp")]


class Station:
    """A watched folder with a journal, a table, an audit log, a drift state and pictures, and what came into it."""

    def __init__(self, folder: Path, random: random.Random, *, records: Path | None = None) -> None:
        self.folder, self.random = folder, random
        self.incoming, self.records = folder / "incoming", records or folder
        self.incoming.mkdir(parents=True)
        self.printed = folder / "printed"
        self.journal, self.table = self.records / "journal", self.records / "table.csv"
        self.log, self.drift, self.pictures = self.records / "log", self.records / "drift", self.records / "pictures"
        self.arrived: set[tuple[str, int, int]] = set()  # name, size, time stamp
        self.model = folder / "model.onnx"
        runpy.run_path(str(HELPERS / "bundles.py"))["write_model"](self.model)
        good = np.full((120, 160, 3), 127, np.uint8)
        bad = good.copy()
        bad[30:60, 80:120] = 255
        self._good, self._bad = (cv2.imencode(".png", image)[1].tobytes() for image in (good, bad))
        self._number = 0

    def arrive(self, *, damaged: float = 0.005, again: float = 0.02) -> None:
        """One file more: good or bad, sometimes damaged, sometimes one that was judged before and is written anew."""
        judged = [path for path in self._judged() if path.exists()] if self.random.random() < again else []
        kind = "damaged" if self.random.random() < damaged else "bad" if self.random.random() < 0.3 else "good"
        content = {"good": self._good, "bad": self._bad, "damaged": self._good[: len(self._good) // 2]}[kind]
        path = self.random.choice(judged) if judged else self.incoming / f"{self._number:06d}.{kind}.png"
        content = self._good if judged else content
        self._number += 1
        written = self.folder / "written"
        written.write_bytes(content)
        written.rename(path)
        status = path.stat()
        self.arrived.add((path.name, status.st_size, status.st_mtime_ns))

    def _judged(self) -> list[Path]:
        """Some that were, whose verdict may be expected to be that of a good part afterwards."""
        try:
            names = [line["path"] for line in self.lines()[-50:]]
        except ValueError:  # a line is being written
            return []
        return [self.incoming / Path(name).name for name in names if ".good." in name]

    def waiting(self) -> int:
        """About how many have no verdict yet."""
        size = self.printed.stat().st_size if self.printed.exists() else 0
        return len(self.arrived) - size // 350

    def infer(self, *options: object, before: Callable[[], None] = nothing) -> Command:
        def impatient() -> None:
            from rstpm_edge.sources import watched_folder

            watched_folder.GIVEN_UP = 0.5
            before()

        return Command(
            "infer", "incoming", "--watch", "--json", "--model", self.model, "--journal", self.journal,
            "--csv", self.table, "--audit-log", self.log, "--drift", "1%", "--drift-state", self.drift,
            "--save-overlay", self.pictures, "--rejects-only", *options,
            folder=self.folder, output=self.printed, before=impatient,
        )  # fmt: skip

    def lines(self) -> list[dict[str, Any]]:
        """What was printed. Raises ValueError for half a line."""
        text = self.printed.read_text() if self.printed.exists() else ""
        if text and not text.endswith("\n"):
            raise ValueError("half a line was printed")
        return [json.loads(line) for line in text.splitlines()]

    def rows(self) -> list[tuple[str, int, int, int]]:
        """What the journal holds: name, size, time stamp, and whether it was told."""
        if not self.journal.exists():
            return []
        address = f"file:{self.journal}?mode=ro"  # so that what a kill leaves is recovered by the next run itself
        database = sqlite3.connect(address, uri=True)
        try:
            tables = database.execute("SELECT 1 FROM sqlite_master").fetchone()
            found = database.execute("SELECT name, size, changed, told FROM verdict").fetchall() if tables else []
        finally:
            database.close()
        return [(os.fsdecode(name), size, changed, told) for name, size, changed, told in found]

    def check(self, outcome: Outcome) -> bool:
        """After each fault: nothing is half-written or told twice, and all that was told is kept.

        False where that cannot even be read.
        """
        try:
            printed = Counter(_identity(line) for line in self.lines() if "time" in line)
        except ValueError as error:
            outcome.expect(False, str(error))
            return False
        rows = self.rows()
        kept = Counter((name, size, changed) for name, size, changed, _ in rows)
        outcome.expect(max(kept.values(), default=1) == 1, "the journal has a verdict twice")
        outcome.expect(max(printed.values(), default=1) == 1, "a verdict was printed twice")
        outcome.expect(set(kept) <= self.arrived, "the journal has a file that never came")
        names = Counter(name for name, _, _, _ in rows)
        told = Counter(Path(line["path"]).name for line in self.lines())
        outcome.expect(all(told[name] <= names[name] for name in told), "what was printed is not in the journal")
        if self.table.exists() and (text := self.table.read_text()):
            table = list(csv.DictReader(text.splitlines()))
            listed = Counter(Path(row["path"]).name for row in table)
            outcome.expect(text.endswith("\n") and all(row["ms"] or row["error"] for row in table), "half a row")
            outcome.expect(all(listed[name] <= names[name] for name in listed), "a row twice, or not in the journal")
        if self.log.exists() and self.log.stat().st_size:
            outcome.expect(not check_chain(self.log, None).faults, "the audit log does not hang together")
        if self.drift.exists():
            outcome.expect(_is_json(self.drift), "half a drift state")
        for path in self.pictures.glob("*.png"):
            outcome.expect(cv2.imread(str(path)) is not None, f"{path.name} is half a picture")
            path.unlink()
        return True

    def check_end(self, outcome: Outcome) -> None:
        """When all is done: each file that came has exactly one verdict, and those not told of are known."""
        if not self.check(outcome):
            return
        rows = self.rows()
        outcome.expect({row[:3] for row in rows} == self.arrived, f"{len(rows)} of {len(self.arrived)} have a verdict")
        printed = Counter(Path(line["path"]).name for line in self.lines())
        for row in rows:
            printed[row[0]] -= 1
        missing, untold = sum(-count for count in printed.values() if count < 0), sum(row[3] < 1 for row in rows)
        outcome.expect(missing <= untold, f"{missing} verdicts were not printed, and {untold} are known as such")
        for line in self.lines():
            kind = Path(line["path"]).name.split(".")[1]
            outcome.expect(
                ("error" in line) == (kind == "damaged") and line.get("is_anomalous", kind == "bad") == (kind == "bad"),
                f"the verdict on {line['path']} is wrong",
            )

    def finish(self, outcome: Outcome) -> None:
        """Judge undisturbed until each file that came has its verdict."""
        command = self.infer()

        def all_judged() -> bool:
            return command.passed > HANGS or (command.passed > 0.5 and len(self.rows()) >= len(self.arrived))

        if command.until(all_judged, lambda: time.sleep(0.2)) is None:
            command.signal(signal.SIGTERM)
        ended = command.finished()
        outcome.expect(ended.code in (0, 1, 3), f"the last run ended with {ended.code}: {ended.errors}")
        self.check_end(outcome)

    def remove(self) -> None:
        shutil.rmtree(self.folder)


def _identity(line: dict[str, Any]) -> tuple[str, str]:
    return line["path"], line["time"]


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text())
    except ValueError:
        return False
    return True


def preload(names: Sequence[str]) -> None:
    """Import what forked commands need, once."""
    for name in names:
        __import__(name)
