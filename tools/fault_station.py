"""The watched folder that `faults.py` disturbs, what comes into it, and checks of what a fault leaves."""

from __future__ import annotations

import csv
import json
import os
import random
import runpy
import shutil
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from fault_commands import HANGS, HELPERS, Command, Outcome, nothing

from rstpm_edge.outputs.chain_check import check_chain


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
        """One file more: good or bad, sometimes damaged, sometimes one that was judged before and is written anew.

        One that was written anew has to be judged before it is once more: what it held would have no verdict.
        """
        judged = self._judged() if self.random.random() < again else []
        kind = "damaged" if self.random.random() < damaged else "bad" if self.random.random() < 0.3 else "good"
        content = {"good": self._good, "bad": self._bad, "damaged": self._good[: len(self._good) // 2]}[kind]
        path = self.random.choice(judged) if judged else self.incoming / f"{self._number:06d}.{kind}.png"
        content = self._good if judged else content
        self._number += 1
        written = self.folder / "written"
        written.write_bytes(content)
        written.rename(path)
        self.arrived.add(_state(path))

    def _judged(self) -> list[Path]:
        """Some that were, as they are now, whose verdict may be expected to be that of a good part afterwards."""
        try:
            rows = self.rows()
        except sqlite3.OperationalError:  # the journal is being made
            return []
        kept = {row[:3] for row in rows}
        names = dict.fromkeys(row[0] for row in rows[-50:] if ".good." in row[0])
        paths = [self.incoming / name for name in names]
        return [path for path in paths if path.exists() and _state(path) in kept]

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
            found = (
                database.execute("SELECT name, size, changed, told FROM verdict ORDER BY number").fetchall()
                if tables
                else []
            )
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
        without = sorted(self.arrived - {row[:3] for row in rows})
        outcome.expect(
            not without and len(rows) == len(self.arrived),
            f"{len(rows)} of {len(self.arrived)} have a verdict; none have {[name for name, _, _ in without[:10]]}",
        )
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
        """Judge undisturbed until each file that came has its verdict, or none has got one for HANGS seconds."""
        command, last, since = self.infer(), 0, time.monotonic()

        def all_judged() -> bool:
            nonlocal last, since
            judged = len(self.rows())
            if judged > last:
                last, since = judged, time.monotonic()
            return time.monotonic() - since > HANGS or (command.passed > 0.5 and judged >= len(self.arrived))

        ended = command.until(all_judged, lambda: time.sleep(0.2))
        if ended is None:
            command.signal(signal.SIGTERM)
            ended = command.finished(HANGS + command.passed)
        outcome.expect(ended.code in (0, 1, 3), f"the last run ended with {ended.code}: {ended.errors}")
        self.check_end(outcome)

    def remove(self) -> None:
        shutil.rmtree(self.folder)


def _state(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return path.name, status.st_size, status.st_mtime_ns


def _identity(line: dict[str, Any]) -> tuple[str, str]:
    return line["path"], line["time"]


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text())
    except ValueError:
        return False
    return True
