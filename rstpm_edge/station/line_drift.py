"""Whether the images of a line still come from where its model was calibrated, through all models that it takes."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from rstpm_edge.drift import DriftState
from rstpm_edge.errors import UsageError
from rstpm_edge.model.metadata import Bundle
from rstpm_edge.result import Result
from rstpm_edge.station.drift_file import DriftFile
from rstpm_edge.station.product import Product

FirstDrift: TypeAlias = Callable[[Bundle], DriftState]


@dataclass(frozen=True)
class _Before:
    """What was known with the model before, and how often its product had been rolled back when that was left."""

    model: str
    state: DriftState | None
    rollbacks: int


class LineDrift:
    """The test for drift of the line `name`. Another product, or another file in its place, begins it anew; a file that
    is rolled back to goes on where it was. One thread judges, while another one may begin with another product.

    first: the state before the first image of a model; None makes no test. file: keeps what is known. tell: gets that,
    at the start and when it changes. report: gets sentences for people.

    Raises what `first` and `DriftFile.load` do.
    """

    def __init__(
        self,
        name: str,
        product: Product,
        first: FirstDrift | None,
        file: DriftFile | None,
        *,
        tell: Callable[[Mapping[str, Any]], None],
        report: Callable[[str], None],
    ) -> None:
        self._name, self._first, self._file, self._tell, self._report = name, first, file, tell, report
        self._product, self._model = product, product.detector.sha256
        self._before: _Before | None = None
        self._lock = threading.Lock()
        self._state = self.before(product)
        if file is not None and self._state is not None:
            self._state = file.load(self._state, self._model)
        self._told()

    @property
    def state(self) -> DriftState | None:
        """What is known; None where it is not watched."""
        return self._state

    def before(self, product: Product) -> DriftState | None:
        """The state before the first image of a product. Raises UsageError where its drift cannot be watched."""
        return None if self._first is None else self._first(product.detector.info)

    def begin(self, state: DriftState | None, product: Product) -> None:
        """Go on with what `before` gave: the line judges with this product from now on."""
        with self._lock:
            self._product, self._model = product, product.detector.sha256
            self._state, self._before = state, None
            self._told()

    def update(self, product: Product, result: Result) -> str | None:
        """Take one more result, unless it is of a product before; gives what is known by it, for the verdict."""
        with self._lock:
            if product is self._product and self._first is not None:
                self._take(product, result)
            return None if self._state is None else self._state.drift

    def keep(self, *, at_once: bool = False) -> None:
        """Write what is known into the file, where it is time for that, or at once."""
        with self._lock:
            state, model = self._state, self._model
        if self._file is not None and state is not None:
            (self._file.save if at_once else self._file.keep)(state, model)

    def _take(self, product: Product, result: Result) -> None:
        sha256 = result.model_sha256 or ""
        if sha256 != self._model:  # another file took the place: its p-values are other ones
            if sha256 != product.detector.sha256:
                return  # and has lost it again
            self._follow(product, sha256)
        before = self._state
        if before is None or result.verdict == "invalid":
            return
        state = self._state = before.update(result.p_value, result.light_p_value)
        if state.drift != before.drift:
            by = " (light)" if state.cause == "light" else ""
            self._report(f"Drift of {self._name}, after {state.images} images: {state.drift}{by}.")
            self._told()

    def _follow(self, product: Product, sha256: str) -> None:
        left, rollbacks = self._before, product.outcomes["rolled back"]
        self._before = _Before(self._model, self._state, rollbacks)
        self._model = sha256
        if left is not None and left.model == sha256 and left.state is not None and left.rollbacks < rollbacks:
            self._state = left.state
            self._told()
            return
        try:
            self._state = self.before(product)
        except UsageError as error:  # such as one with a mask: parts are judged all the same
            self._report(f"The drift of {self._name} is not watched any more: {error}")
            self._state = None
        else:
            self._told()

    def _told(self) -> None:
        if self._state is not None:
            fields = ("drift", "cause", "alarm_at", "images", "false_alarm_rate")
            self._tell({name: getattr(self._state, name) for name in fields})
