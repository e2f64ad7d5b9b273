"""A disk that is full or read-only, a device that fails, a clock that jumps, and two processes on one folder."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fault_commands import Command, Ended, Outcome, leftovers, one_sentence
from fault_kills import TRAIN, Training, short_head
from fault_station import Station

SOME = 30  # files that come into a watched folder


def two_processes(times: int, random: random.Random, folder: Path) -> Outcome:
    outcome = Outcome(
        "two `infer --watch` on one new journal, started at once",
        "one is refused with code 2 and a sentence, the other judges each file exactly once",
    )
    while outcome.times < times:
        outcome.times += 1
        station = Station(folder / "two", random)
        for _ in range(SOME):
            station.arrive(damaged=0)
        both = [station.infer(), _second(station)]
        _until_one_ends(*both)
        for command in both:
            _until(station, command)
        ended = [command.until(lambda: True) for command in both]
        outcome.expect([end.code for end in ended if end] == [2], f"they ended with {ended}")
        for end in ended:
            outcome.expect(end is None or "Another process keeps the journal" in end.errors, f"it said {end}")
        for command, end in zip(both, ended, strict=True):
            if end is None:
                command.signal(signal.SIGTERM)
                command.finished()
        station.check_end(outcome)
        station.remove()
    return outcome


def _until_one_ends(one: Command, other: Command) -> None:
    one.until(lambda: one.passed > 60 or other.until(lambda: True) is not None)


def _second(station: Station) -> Command:
    """The same with other outputs, so that the journal alone can be what refuses it."""
    return Command(
        "infer", "incoming", "--watch", "--json", "--model", station.model, "--journal", station.journal,
        folder=station.folder, output=station.printed,
    )  # fmt: skip


def failing_device(times: int, random: random.Random, folder: Path) -> Outcome:
    outcome = Outcome(
        "the device fails for good after some images (its runtime raises)",
        "each image from then on is told as failed, in one sentence; after a restart it is judged, and exactly once",
    )
    while outcome.times < times:
        outcome.times += 1
        station, good = Station(folder / "device", random), random.randrange(SOME)
        for _ in range(SOME):
            station.arrive(damaged=0)

        def break_down(good: int = good) -> None:
            from rstpm_edge.engine.no_telemetry import onnxruntime

            real, left = onnxruntime.InferenceSession.run, [good]

            def run(*arguments: Any, **options: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    raise RuntimeError("CUDA failure 999: unknown error ; GPU=0")
                return real(*arguments, **options)

            onnxruntime.InferenceSession.run = run

        ended = station.infer("--limit", SOME, before=break_down).finished()
        outcome.expect(ended.code == 3 and "Traceback" not in ended.errors, f"it ended with {ended.code}")
        failed = [line for line in station.lines() if "CUDA failure 999" in line.get("error", "")]
        outcome.expect(
            len(failed) == SOME - good == SOME - len(station.rows()), f"{len(failed)} of {SOME - good} failed"
        )
        station.printed.unlink()
        station.table.unlink()
        printed = len(station.rows())
        ended = station.infer("--limit", SOME - good).finished()
        outcome.expect(len(station.lines()) == SOME - printed, f"{len(station.lines())} were judged afterwards")
        rows = [row[:3] for row in station.rows()]
        outcome.expect(len(rows) == SOME and set(rows) == station.arrived, "not exactly one verdict each")
        station.remove()
    return outcome


def jumping_clock(times: int, random: random.Random, folder: Path) -> Outcome:
    outcome = Outcome(
        "the clock jumps by up to ten years, back or forth, between files, and so do their time stamps",
        "each file has exactly one verdict; a restart under another clock judges none twice",
    )
    span = 10 * 365 * 86_400
    while outcome.times < times:
        outcome.times += 1
        station = Station(folder / "clock", random)

        def jump(seed: float = random.random()) -> None:
            real, jumps = time.time, type(random)(seed)

            def now() -> float:
                return real() + jumps.uniform(-span, span)

            time.time, time.time_ns = now, lambda: int(now() * 1e9)

        command = station.infer(before=jump)
        for _ in range(SOME):
            station.arrive(damaged=0, again=0)
            _restamp(station, time.time_ns() + random.randrange(-span, span) * 10**9 + random.randrange(10**9))
        stop = _until(station, command)
        outcome.expect(stop is None, f"it ended by itself: {stop}")
        command.killed_after(0)
        station.check(outcome)
        station.arrive(damaged=0, again=0)
        command = station.infer(before=jump)
        _until(station, command)
        command.signal(signal.SIGTERM)
        command.finished()
        station.check_end(outcome)
        station.remove()
    return outcome


def _restamp(station: Station, stamp: int) -> None:
    """Give the newest file another time stamp, before it can have been judged."""
    newest = max(station.incoming.iterdir(), key=lambda path: path.name)
    size = newest.stat().st_size
    station.arrived = {one for one in station.arrived if one[0] != newest.name} | {(newest.name, size, stamp)}
    os.utime(newest, ns=(stamp, stamp))


def _until(station: Station, command: Command) -> Ended | None:
    return command.until(
        lambda: command.passed > 60 or (command.passed > 0.5 and len(station.rows()) >= len(station.arrived)),
        lambda: time.sleep(0.05),
    )


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A tmpfs of so many bytes. Raises RuntimeError where it cannot be mounted."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"No tmpfs can be mounted here: {result.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def full_disk(times: int, random: random.Random, folder: Path, training: Training) -> Outcome:
    outcome = Outcome(
        "the disk fills up after a random number of bytes: `train`, `export`, `calibrate`, `infer --watch`",
        "code 2 and one sentence, no half file, what was there is as it was; with room again the same command succeeds",
    )
    while outcome.times < times:
        outcome.times += 1
        with small_disk(folder / "disk", 300_000_000) as disk:
            _batch_commands(outcome, random, disk, training, fill=True)
        with small_disk(folder / "disk", 2_000_000) as disk:
            _watched(outcome, random, folder, disk)
    return outcome


def read_only_disk(times: int, random: random.Random, folder: Path, training: Training) -> Outcome:
    outcome = Outcome(
        "the disk is mounted read-only: `train`, `export`, `calibrate`, `infer --watch`",
        "code 2 (infer: 5) and one sentence; what was there is as it was; once it can be written it succeeds",
    )
    while outcome.times < times:
        outcome.times += 1
        with small_disk(folder / "disk", 300_000_000) as disk:
            _batch_commands(outcome, random, disk, training, fill=False)
            station = Station(folder / "readonly", random, records=disk / "records")
            station.records.mkdir()
            station.arrive(damaged=0)
            _remount(disk, "ro")
            ended = station.infer("--limit", 1).finished()
            outcome.expect(ended.code == 5 and one_sentence(ended.errors), f"infer: {ended.code}, {ended.errors}")
            _remount(disk, "rw")
            station.infer("--limit", 1).finished()
            station.check_end(outcome)
            station.remove()
    return outcome


def _remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def _batch_commands(outcome: Outcome, random: random.Random, disk: Path, training: Training, *, fill: bool) -> None:
    """train, export and calibrate where the disk cannot be written, and then can."""
    older = b"an older model"
    run = disk / "run"
    shutil.copytree(training.run, run)
    (disk / "model.onnx").write_bytes(older)
    defective = training.summary(run).highest[0][0]
    needs = {"train": 28_000_000, "export": 25_000_000, "calibrate": 4000}
    commands = {
        "train": ("train", training.photos, *TRAIN),
        "export": ("export", run, "-o", disk / "model.onnx"),
        "calibrate": ("calibrate", run, "--defective", defective),
    }
    for name, typed in commands.items():
        before = training.summary(run)
        with _unwritable(disk, random.randrange(needs[name]) if fill else None):
            ended = Command(*typed, folder=disk, before=short_head).finished()
        outcome.expect(ended.code == 2 and one_sentence(ended.errors), f"{name}: {ended.code}, {ended.errors[-400:]}")
        outcome.expect((disk / "model.onnx").read_bytes() == older, f"{name}: the older model has changed")
        outcome.expect(training.summary(run) == before, f"{name}: the calibration has changed")
        outcome.expect(not leftovers(disk), f"{name}: left over {leftovers(disk)}")
        shutil.rmtree(disk / "runs", ignore_errors=True)
        ended = Command(*typed, folder=disk, before=short_head).finished()
        outcome.expect(ended.code == 0, f"{name} with room again: {ended.code}, {ended.errors[-400:]}")
        (disk / "model.onnx").write_bytes(older)


@contextlib.contextmanager
def _unwritable(disk: Path, room: int | None) -> Iterator[None]:
    """With `room` bytes left, or, where that is None, read-only."""
    if room is None:
        _remount(disk, "ro")
        yield
        _remount(disk, "rw")
        return
    ballast = disk / "ballast"
    status = os.statvfs(disk)
    with open(ballast, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(status.f_bavail * status.f_frsize - room, 1))
    yield
    ballast.unlink()


def _watched(outcome: Outcome, random: random.Random, folder: Path, disk: Path) -> None:
    """A line goes on where the disk with all its records is full, and all is right when there is room again."""
    station = Station(folder / "full", random, records=disk / "records")
    station.records.mkdir()
    for _ in range(SOME):
        station.arrive(damaged=0)
    command = station.infer()
    fill_at = random.randrange(SOME)
    with contextlib.ExitStack() as stack:
        stopped = command.until(lambda: command.passed > 60 or len(station.rows()) >= fill_at)
        outcome.expect(stopped is None, f"infer ended by itself: {stopped}")
        stack.enter_context(_unwritable(disk, random.randrange(20_000)))
        stopped = command.until(lambda: command.passed > 60 or len(station.lines()) >= SOME, lambda: time.sleep(0.05))
        outcome.expect(stopped is None, f"infer ended by itself: {stopped}")
    station.arrive(damaged=0)  # with which all that waits is written
    _until(station, command)
    command.signal(signal.SIGTERM)
    ended = command.finished()
    outcome.expect("Traceback" not in ended.errors, ended.errors[-400:])
    outcome.expect(len(station.lines()) == SOME + 1, f"{len(station.lines())} verdicts were printed")
    rows = [row[:3] for row in station.rows()]
    outcome.expect(len(rows) == SOME + 1 and set(rows) == station.arrived, f"the journal has {len(rows)} verdicts")
    station.remove()
