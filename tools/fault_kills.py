"""SIGKILL at a random moment of a training, an export, a calibration, a watched folder and an audit log."""

from __future__ import annotations

import hashlib
import os
import random
import runpy
import shutil
import signal
import time
from pathlib import Path
from typing import Any

from fault_commands import HELPERS, Command, Outcome, leftovers
from fault_station import Station

from rstpm_edge.errors import RstpmEdgeError
from rstpm_edge.outputs.audit_log import AuditLog
from rstpm_edge.outputs.chain_check import check_chain

TRAIN = ("--size", "64x64", "--epochs", "3", "--device", "cpu", "--holdout", "0.25", "--alpha", "0.25")
PHOTOS = 12


def short_head() -> None:
    """In the child: the segmentation head learns for a moment, or most of a small training would be that."""
    runpy.run_path(str(HELPERS / "small_training.py"))["short_head_training"]().__enter__()


class Training:
    """A finished run that others are compared with, and that is exported and calibrated."""

    def __init__(self, folder: Path) -> None:
        from rstpm_edge.training.demo.part import write_dataset

        self.folder = folder
        folder.mkdir(parents=True)
        self.photos = folder / "photos"
        write_dataset(self.photos, train=PHOTOS, test_good=0, test_per_kind=0, size=(128, 128))
        ended = self.train(folder).finished()
        if ended.code:
            raise RuntimeError(f"The training that others are compared with failed: {ended.errors}")
        (self.run,) = (folder / "runs").iterdir()
        self.seconds = ended.seconds

    def train(self, folder: Path) -> Command:
        return Command("train", self.photos, *TRAIN, folder=folder, before=short_head)

    def summary(self, run: Path) -> Any:
        """What a run found, but for the time it took. Raises TrainingError where half of it is written."""
        from dataclasses import replace

        from rstpm_edge.training.learning.run_summary import load_summary

        return replace(load_summary(run), minutes=0.0)


def kill_trainings(times: int, random: random.Random, folder: Path, training: Training) -> Outcome:
    from rstpm_edge.training.learning.checkpoint import load_checkpoint
    from rstpm_edge.training.learning.run_config import load_config

    outcome = Outcome(
        "kill -9 of `train`, and of `train --resume`",
        "config, checkpoint and summary are whole or not there; no epoch is lost; --resume ends with the same result "
        "to the last bit, and leaves no other file",
    )
    expected, files = training.summary(training.run), _files(training.run)
    seconds = training.seconds
    while outcome.times < times:
        work = folder / "trained"
        work.mkdir()
        command, epoch, killed = training.train(work), 0, 0
        while True:
            ended = command.killed_after(random.uniform(0, seconds) if outcome.times < times else 1e9)
            outcome.times += ended.code is None
            killed += ended.code is None
            runs = list((work / "runs").glob("*"))
            outcome.expect(ended.code in (None, 0), f"it ended with {ended.code}: {ended.errors[-500:]}")
            if ended.code:
                break
            try:
                begun = bool(runs) and (runs[0] / "config.json").exists()
                checkpoint = load_checkpoint(runs[0]) if begun and load_config(runs[0]) else None
                outcome.expect((checkpoint.epoch if checkpoint else 0) >= epoch, "an epoch was lost")
                epoch = checkpoint.epoch if checkpoint else 0
                if begun and (runs[0] / "summary.json").exists():
                    outcome.expect(training.summary(runs[0]) == expected, "the result is another one")
                    if ended.code == 0:
                        outcome.expect(_files(runs[0]) == files, f"files differ: {_files(runs[0]) ^ files}")
                    break
            except RstpmEdgeError as error:
                outcome.expect(False, str(error))
                break
            if begun:
                command = Command("train", "--resume", runs[0], folder=work, before=short_head)
            else:
                shutil.rmtree(work / "runs", ignore_errors=True)
                command = training.train(work)
            if ended.code == 0:
                break
        if not killed:
            seconds = max(ended.seconds, 0.1)  # as long as it takes just now, on a machine that does other work
        shutil.rmtree(work)
    return outcome


def kill_exports(times: int, random: random.Random, folder: Path, training: Training) -> Outcome:
    outcome = Outcome(
        "kill -9 of `export` over an older model",
        "the file is the older one, or whole and loads; an export afterwards leaves nothing else beside it",
    )
    work, older = folder / "exported", b"an older model"
    work.mkdir()
    target, seconds = work / "model.onnx", 5.0
    while outcome.times < times:
        target.write_bytes(older)
        command = Command("export", training.run, "-o", target, folder=work)
        ended = command.killed_after(random.uniform(0, seconds))
        outcome.times += ended.code is None
        outcome.expect(ended.code in (None, 0), f"it ended with {ended.code}: {ended.errors[-500:]}")
        if ended.code == 0:
            seconds = ended.seconds
            outcome.expect([path.name for path in work.iterdir()] == ["model.onnx"], f"left over: {os.listdir(work)}")
        if target.read_bytes() != older:
            outcome.expect(_loads(target, work), "a model that does not load")
    ended = Command("export", training.run, "-o", target, folder=work).finished()
    outcome.expect(ended.code == 0 and not leftovers(work), f"afterwards: {ended.code}, {leftovers(work)}")
    return outcome


def kill_calibrations(times: int, random: random.Random, folder: Path, training: Training) -> Outcome:
    outcome = Outcome(
        "kill -9 of `calibrate --defective` and `--reset`",
        "the run has the calibration of before or after, whole; the next command is not held up",
    )
    run = folder / "calibrated"
    shutil.copytree(training.run, run)
    names = [name for name, _ in training.summary(run).highest[:2]]
    commands = [("--defective", names[0]), ("--defective", names[1]), ("--reset",)]
    state, seconds = training.summary(run), dict.fromkeys(commands, 1.0)
    states = [state]
    while outcome.times < times:
        typed = random.choice(commands)
        ended = Command("calibrate", run, *typed, folder=folder, before=short_head).killed_after(
            random.uniform(0, seconds[typed])
        )
        outcome.times += ended.code is None
        outcome.expect(ended.code in (None, 0), f"it ended with {ended.code}: {ended.errors[-500:]}")
        try:
            after = training.summary(run)
        except RstpmEdgeError as error:
            outcome.expect(False, str(error))
            break
        if ended.code == 0:
            seconds[typed] = ended.seconds
            expected = set() if typed == ("--reset",) else set(state.defective) | {typed[1]}
            outcome.expect(set(after.defective) == expected, f"{sorted(after.defective)} after {typed}")
            states.append(after)
        else:
            allowed = (set(state.defective), set() if typed == ("--reset",) else set(state.defective) | {typed[1]})
            outcome.expect(set(after.defective) in allowed, f"{sorted(after.defective)} after {typed} was killed")
        same = [one for one in states if set(one.defective) == set(after.defective)]
        outcome.expect(not same or after.calibration == same[-1].calibration, "another calibration of the same photos")
        state = after
    ended = Command("calibrate", run, "--reset", folder=folder, before=short_head).finished()
    outcome.expect(ended.code == 0 and not leftovers(run), f"afterwards: {ended.code}, {leftovers(run)}")
    return outcome


def kill_watching(times: int, random: random.Random, folder: Path, files: int) -> Outcome:
    outcome = Outcome(
        "kill -9 of `infer --watch --journal`, with a table, an audit log, a drift state and pictures",
        f"of about {files:,} files that come meanwhile each has exactly one verdict in the journal, and the right one; "
        "none is printed or tabled twice; nothing is half-written; what was not told is known",
    )
    station, each = Station(folder / "station", random), max(1, files // times)
    while outcome.times < times:
        for _ in range(random.randrange(each)):
            station.arrive()
        start = station.printed.stat().st_size if station.printed.exists() else 0
        lines, moment = random.randrange(2 * each), random.uniform(0, 0.02)
        early = random.uniform(0, 0.5) if random.random() < 0.2 else 60.0
        reached: list[float] = []
        command = station.infer()

        def due(
            command: Command = command, start: int = start, lines: int = lines, moment: float = moment,
            early: float = early, reached: list[float] = reached,
        ) -> bool:  # fmt: skip
            """So many lines have been printed, and a moment has passed."""
            if command.passed > early:
                return True
            if not reached and station.printed.exists() and station.printed.stat().st_size >= start + 350 * lines:
                reached.append(time.monotonic())
            return bool(reached) and time.monotonic() - reached[0] >= moment

        next_file = [0.0]

        def feed(next_file: list[float] = next_file) -> None:
            if time.monotonic() >= next_file[0] and station.waiting() < 2 * each:
                station.arrive()
                next_file[0] = time.monotonic() + random.uniform(0, 0.02)

        ended = command.killed_when(due, feed)
        outcome.times += 1
        outcome.expect(ended.code is None, f"it ended by itself with {ended.code}: {ended.errors[-500:]}")
        station.check(outcome)
    while len(station.arrived) < files:
        station.arrive()
    station.finish(outcome)
    outcome.checked = outcome.checked.replace(f"about {files:,}", f"{len(station.arrived):,}")
    return outcome


def kill_audit_logs(times: int, random: random.Random, folder: Path) -> Outcome:
    outcome = Outcome("kill -9 while an audit log is written and set aside", "all that was written hangs together")
    path = folder / "log.jsonl"
    while outcome.times < times:
        child = os.fork()
        if child == 0:
            with AuditLog(path, largest=20_000) as log:
                while True:
                    log.start({"model": hashlib.sha256(os.urandom(8)).hexdigest()})
                    log.tell({"verdict": "anomalous"})
                    log.refuse({}, "this and that")
        time.sleep(random.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        outcome.times += 1
        if path.exists() and path.stat().st_size:
            checked = check_chain(path)
            outcome.expect(not checked.faults, "; ".join(checked.faults[:3]))
    return outcome


def _loads(model: Path, work: Path) -> bool:
    """In a process of its own: this one forks others, and must not have ONNX Runtime's threads."""
    return Command("info", model, folder=work).finished().code == 0


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
