"""Versions in shadow of a station: of each product that it judges, the one that the registry names."""

import contextlib
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any

from rstpm_edge.errors import UsageError
from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.registry.registry import Registry
from rstpm_edge.registry.shadow import Shadow
from rstpm_edge.station.closing import Closing
from rstpm_edge.station.event import Inspection
from rstpm_edge.station.product import ProductName
from rstpm_edge.station.products import Products
from rstpm_edge.station.registry_shelf import LIVE

POLL = 0.5  # seconds until a product that is judged for the first time has its shadow


class Shadows(Closing):
    """A tap of the feed that hands images to `Shadow`, one for each product, and never waits for it.

    options: those of the station. share: of the time that each shadow judges, below 1: at 1 the live version would
    wait. leave_out: origins that judge by other options, so that there is nothing to compare. say, tell, finished: as
    of `Shadow`, from threads of their own.

    Raises UsageError.
    """

    def __init__(
        self,
        registry: Registry,
        products: Products,
        options: InferenceOptions,
        *,
        share: float,
        leave_out: Collection[str] = (),
        say: Callable[[str], None],
        tell: Callable[[Mapping[str, Any]], None],
        finished: Callable[[Mapping[str, Any]], None],
    ) -> None:
        if not 0 < share < 1:
            raise UsageError("The share of time for the shadow must be over 0 and below 100%: no line waits for it.")
        self._registry, self._products, self._options, self._share = registry, products, options, share
        self._leave_out = frozenset(leave_out)
        self._say, self._tell, self._finished = say, tell, finished
        self._shadows: dict[str, Shadow] = {}
        self._wanted: set[str] = set()
        self._offering = threading.Lock()  # `Shadow.offer` is for one thread at a time
        self._opened = contextlib.ExitStack()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadows", daemon=True)

    def add(self, inspection: Inspection) -> None:
        """Hand over one more image, or let it go by: the shadow says which."""
        result, photo, name = inspection.result, inspection.photo, inspection.product
        if result is None or photo is None or inspection.origin in self._leave_out:
            return
        shadow = self._shadows.get(name)
        if shadow is None:
            self._wanted.add(name)
            return
        live = self._products.in_memory(ProductName(name, LIVE))
        if live is None or live.detector.sha256 != result.model_sha256:  # another one has just taken its place
            return
        with self._offering:
            shadow.offer(
                str(inspection.fields["path"]),
                photo,
                result,
                typical_score=live.detector.info.calibration.median,
                ms=1000 * inspection.seconds.get("judge", 0.0),
            )

    def document(self) -> list[dict[str, Any]]:
        """Of each product that has a version in shadow: which, and what was found of it so far."""
        found = []
        for name, shadow in sorted(self._shadows.items()):
            state = shadow.state()
            if state is not None:
                number, comparison = state
                found.append({"product": name, "version": number, "share": self._share, **comparison.fields()})
        return found

    def summaries(self) -> list[str]:
        """For the end: what was found of each product, for people."""
        found = {name: shadow.summary() for name, shadow in sorted(self._shadows.items())}
        return [f"{name}: {summary}" for name, summary in found.items() if summary]

    def __enter__(self) -> "Shadows":
        self._thread.start()
        return self

    def close(self) -> None:
        """Judge in shadow no more."""
        self._stopped.set()
        self._thread.join()
        self._opened.close()

    def _run(self) -> None:
        while not self._stopped.wait(POLL):
            for name in [name for name in self._wanted.copy() if name not in self._shadows]:
                shadow = Shadow(
                    self._registry,
                    name,
                    self._options,
                    share=self._share,
                    say=self._say,
                    tell=self._tell,
                    finished=self._finished,
                )
                self._shadows[name] = self._opened.enter_context(shadow)  # loads its model, while others judge
            for shadow in list(self._shadows.values()):
                shadow.between_images()
