"""An archive scored by `fleet score` while its workers and the command itself are killed: has each photo one row?

    python tools/fleet_score_kills.py model.onnx WORK --photos 20000 --workers-killed 20 --commands-killed 3

WORK gets that many small photos of noise, of which every thousandth is damaged. A worker is killed (SIGKILL) every few
seconds, and the command as often as asked for, once it has written rows; then the same command goes on. At the end all
rows are read: exits with 1 unless each photo has exactly one, and each damaged one a row that says so.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pyarrow.dataset
from processes import processes_below

DAMAGED_EVERY = 1000
BEGUN_WITHIN = 300  # seconds until a command has its first rows, or a worker


def fill(folder: Path, photos: int) -> None:
    """The photos that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(photos):
        path = folder / f"{number:06}.png"
        if not path.exists():
            noise = np.random.default_rng(number).integers(0, 256, (64, 64), np.uint8)
            content = cv2.imencode(".png", noise)[1].tobytes()
            path.write_bytes(content[:40] if number % DAMAGED_EVERY == 0 else content)


def workers_of(command: subprocess.Popen[bytes]) -> list[int]:
    """Those that hold a detector."""
    return sorted(
        one for one, name in processes_below(command.pid).items() if re.match("ray::.*(MapWorker|Judge)", name)
    )


def rows_of(out: Path) -> int:
    return pyarrow.dataset.dataset(out, partitioning="hive").count_rows() if any(out.rglob("*.parquet")) else 0


def run(arguments: list[str], out: Path, kills: int, every: float, killed_command: bool) -> tuple[int, int | None]:
    """One command; gives how many workers were killed, and its exit code, None where it was killed itself."""
    command = subprocess.Popen([sys.executable, "-m", "rstpm_edge", *arguments])
    killed, before, began, last = 0, rows_of(out), time.monotonic(), time.monotonic()
    while command.poll() is None:
        time.sleep(0.2)
        if killed < kills and time.monotonic() - last > every and (workers := workers_of(command)):
            os.kill(workers[killed % len(workers)], signal.SIGKILL)
            killed, last = killed + 1, time.monotonic()
        if killed_command and (rows_of(out) > before or time.monotonic() - began > BEGUN_WITHIN):
            below = processes_below(command.pid)
            command.kill()
            for process in below:  # as at a power cut: nothing of it goes on
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            command.wait()
            return killed, None
    return killed, command.returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--photos", type=int, default=20_000)
    parser.add_argument("--workers-killed", type=int, default=20, help="by each command, at most")
    parser.add_argument("--commands-killed", type=int, default=3)
    parser.add_argument("--every", type=float, default=4, help="seconds between two workers' deaths")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    photos, out = given.work / "photos", given.work / "scores"
    fill(photos, given.photos)
    arguments = ["fleet", "score", photos, "--model", given.model, "--out", out, "--workers", given.workers]
    typed, began, workers, commands = [str(one) for one in arguments], time.monotonic(), 0, 0
    while True:
        killed, code = run(typed, out, given.workers_killed, given.every, commands < given.commands_killed)
        workers += killed
        if code is not None:
            break
        commands += 1
        print(f"the command was killed with {rows_of(out)} rows written", flush=True)
    table = pyarrow.dataset.dataset(out, partitioning="hive").to_table(columns=["path", "verdict"])
    rows = Counter(Path(str(path)).name for path in table["path"].to_pylist())
    failed = sum(verdict == "failed" for verdict in table["verdict"].to_pylist())
    damaged = -(-given.photos // DAMAGED_EVERY)
    wrong = sum(count != 1 for count in rows.values()) + given.photos - len(rows)
    print(
        f"{given.photos} photos, {table.num_rows} rows, {failed} of them failed ({damaged} photos are damaged); "
        f"killed: {workers} workers, {commands} commands; {time.monotonic() - began:.0f} s; exit code {code}; "
        f"photos without exactly one row: {wrong}"
    )
    sys.exit(1 if wrong or failed != damaged else 0)


if __name__ == "__main__":
    main()
