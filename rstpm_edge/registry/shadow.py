"""The version in shadow: judges some of the images that the live one has judged, in a thread, without effect."""

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from rstpm_edge.errors import RstpmEdgeError, UsageError
from rstpm_edge.loaded_model import LoadedModel, load_model
from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.preprocessor import ImageLike
from rstpm_edge.registry.comparison import Comparison, Judgement
from rstpm_edge.registry.product import Version
from rstpm_edge.registry.registry import Registry, check_loaded
from rstpm_edge.result import Result

LOOK = 2.0  # seconds after which the registry is looked at again
_POLL = 0.1
CLOSING = 10.0  # seconds at the end for an image that is being judged
LOWEST = 19  # the niceness of the thread


@dataclass(frozen=True, eq=False)
class _Offer:
    source: str
    image: ImageLike
    live: Judgement
    live_ms: float


class Shadow:
    """Judges with the product's version in shadow, on one thread of the lowest priority.

    share: of the time, at most, that it judges: after t seconds of work it rests t · (1 / share - 1). While it works or
        rests, images go by and are counted. At 1, `offer` waits instead, and each image is judged.
    options: those of the station; the threshold is always the version's own.
    tell: gets the fields of each image that was compared, from the thread. say: gets sentences.
    finished: gets the fields of each comparison that is over, from `between_images` and at the end.

    Whatever goes wrong, only a sentence comes of it.
    """

    def __init__(
        self,
        registry: Registry,
        product: str,
        options: InferenceOptions,
        *,
        share: float,
        say: Callable[[str], None],
        tell: Callable[[Mapping[str, Any]], None],
        finished: Callable[[Mapping[str, Any]], None],
    ) -> None:
        if not 0 < share <= 1:
            raise UsageError(f"The share of time for the shadow must be over 0 and up to 100%, not {share:g}.")
        self._registry, self._product, self._share = registry, product, share
        self._options = replace(
            options, threads=1, polite=True, threshold=None, verify=False, explain=False, notify=_silent
        )
        self._say, self._tell, self._finished = say, tell, finished
        self._offers: queue.Queue[_Offer] = queue.Queue(maxsize=1)
        self._over: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()
        self._comparison = Comparison()
        self._version: Version | None = None
        self._model: LoadedModel | None = None
        self._state: object = None
        self._trouble = self._last = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def offer(self, source: str, image: ImageLike, result: Result, *, typical_score: float, ms: float) -> None:
        """Give an image that the live version, whose typical good score this is, judged in `ms` milliseconds."""
        if self._model is None:
            return
        offer = _Offer(source, image, Judgement.of(result, typical_score), ms)
        while True:
            try:
                self._offers.put(offer, timeout=_POLL if self._share == 1 else 1e-9)
                return
            except queue.Full:
                if self._share < 1 or not self._thread.is_alive():
                    self._comparison.skipped += 1
                    return

    def between_images(self) -> None:
        """Give comparisons that are over."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._finished(self._over.get_nowait())

    def state(self) -> tuple[int, Comparison] | None:
        """The version that is in shadow, and what was found of it so far; None where none is. For any thread."""
        version, comparison = self._version, self._comparison
        return None if version is None else (version.number, comparison)

    def summary(self) -> str:
        """What was found of the version that is in shadow, or was last; empty where none was."""
        version = self._version
        return self._last if version is None else _summary(version, self._comparison)

    def __enter__(self) -> "Shadow":
        self._look()
        if self._version is None and not self._trouble:
            self._say(f"No version of {self._product} is in shadow yet; it is looked for every {LOOK:.0f} seconds.")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join(CLOSING)
        if not self._thread.is_alive():
            self._end()
        self.between_images()

    def _run(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # for this thread alone, on Linux
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST)
        looked = time.monotonic()
        while True:
            try:
                offer = self._offers.get(timeout=_POLL)
            except queue.Empty:
                if self._stopped.is_set():
                    return
            else:
                start = time.monotonic()
                self._judge(offer)
                if not self._stopped.is_set():
                    self._stopped.wait((time.monotonic() - start) * (1 / self._share - 1))
            if time.monotonic() - looked >= LOOK and not self._stopped.is_set():
                self._look()
                looked = time.monotonic()

    def _judge(self, offer: _Offer) -> None:
        model, version = self._model, self._version
        if model is None or version is None:
            return
        start = time.perf_counter()
        try:
            (result,) = model.judge([offer.image])
        except Exception as error:  # also a fault of ours: the live version must not be held up
            self._comparison.failed += 1
            self._told(f"Version {version.number} in shadow cannot judge {offer.source}: {_why(error)}")
            return
        ms = 1000 * (time.perf_counter() - start)
        shadow = Judgement.of(result, model.bundle.calibration.median)
        self._comparison.take(offer.live, shadow, offer.live_ms, ms)
        self._tell(
            {
                "path": offer.source,
                "product": self._product,
                "shadow_version": version.number,
                "live": {**vars(offer.live), "ms": offer.live_ms},
                "shadow": {**vars(shadow), "ms": ms},
            }
        )

    def _look(self) -> None:
        """Take another version where there is one."""
        try:
            state = _state(self._registry, self._product)
            if state == self._state:
                return
            self._state = state
            wanted = self._registry.product(self._product).in_shadow
            if wanted == self._version or (wanted and self._version and wanted.number == self._version.number):
                return
            self._end()
            if wanted is not None:
                path = self._registry.model_file(wanted.model)
                model = load_model(path, self._options, goldens_if_any=True)
                check_loaded(wanted, model.sha256, path)
                model.warm_up()
                self._version, self._model, self._trouble = wanted, model, ""
                self._say(
                    f"Version {wanted.number} of {self._product} judges in shadow, on one thread for at most "
                    f"{self._share:.3g} of the time, in memory of its own ({wanted.model.size / 1e6:.1f} MB of model)."
                )
        except Exception as error:
            self._told(f"No version of {self._product} judges in shadow: {_why(error)}")

    def _end(self) -> None:
        """Give what was found of the version that was in shadow, and let go of it."""
        version, comparison = self._version, self._comparison
        self._model = self._version = None
        self._comparison = Comparison()
        if version is not None:
            self._last = _summary(version, comparison)
            self._over.put({"product": self._product, "version": version.number, **comparison.fields()})

    def _told(self, sentence: str) -> None:
        if sentence != self._trouble:
            self._trouble = sentence
            self._say(sentence)


def _summary(version: Version, comparison: Comparison) -> str:
    return f"shadow, version {version.number}: {comparison.summary()}"


def _silent(sentence: str) -> None:
    """The live version has told it."""


def _state(registry: Registry, product: str) -> object:
    try:
        status = os.stat(registry.log_file(product))
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, RstpmEdgeError) else f"{type(error).__name__}: {error}"
