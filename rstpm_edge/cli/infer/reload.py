"""`infer --reload`: a new model takes the place of the one that judges, between two images, or is refused."""

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from rstpm_edge.cli.infer.drift_watch import DriftWatch
from rstpm_edge.cli.line.drift import first_state
from rstpm_edge.cli.signals import Hangups
from rstpm_edge.cli.systemd import Service
from rstpm_edge.cli.terminal import as_typed, counted, say_error, say_note
from rstpm_edge.errors import ModelError, RstpmEdgeError
from rstpm_edge.loaded_model import LoadedModel
from rstpm_edge.model.signature import signature_file
from rstpm_edge.model_watch import ModelWatch, State, state_of

if TYPE_CHECKING:
    from rstpm_edge.cli.infer.followed import Followed
    from rstpm_edge.cli.infer.options import InferOptions
    from rstpm_edge.detector import Detector
    from rstpm_edge.outputs.audit_log import AuditLog


class Reload:
    """Everything happens in the thread that judges, but loading.

    facts: what the audit log says of what judges.
    """

    def __init__(
        self,
        detector: "Detector",
        watch: ModelWatch,
        hangups: Hangups,
        options: "InferOptions",
        *,
        drift: DriftWatch | None,
        audit_log: "AuditLog | None",
        facts: Callable[[], Mapping[str, Any]],
        followed: "Followed | None",
    ) -> None:
        self._followed = followed
        self._detector, self._watch, self._hangups, self._options = detector, watch, hangups, options
        self._drift, self._audit_log, self._facts = drift, audit_log, facts
        self._asked = False
        self._counts: Counter[str] = Counter()

    def between_images(self, service: Service) -> None:
        """Take a model that has been loaded since the last call, if any."""
        if self._hangups.taken():
            service.reloading()
            if self._followed is not None:
                self._followed.ask()
            self._asked = True
            self._watch.ask()
        outcome = self._watch.take()
        if outcome is None:
            return
        if isinstance(outcome, RstpmEdgeError):
            self._refuse(outcome)
        else:
            self._take(outcome)
        if self._asked:
            service.ready()
        self._asked = False

    def note(self) -> str:
        """For the summary; empty where nothing happened."""
        return ", ".join(f"{counted(number, 'new model')} {what}" for what, number in self._counts.items())

    def _take(self, new: LoadedModel) -> None:
        before = self._detector.sha256
        try:
            state = None if self._drift is None else first_state(self._options, new.bundle)
            taken = self._detector.swap(new, on_rollback=self._roll_back)
        except RstpmEdgeError as error:
            self._refuse(error)
            return
        if not taken:
            if self._asked:
                say_note(f"{self._name(new.sha256)} is the one that judges already.")
            return
        self._counts["taken"] += 1
        changed = "has changed, and judges" if self._followed is None else "is live, and judges"
        say_note(f"{self._name(new.sha256)} {changed} from now on: {_short(before, new.sha256)}.")
        if self._drift is not None and state is not None:
            self._drift.begin_anew(state, new.sha256)
        if self._audit_log is not None:
            self._audit_log.swap(self._facts())

    def _name(self, sha256: str) -> str:
        return f"The model {self._options.model}" if self._followed is None else self._followed.name(sha256)

    def _refuse(self, error: RstpmEdgeError) -> None:
        self._counts["refused"] += 1
        say_error(f"{error} The model before goes on judging.")
        if self._audit_log is not None:
            self._audit_log.refuse_swap(self._facts(), as_typed(str(error)))

    def _roll_back(self, error: ModelError) -> None:
        self._counts["rolled back"] += 1
        say_error(error)
        if self._drift is not None:
            self._drift.go_back()
        if self._audit_log is not None:
            self._audit_log.roll_back(self._facts(), as_typed(str(error)))


def open_reload(
    options: "InferOptions",
    before: State,
    detector: "Detector",
    stack: contextlib.ExitStack,
    *,
    drift: DriftWatch | None,
    audit_log: "AuditLog | None",
    facts: Callable[[], Mapping[str, Any]],
    followed: "Followed | None" = None,
    follow: bool = False,
) -> Reload | None:
    """What was asked for, until the end of `stack`; `before` is what `model_state` said before the model was loaded.

    followed: the product whose live version is taken, in the place of the file; follow: whether without being asked to.
    """
    if not options.reload and not follow:
        return None
    hangups = stack.enter_context(Hangups())
    load: Callable[[], LoadedModel | None] = partial(detector.prepare, options.model)
    if followed is not None:
        load = partial(followed.load, detector)
    files = _files(options) if followed is None else followed.files
    watch = stack.enter_context(ModelWatch(load, files, before))
    return Reload(detector, watch, hangups, options, drift=drift, audit_log=audit_log, facts=facts, followed=followed)


def model_state(options: "InferOptions") -> State:
    """By what a change of the model's files is noticed."""
    return state_of(_files(options))


def _files(options: "InferOptions") -> "list[Any]":
    return [options.model] if options.public_key is None else [options.model, signature_file(options.model)]


def _short(before: str, now: str) -> str:
    return f"SHA-256 {now[:12]}…, before {before[:12]}…"
