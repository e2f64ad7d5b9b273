"""A model file that has changed, loaded in a thread while another model judges."""

import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

from rstpm_edge.errors import ModelError, RstpmEdgeError
from rstpm_edge.loaded_model import LoadedModel
from rstpm_edge.unexpected import sentence

POLL = 0.2  # seconds; asked rather than notified, since network folders notify of nothing
SETTLED = 2.0  # seconds without a change after which a file may be whole, and its signature be there
CLOSING = 10.0  # seconds at the end for a model that is being loaded

State: TypeAlias = "tuple[tuple[int, int, int] | None, ...]"


class Change:
    """Whether files are another state than the one that is `known`, and have been in it for long enough to be whole."""

    def __init__(self, known: State, now: float) -> None:
        self._known = self._last = known
        self._since = now

    def settled(self, state: State, now: float) -> bool:
        """Whether to load them, by their state at a time, in seconds; ask again and again."""
        if state != self._last:
            self._last, self._since = state, now
        return state != self._known and now - self._since >= SETTLED

    def take(self) -> None:
        """What was there last is known from now on."""
        self._known = self._last


class ModelWatch:
    """Calls `load` when one of `files` has changed since `before`, what `state_of` said of them, and when it is asked.

    `load` may raise, which `take` gives in the place of a model, or give None where there is nothing to take. `now` is
    in seconds, for a file to settle.
    """

    def __init__(
        self,
        load: Callable[[], LoadedModel | None],
        files: Sequence[Path],
        before: State,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load, self._files, self._now = load, files, now
        self._before = before
        self._asked = False
        self._stopped = threading.Event()
        self._outcomes: queue.SimpleQueue[LoadedModel | RstpmEdgeError] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="model watch", daemon=True)

    def ask(self) -> None:
        """Load the model, whether it has changed or not, and however little time ago."""
        self._asked = True

    def take(self) -> LoadedModel | RstpmEdgeError | None:
        """What has been loaded since the last call, or why not; None where nothing was."""
        try:
            return self._outcomes.get_nowait()
        except queue.Empty:
            return None

    def __enter__(self) -> "ModelWatch":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join(CLOSING)

    def _run(self) -> None:
        change = Change(self._before, self._now())
        while not self._stopped.wait(POLL):
            asked, self._asked = self._asked, False
            settled = change.settled(state_of(self._files), self._now())
            if asked or settled:
                change.take()
                outcome = self._outcome()
                if outcome is not None:
                    self._outcomes.put(outcome)

    def _outcome(self) -> LoadedModel | RstpmEdgeError | None:
        try:
            return self._load()
        except RstpmEdgeError as error:
            return error
        except Exception as error:  # a fault of ours, or no memory: no reason to stop judging
            return ModelError(sentence(error))


def state_of(files: Sequence[Path]) -> State:
    """What tells whether files are the same: of each its inode, size and time stamp, and None where there is none."""
    return tuple(map(_state, files))


def _state(file: Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
