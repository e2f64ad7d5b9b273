"""What is known of drift of a line, kept in a file across restarts."""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from rstpm_edge.atomic_files import check_writable
from rstpm_edge.drift import DriftState
from rstpm_edge.errors import OutputError
from rstpm_edge.outputs.drift_file import OtherModelError, load_drift, save_drift

INTERVAL = 60.0  # seconds between two writes: each is synced, which wears memory cards


class DriftFile:
    """Holds the state of the model that a line judges with. One line writes a file.

    Where it cannot be written, judging goes on; `lost` counts that. report: gets sentences. now: seconds, for the
    interval.
    """

    def __init__(
        self,
        path: Path,
        *,
        report: Callable[[str], None] = lambda sentence: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lost = 0
        self._path, self._report, self._now = path, report, now
        self._kept: tuple[str, str] | None = None  # what is known, and the model
        self._kept_at = now()
        self._in_trouble = False

    def load(self, first: DriftState, model_sha256: str) -> DriftState:
        """The state that goes on from the file; `first` where there is none, or where it is of another model.

        The latter file is set aside, as NAME.before: a station may have judged another product when it ended.

        Raises UsageError for a file that is damaged, or has another false-alarm rate; OutputError for one that cannot
        be written.
        """
        try:
            state = load_drift(self._path, first, model_sha256)
        except OtherModelError:
            aside = self._path.with_name(self._path.name + ".before")
            with contextlib.suppress(OSError):
                os.replace(self._path, aside)
                self._report(f"{self._path} is of another model: drift begins anew, and {aside} has what was known.")
            state = first
        check_writable(self._path)
        if state.drift != "stable":
            self._report(
                f"Drift: {self._path} says since image {state.alarm_at}: {state.drift}. Remove that file when the "
                "cause is, to begin anew."
            )
        self._kept = state.drift, model_sha256
        return state

    def keep(self, state: DriftState, model_sha256: str) -> None:
        """Write the state where there is news, another model judges, or the interval is over."""
        if self._kept != (state.drift, model_sha256) or self._now() - self._kept_at >= INTERVAL:
            self.save(state, model_sha256)

    def save(self, state: DriftState, model_sha256: str) -> None:
        """Write it now, whole or not at all."""
        self._kept, self._kept_at = (state.drift, model_sha256), self._now()
        try:
            save_drift(self._path, state, model_sha256)
        except OutputError as error:
            self.lost += 1
            if not self._in_trouble:
                self._report(f"{error} Judging goes on without.")
            self._in_trouble = True
        else:
            if self._in_trouble:
                self._report(f"{self._path} can be written again.")
            self._in_trouble = False
