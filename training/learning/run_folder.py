"""A run: the folder in which a training keeps everything that it needs to go on, and that export needs.

config.json              what was asked for, and which files were learned from and held out (`run_config`)
checkpoint.safetensors   students, channel statistics and optimiser after the last whole epoch; losses in its header.
                         When all is learned, the segmentation head and no optimiser (`checkpoint`)
summary.json             written at the end: fusion statistics, calibration, duration (`run_summary`)
calibration.json         where a person has calibrated it again (`recalibration`): what takes the summary's place
calibration.lock         beside it: empty, held by whoever changes it
samples/                 a few held-out images, on which an export checks itself
"""

import contextlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rstpm_edge.atomic_files import make_folder, write_bytes
from rstpm_edge.errors import OutputError, TrainingError
from rstpm_edge.folder_lock import one_writer

RUNS = Path("runs")
SAMPLES = 8


def new_run_folder() -> Path:
    """Make runs/<time> below the working directory, with a suffix when that second already has one.

    Made at once, so that of two trainings that begin together each has its own. Raises OutputError.
    """
    make_folder(RUNS)
    name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder, number = RUNS / name, 0
    while True:
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            number += 1
            folder = RUNS / f"{name}_{number}"
        except OSError as error:
            raise OutputError(f"Cannot create the folder {folder}: {error.strerror or error}.") from error


def check_no_run(folder: Path) -> None:
    """Raises OutputError where `folder` holds a run, also one that is still in its first epoch."""
    if any((folder / name).exists() for name in ("config.json", "checkpoint.safetensors")):
        raise OutputError(f"{folder} holds a run already: go on with it by `resume`, or name another folder.")


def one_training(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Let no other process train in a run's folder, which is made where it is missing, until the end of the block.

    Raises OutputError, and UsageError where another one does.
    """
    return one_writer(make_folder(folder), advice="wait for its end")


def newest_run() -> Path:
    """The newest finished run below the working directory. Raises TrainingError when there is none."""
    finished = sorted(RUNS.glob("*/summary.json"), key=lambda path: path.stat().st_mtime)
    if not finished:
        raise TrainingError("There is no finished run in ./runs: run `rstpm-edge train DATA` first, or name a RUN.")
    return finished[-1].parent


def save_samples(folder: Path, files: Sequence[Path]) -> None:
    """Copy a few held-out images into the run, so that it can be exported without its data. Raises OutputError."""
    samples = make_folder(folder / "samples", below=folder)
    names = [path.name for path in files[:SAMPLES]]
    for number, path in enumerate(files[:SAMPLES]):
        name = path.name if names.count(path.name) == 1 else f"{number}_{path.name}"  # photos of several folders
        write_bytes(samples / name, path.read_bytes(), below=folder)
