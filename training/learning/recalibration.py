"""A run that was calibrated again, without held-out photos in which a person has confirmed a defect: what it keeps.

`calibration.json` holds what takes the place of fields of the summary, and who did what when. `summary.json` stays as
the training wrote it.
"""

import contextlib
import fcntl
import getpass
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from rstpm_edge.atomic_files import write_json
from rstpm_edge.errors import OutputError, TrainingError

from .run_documents import CALIBRATE_AGAIN, SCHEMA, read_json, schema_version
from .run_summary import Summary

FILE = "calibration.json"
LOCK = "calibration.lock"
# Of a summary, what is found again.
AGAIN = (
    "fusion",
    "calibration",
    "highest",
    "score_fusion",
    "synthetic_scores",
    "defective",
    "sessions",
    "session_rule",
    "novelty",
)


@dataclass(frozen=True)
class Step:
    """One decision: when (UTC), by whom, all photos that count as defective from then on, the rule for sessions, and
    the threshold with its rate."""

    time: str
    user: str | None
    defective: tuple[str, ...]
    sessions: str | None
    threshold: float
    alpha: float


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Wait until no other process changes the calibration of a run, and let none until the end of the block.

    Where the file system has no locks, nothing is waited for. Raises OutputError where the folder cannot be written to.
    """
    path, flags = folder / LOCK, os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        try:  # for writing, as a lock over the network needs it
            file = os.open(path, flags | os.O_RDWR | os.O_CREAT, 0o666)
        except PermissionError:
            if not path.exists():
                raise
            file = os.open(path, flags | os.O_RDONLY)  # another user's
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror or error}.") from error
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def step_now(summary: Summary) -> Step:
    """The decision that a summary stands for, by whoever runs this."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # an account without a name, as in containers
        user = None
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    calibration = summary.calibration
    return Step(now, user, summary.defective, summary.session_rule, calibration.threshold, calibration.alpha)


def load_steps(folder: Path) -> tuple[Step, ...]:
    """All decisions on a run, the first one first; none where it is as it was trained. Raises TrainingError."""
    path = folder / FILE
    if not path.exists():
        return ()
    content = read_json(path, f"{path} is gone", CALIBRATE_AGAIN)
    try:
        schema_version(content, folder)
        return tuple(
            Step(
                str(one["time"]),
                None if one["user"] is None else str(one["user"]),
                tuple(map(str, one["defective"])),
                None if one["sessions"] is None else str(one["sessions"]),
                float(one["threshold"]),
                float(one["alpha"]),
            )
            for one in content["history"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"{path} is damaged ({error}); {CALIBRATE_AGAIN}.") from error


def save_again(folder: Path, summary: Summary, *, as_trained: bool = False) -> None:
    """Let the calibration in `summary` hold from now on, and add it to the history. `as_trained`: it is the training's.

    What `summary` follows from was read in the same block of `one_at_a_time`. Raises OutputError, and TrainingError for
    a damaged history.
    """
    steps = [*load_steps(folder), step_now(summary)]
    found = asdict(summary)
    content = {
        **SCHEMA,
        "summary": None if as_trained else {name: found[name] for name in AGAIN},
        "history": [asdict(step) for step in steps],
    }
    write_json(folder / FILE, content, below=folder)
