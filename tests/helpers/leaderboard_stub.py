"""The leaderboard without its trainings: a stub that judges by brightness stands for anomalib."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import leaderboard
from click.testing import CliRunner, Result

TINY = ("--size", 64, "--epochs", 1, "--device", "cpu", "--precision", "32-true", "--processes", 1, "--rounds", 0)

STUB = """#!{python}
import json, os, sys
from pathlib import Path
import numpy as np

folder, inputs = map(Path, sys.argv[2:])
job = json.loads((folder / "job.json").read_text())
train, test = (np.load(inputs / name).mean(axis=3) for name in ("train.npy", "test.npy"))
maps = np.abs(test - train.mean(axis=0)).astype(np.float32)
np.save(folder / "maps.npy", maps)
np.save(folder / "scores.npy", maps.mean(axis=(1, 2)))
with (folder.parent / "calls").open("a") as calls:
    calls.write(json.dumps([job["method"], job["size"], job["layers"], os.environ.get("OMP_NUM_THREADS"),
                            sorted(os.sched_getaffinity(0))]) + "\\n")
if job["seed"] == 9:
    sys.exit("no luck")
result = {{"job": job, "minutes": 1.5, "core_minutes": 2.5, "versions": {{"anomalib": "0"}}}}
(folder / "result.json").write_text(json.dumps(result))
"""


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(leaderboard.main, [str(argument) for argument in arguments])


def rows_of(table: str, title: str) -> dict[str, list[str]]:
    """The rows of the first table below `title`."""
    lines = table.split(title, 1)[1].split("\n\n")[1].splitlines()
    return {cells[0]: cells[1:] for cells in ([c.strip() for c in line[1:-1].split("|")] for line in lines[2:])}


def calls(output: Path) -> list[Any]:
    path = output / "fits" / "calls"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
