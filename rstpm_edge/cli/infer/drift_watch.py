"""`infer --drift`: what is known of drift after each image, told once, and kept across restarts."""

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rstpm_edge.atomic_files import check_writable
from rstpm_edge.cli.line.drift import first_state
from rstpm_edge.cli.terminal import counted, percent, say_note
from rstpm_edge.drift import Drift, DriftState
from rstpm_edge.errors import OutputError
from rstpm_edge.outputs.drift_file import load_drift, save_drift

if TYPE_CHECKING:
    from rstpm_edge.cli.infer.options import InferOptions
    from rstpm_edge.cli.line.source import InspectionPlan
    from rstpm_edge.detector import Detector

INTERVAL = 60.0  # seconds between two writes of the state: each is synced, which wears memory cards

_WHAT: Mapping[Drift, str] = {
    "stable": "no drift",
    "more defects": "more photos are anomalous than before, while normal ones score as they did",
    "scene changed": "the scene changed, since photos of all kinds score otherwise than they did",
}
_TO_DO: Mapping[Drift, str] = {
    "stable": "",
    "more defects": "Look at the rejects",
    "scene changed": "Look at light, lens, camera and product, and whether the verdicts still hold",
}


_LIGHT = "the scene changed, since photos are brighter, or darker, than they were, though they score as they did"


def _what(state: DriftState) -> str:
    return _LIGHT if state.cause == "light" else _WHAT[state.drift]


class DriftWatch:
    """Takes p-values; `tell` gets what is known of drift, at the start and whenever it changes.

    keep: the file that holds the state, and the SHA-256 of the model that it is of; None keeps nothing.
    keep_going: a state that cannot be written is told once, and counted in `lost`; otherwise that raises OutputError.
    now: seconds, for the interval between two writes.
    """

    def __init__(
        self,
        state: DriftState,
        tell: Callable[[Mapping[str, Any]], None],
        keep: tuple[Path, str] | None = None,
        *,
        keep_going: bool = False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lost = 0
        self._state, self._tell, self._keep, self._keep_going, self._now = state, tell, keep, keep_going, now
        self._before = state, keep  # those of the model that judges again after a rollback
        self._untried = False  # a new model that has judged nothing yet
        self._kept = now()
        self._in_trouble = False
        if keep is not None and state.drift != "stable":
            say_note(
                f"Drift: {keep[0]} says since image {state.alarm_at}: {_what(state)}. Remove that file when the "
                "cause is, to begin anew."
            )
        tell(self._fields())

    def take(self, p_value: float | None, light_p_value: float | None = None) -> Drift:
        """What is known of drift with one more image; None for one that says nothing of the parts."""
        self._untried = False
        if p_value is None:
            return self._state.drift
        before, self._state = self._state, self._state.update(p_value, light_p_value)
        state = self._state
        if state.drift != before.drift:
            chance = percent(state.false_alarm_rate)
            say_note(
                f"Drift, after {counted(state.images, 'image')}: {_what(state)}. {_TO_DO[state.drift]}. (A false "
                f"alarm has a probability of at most {chance} in a whole run.)"
            )
            self._tell(self._fields())
        if state.drift != before.drift or self._now() - self._kept >= INTERVAL:
            self._save()
        return state.drift

    def begin_anew(self, state: DriftState, model_sha256: str) -> None:
        """Another model judges from now on: its p-values say nothing of how the one before scored."""
        if not self._untried:  # one that is untried is nothing to go back to: see `ModelSlot.put`
            self._before = self._state, self._keep
        self._untried = True
        say_note(
            f"Drift: begins anew with the new model. With the one before, after "
            f"{counted(self._state.images, 'image')}: {_what(self._state)}."
        )
        self._go_on(state, None if self._keep is None else (self._keep[0], model_sha256))

    def go_back(self) -> None:
        """The model before judges again."""
        self._go_on(*self._before)

    def note(self) -> str:
        """For the summary."""
        alarm = "" if self._state.drift == "stable" else f" since image {self._state.alarm_at}"
        lost = f", {counted(self.lost, 'state')} not written" if self.lost else ""
        return f"drift: {self._state.drift}{alarm}{lost}"

    def __enter__(self) -> "DriftWatch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._save()
        except OutputError:
            if kind is None:
                raise

    def _go_on(self, state: DriftState, keep: tuple[Path, str] | None) -> None:
        self._state, self._keep = state, keep
        self._tell(self._fields())
        self._save()

    def _fields(self) -> dict[str, Any]:
        state = self._state
        return {
            "drift": state.drift,
            "cause": state.cause,
            "alarm_at": state.alarm_at,
            "images": state.images,
            "false_alarm_rate": state.false_alarm_rate,
        }

    def _save(self) -> None:
        if self._keep is None:
            return
        path, sha256 = self._keep
        self._kept = self._now()
        try:
            save_drift(path, self._state, sha256)
        except OutputError as error:
            if not self._keep_going:
                raise
            self.lost += 1
            if not self._in_trouble:
                say_note(f"{error} Judging goes on without.")
            self._in_trouble = True
        else:
            if self._in_trouble:
                say_note(f"{path} can be written again.")
            self._in_trouble = False


def watch_drift(
    options: "InferOptions",
    plan: "InspectionPlan",
    detector: "Detector",
    stack: contextlib.ExitStack,
    tell: Callable[[Mapping[str, Any]], None],
) -> DriftWatch | None:
    """The watch that was asked for, until the end of `stack`.

    Raises UsageError, also where images are judged otherwise than the held-out ones were, and OutputError.
    """
    if options.drift is None:
        return None
    state = first_state(options, detector.info)
    keep = None
    if options.drift_state is not None:
        state = load_drift(options.drift_state, state, detector.sha256)
        check_writable(options.drift_state)
        keep = options.drift_state, detector.sha256
    return stack.enter_context(DriftWatch(state, tell, keep, keep_going=not plan.has_end))
