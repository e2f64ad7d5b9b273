"""What survives: kills at random moments, a full and a read-only disk, a device that fails, clocks, two processes.

    python tools/faults.py                                   # 200 kills of each; hours on two cores
    python tools/faults.py --times 20 --only watch,log       # some of them, in a minute
    python tools/faults.py --seed 1 --keep /tmp/faults       # other moments; what is left is kept

Every command runs in a process of its own, forked from this one with its imports loaded, on rendered photos, a small
training and a tiny model. The seed gives the moments as shares of what a command takes undisturbed, or as numbers of
verdicts, so a run can be repeated as far as the machine's own timing allows. After each fault, what is left is checked,
and the same command goes on. Prints a table. Where anything failed, exits with 1, with a line on
standard error for each.

full and readonly mount a tmpfs, and need root.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import fault_kills as kills
import fault_machine as machine
from fault_commands import Outcome, preload
from fault_kills import Training
from fault_registry import kill_registry

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: a process that has threads of its own cannot be forked
SHOWN = 20
NEED_TRAINING = ("train", "export", "calibrate", "full", "readonly")


def table(outcomes: list[Outcome]) -> str:
    lines = ["| fault | times | what was checked | failures |", "|---|---|---|---|"]
    lines += [f"| {one.fault} | {one.times} | {one.checked} | {len(one.failures)} |" for one in outcomes]
    return "\n".join(lines)


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n"))
@click.option("--times", type=click.IntRange(min=1), default=200, show_default=True, help="Kills of each kind.")
@click.option("--files", type=click.IntRange(min=1), default=10_000, show_default=True, help="Of the watched folder.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--only",
    metavar="NAME,…",
    help="Of train, export, calibrate, watch, log, registry, full, readonly, device, clock, two.",
)
@click.option("--keep", type=click.Path(path_type=Path), help="Work in this new folder, and leave it.")
def main(times: int, files: int, seed: int, only: str | None, keep: Path | None) -> None:
    folder = keep or Path(tempfile.mkdtemp(prefix="faults-"))
    folder.mkdir(exist_ok=True)
    trained: list[Training] = []

    def training() -> Training:
        if not trained:
            trained.append(Training(folder / "training"))
        return trained[0]

    few = max(1, times // 10)
    faults: dict[str, Callable[[random.Random], Outcome]] = {
        "watch": lambda rng: kills.kill_watching(times, rng, folder, files),
        "log": lambda rng: kills.kill_audit_logs(times, rng, folder),
        "registry": lambda rng: kill_registry(times, rng, folder),
        "two": lambda rng: machine.two_processes(few, rng, folder),
        "device": lambda rng: machine.failing_device(few, rng, folder),
        "clock": lambda rng: machine.jumping_clock(few, rng, folder),
        "calibrate": lambda rng: kills.kill_calibrations(times, rng, folder, training()),
        "train": lambda rng: kills.kill_trainings(times, rng, folder, training()),
        "export": lambda rng: kills.kill_exports(times, rng, folder, training()),
        "full": lambda rng: machine.full_disk(few, rng, folder, training()),
        "readonly": lambda rng: machine.read_only_disk(few, rng, folder, training()),
    }
    names = only.split(",") if only else list(faults)
    if unknown := set(names) - set(faults):
        raise click.UsageError(f"--only knows {', '.join(faults)}; not {', '.join(unknown)}.")
    preload(["rstpm_edge.cli.main", "rstpm_edge.detector", "rstpm_edge.outputs.journal", "rstpm_edge.outputs.csv_file"])
    if set(names) & set(NEED_TRAINING):
        preload(["rstpm_edge.training.learning.train", "rstpm_edge.training.export.export", "pytest"])
    outcomes = []
    for name in names:
        start = time.monotonic()
        outcomes.append(faults[name](random.Random(f"{seed} {name}")))
        for failure in outcomes[-1].failures[:SHOWN]:
            print(failure, file=sys.stderr)
        print(
            f"{name}: {time.monotonic() - start:.0f} s, {len(outcomes[-1].failures)} failures",
            file=sys.stderr,
            flush=True,
        )
    print(table(outcomes))
    if not keep:
        shutil.rmtree(folder)
    if any(one.failures for one in outcomes):
        sys.exit(1)


if __name__ == "__main__":
    main()
