"""A line: images come from a source, one after the other, and each gets a verdict."""

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import cv2

from rstpm_edge.errors import ImageError, InvalidImageError, ModelError, RstpmEdgeError, SourceError, UsageError
from rstpm_edge.outputs.verdict_json import failure_fields, verdict_fields
from rstpm_edge.result import Result
from rstpm_edge.sources.file_state import WatchedFile
from rstpm_edge.sources.frames import Failure, Frame, Source, SourceReport
from rstpm_edge.sources.live import Live
from rstpm_edge.station.drift_file import DriftFile
from rstpm_edge.station.event import Inspection
from rstpm_edge.station.feed import Feed
from rstpm_edge.station.line_drift import FirstDrift, LineDrift
from rstpm_edge.station.line_state import Condition, LineState
from rstpm_edge.station.product import Product, ProductName
from rstpm_edge.station.products import Products

OpenSource: TypeAlias = Callable[[SourceReport], Source]
# In the block, whoever is told hears of a verdict that the journal has.
Journalled: TypeAlias = Callable[[WatchedFile, Mapping[str, Any], str], contextlib.AbstractContextManager[None]]

FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds before a source that cannot be opened is tried again; doubled each time
TICK = 0.2  # seconds between two looks at whether a line that is paused goes on


class Line:
    """Runs in a thread of its own from `start` to `stop`.

    name: of the line, the `origin` of what it publishes. source: what it is called for people. open_source: opens it;
    one that cannot be opened, or is lost for good, is tried again and again. product: what is judged at first; its
    model must be one that can be loaded. reactions: called with the fields of each verdict before it is published, as
    those of `infer`. first_drift: the state of a test for drift (`rstpm_edge.drift`) before the first image of a model;
    None makes no test.
    drift_file: keeps what is known of drift; another product and another file begin anew in it.
    tell_drift: gets what is known of drift, at the start and when that changes. tell_source: gets False when the source
    is lost, and True when it is back. journal: `Journal.entry` of that of a watched folder. keep_photos: whether
    what is published holds the photo. report: gets sentences for people.

    Raises what `Products.pin` and `first_drift` do.
    """

    def __init__(
        self,
        name: str,
        source: str,
        open_source: OpenSource,
        products: Products,
        product: ProductName,
        feed: Feed,
        *,
        reactions: Sequence[Callable[[Mapping[str, Any]], None]] = (),
        first_drift: FirstDrift | None = None,
        drift_file: DriftFile | None = None,
        tell_drift: Callable[[Mapping[str, Any]], None] = lambda fields: None,
        keep_photos: bool = True,
        journal: Journalled | None = None,
        report: Callable[[str], None] = lambda sentence: None,
        tell_source: Callable[[bool], None] = lambda there: None,
    ) -> None:
        self.name = name
        self._source_name, self._open, self._products, self._feed = source, open_source, products, feed
        self._reactions, self._keep_photos = tuple(reactions), keep_photos
        self._report, self._tell_source = report, tell_source
        self._journal = journal
        self._product = products.pin(product)
        self._drift = LineDrift(name, self._product, first_drift, drift_file, tell=tell_drift, report=report)
        self._select = threading.Lock()
        self._there: bool | None = None  # not known yet
        self._condition: Condition = "starting"
        self._problem: str | None = None
        self._paused = False
        self._images = self._dropped = self._damaged = 0
        self._beat = time.monotonic()
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=f"line {name}", daemon=True)

    @property
    def state(self) -> LineState:
        """What it does now."""
        condition: Condition = self._condition
        if condition == "running":
            condition = "paused" if self._paused else "running" if self._there else "no source"
        return LineState(
            self.name,
            self._source_name,
            condition,
            self._problem,
            self._product.name,
            self._product.detector.sha256,
            self._images,
            self._dropped,
            self._damaged,
            self._drift.state,
            self._beat,
        )

    @property
    def products(self) -> Products:
        """What it may judge with: the station's products, or its own copies of them, which judge by its own options."""
        return self._products

    def start(self) -> None:
        """Begin to judge."""
        self._thread.start()

    def pause(self) -> None:
        """Take no more images after the one under way: files wait, a camera's frames are dropped."""
        self._paused = True

    def resume(self) -> None:
        """Go on judging."""
        self._paused = False
        self._wake.set()

    def select(self, product: ProductName) -> None:
        """Judge with another product from the next image on; the one before judges until it is loaded.

        Raises what `Products.pin` and `first_drift` do; the line then goes on as before.
        """
        with self._select:
            new = self._products.pin(product)
            if new is self._product:  # nothing is another one, and what is known of drift stays
                self._products.unpin(new)
                return
            try:
                drift = self._drift.before(new)
            except RstpmEdgeError:
                self._products.unpin(new)
                raise
            self._drift.begin(drift, new)  # first: the next image may be under way at once
            before, self._product = self._product, new
            self._products.unpin(before)

    def stop(self, timeout: float = 15.0) -> None:
        """End after the image under way; waits so many seconds for it."""
        self._stopped = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        self._drift.keep(at_once=True)

    def _run(self) -> None:
        wait = FIRST_WAIT
        while not self._stopped:
            source = None
            try:
                source = self._open(self._told)
                self._found(True, None)
                self._condition, wait = "running", FIRST_WAIT
                self._take_all(source)
                if not self._stopped:
                    self._condition = "ended"
                    return
            except SourceError as error:
                # What the grabbing thread raised, and is no fault of the source, is one of ours: it is not tried again.
                cause = error.__cause__
                if isinstance(cause, Exception) and not isinstance(cause, (OSError, cv2.error, RstpmEdgeError)):
                    raise cause from error
                if str(error) != self._problem:
                    self._report(str(error))
                self._condition = "running"
                self._found(False, str(error))
                wait = self._pause_before_retry(wait)
            finally:
                if source is not None:
                    source.close()
        self._condition = "stopped"

    def _take_all(self, source: Source) -> None:
        for item in source:
            self._beat = time.monotonic()
            if self._paused and isinstance(item, Frame) and item.dropped is not None:
                item = None  # of a camera: what it shows is over once the line goes on
            elif item is not None:  # a file that came in the moment of the pause waits; a stop lets it be judged
                self._wait_while_paused()
            if isinstance(item, Frame):
                self._judge(item)
            elif isinstance(item, Failure):
                self._publish(failure_fields(item), self._product, item.file)
            if not isinstance(source, Live):  # it keeps its newest frame for whoever waits, until long after its part
                self._wait_while_paused()
            if self._stopped:
                return

    def _wait_while_paused(self) -> None:
        while self._paused and not self._stopped:
            self._beat = time.monotonic()
            self._wake.wait(TICK)
            self._wake.clear()

    def _judge(self, frame: Frame) -> None:
        product, start = self._product, time.perf_counter()
        self._dropped, self._damaged = frame.dropped or 0, frame.damaged or 0
        try:
            result = product.detector(frame.image)
        except InvalidImageError as error:
            failure = self._failure(frame, error, str(error))
            self._publish(failure_fields(failure), product, frame.file, frame)
            return
        except (ImageError, ModelError, UsageError) as error:
            # A fault of the model, the device or an option is no verdict on the file: it has one after a restart.
            file = frame.file if isinstance(error, ImageError) else None
            self._publish(failure_fields(self._failure(frame, error)), product, file, frame)
            return
        judged = time.perf_counter() - start
        drift = self._drift.update(product, result)
        fields = verdict_fields(frame, result, frame.read_ms + judged * 1000, drift)
        self._publish(fields, product, frame.file, frame, result, {"read": frame.read_ms / 1000, "judge": judged})
        self._drift.keep()  # after all that waits for the verdict

    def _failure(self, frame: Frame, error: RstpmEdgeError, invalid_reason: str | None = None) -> Failure:
        message = f"Cannot judge {frame.source}: {error}"
        return Failure(frame.source, message, frame.number, invalid_reason=invalid_reason)

    def _publish(
        self,
        fields: Mapping[str, Any],
        product: Product,
        file: WatchedFile | None,
        frame: Frame | None = None,
        result: Result | None = None,
        seconds: Mapping[str, float] | None = None,
    ) -> None:
        self._images += 1
        photo = frame.image if frame is not None and self._keep_photos else None
        name = product.name
        inspection = Inspection(time.time(), self.name, name.name, name.version, fields, result, photo, seconds or {})
        sha256 = fields.get("model_sha256", product.detector.sha256)
        with contextlib.nullcontext() if self._journal is None or file is None else self._journal(file, fields, sha256):
            for react in self._reactions:  # before anything else: the part moves on
                react(fields)
            self._feed.publish(inspection)

    def _told(self, sentence: str, there: bool) -> None:
        self._report(sentence)
        self._found(there, None if there else sentence)

    def _found(self, there: bool, problem: str | None) -> None:
        if there != self._there and not (there and self._there is None):  # one that is there at first is no news
            self._tell_source(there)
        self._there, self._problem = there, problem

    def _pause_before_retry(self, wait: float) -> float:
        until = time.monotonic() + wait
        while not self._stopped and time.monotonic() < until:
            self._beat = time.monotonic()
            self._wake.wait(TICK)
            self._wake.clear()
        return min(2 * wait, LONGEST_WAIT)
