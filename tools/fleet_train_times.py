"""How long `fleet train` takes for some products with one worker and with two, and with a worker killed on the way.

    python tools/fleet_train_times.py WORK --data mvtec/screw --data mvtec/zipper … --photos 40 --tests 12

The products are those of --data, in the MVTec AD layout, of each so many photos, and rendered parts up to --products.
Each of --runs trains all of them from nothing, in a folder of its own:

2     two workers with one thread each
1x2   one worker with two threads: one product after the other
1     one worker with one thread
2k    as 2, with a worker killed (SIGKILL) as soon as there is a first checkpoint; the same command is then run again

Prints the seconds of each command, what the workers used of processors, and the load average before. What else runs on
the machine makes the first figure wrong, and the second one less so.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from processes import processes_below

from rstpm_edge.training.demo.part import write_dataset

OPTIONS = {"2": ("2", "1"), "1x2": ("1", "2"), "1": ("1", "1"), "2k": ("2", "1")}  # workers, threads
SOMETHING_FAILED = 3  # exit code of a command that has results of all products
RENDERED = {"test_per_kind": 2, "size": (256, 256)}


def fill(products: Path, data: list[Path], number: int, photos: int, tests: int) -> None:
    """Links to the first photos of each data set, and rendered parts."""
    for source in data:
        for folder in sorted(path for path in source.rglob("*") if path.is_dir()):
            files = sorted(path for path in folder.iterdir() if path.is_file())
            most = photos if folder.parent.name == "train" else tests
            target = products / source.name / folder.relative_to(source)
            target.mkdir(parents=True, exist_ok=True)
            for file in files[:most]:
                link = target / file.name
                if not link.exists():
                    link.symlink_to(file.resolve())
    for seed in range(number - len(data)):
        if not (products / f"rendered-{seed}").exists():
            write_dataset(products / f"rendered-{seed}", seed=seed, train=photos, test_good=tests, **RENDERED)  # type: ignore[arg-type]


def workers_of(process: int) -> list[int]:
    """The processes below this one that train a product."""
    return sorted(one for one, name in processes_below(process).items() if name.startswith("ray::_work"))


def kill_one(command: subprocess.Popen[bytes], out: Path) -> str:
    """Kill a worker once a training has a checkpoint; says which, and when."""
    started = time.monotonic()
    while command.poll() is None:
        if any(out.glob("*/run-*/checkpoint.safetensors")) and (found := workers_of(command.pid)):
            os.kill(found[0], signal.SIGKILL)
            return f"process {found[0]} was killed after {time.monotonic() - started:.0f} s"
        time.sleep(0.2)
    return "the command ended before a worker could be killed"


def train(name: str, work: Path, more: list[str]) -> None:
    """One command, and what it took."""
    workers, threads = OPTIONS[name]
    out = work / f"models-{name}"
    arguments = ["fleet", "train", work / "products", "--out", out, "--workers", workers, "--threads", threads, *more]
    load, started = os.getloadavg()[0], time.monotonic()
    command = subprocess.Popen([sys.executable, "-m", "rstpm_edge", *map(str, arguments)])
    if name.endswith("k"):
        print(kill_one(command, out), flush=True)
    code = command.wait()
    seconds = time.monotonic() - started
    if code not in (0, SOMETHING_FAILED):
        sys.exit(f"run {name} came to nothing: exit code {code}")
    products = json.loads((out / "fleet.json").read_text())["products"]
    processor = sum(one["processor_seconds"] or 0 for one in products)
    print(
        f"run {name}: {workers} workers, {threads} threads each: {seconds:.0f} s; the workers used {processor:.0f} s "
        f"of processors; exit code {code}; load {load:.1f} before",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--products", type=int, default=8)
    parser.add_argument("--photos", type=int, default=40)
    parser.add_argument("--tests", type=int, default=12, help="of each kind")
    parser.add_argument("--runs", default="2k,1x2,2", help=", ".join(OPTIONS))
    arguments, more = parser.parse_known_args()
    fill(arguments.work / "products", arguments.data, arguments.products, arguments.photos, arguments.tests)
    for name in arguments.runs.split(","):
        train(name, arguments.work, more)
        if name.endswith("k"):
            train(name, arguments.work, more)  # which finds all of it done


if __name__ == "__main__":
    main()
