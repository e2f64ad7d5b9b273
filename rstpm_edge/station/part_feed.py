"""Listens to the lines of a station, and publishes the verdict of each part that several of them see."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rstpm_edge.station.closing import Closing
from rstpm_edge.station.event import Inspection
from rstpm_edge.station.feed import Feed
from rstpm_edge.station.parts import Joiner, Part, PartRule, inspection_of

TICK = 0.05  # seconds between two looks at parts that wait
ROOM = 10_000  # verdicts that may wait: without one of them, a part would not be whole


class PartFeed(Closing):
    """Runs in a thread of its own from `start` to `close`.

    reactions: called with the fields of each part's verdict before it is published. report: gets sentences for people.
    """

    def __init__(
        self,
        feed: Feed,
        rule: PartRule,
        *,
        reactions: Sequence[Callable[[Mapping[str, Any]], None]] = (),
        report: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self.rule = rule
        self._feed, self._reactions, self._report = feed, tuple(reactions), report
        self._joiner, self._lock = Joiner(rule), threading.Lock()
        self._subscription = feed.subscribe("parts", room=ROOM, lasting=True)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="parts", daemon=True)

    @property
    def apart(self) -> str | None:
        """Why nobody knows which pictures belong together; None where that is known."""
        return self._joiner.apart

    def tell_source(self, view: str, there: bool) -> None:
        """A line has lost its source, or has it."""
        with self._lock:
            before = self._joiner.apart
            done = self._joiner.arrive(view) if there else self._joiner.lose(view)
            after = self._joiner.apart
        self._publish(done)
        if before is None and after is not None:
            self._report(f"Parts cannot be judged: {after}")

    def realign(self) -> None:
        """The line is empty: the next picture of each camera is of one part."""
        with self._lock:
            done = self._joiner.realign()
        self._publish(done)
        self._report("The next picture of each camera is of one part.")

    def start(self) -> None:
        """Begin, before the lines do."""
        self._thread.start()

    def close(self) -> None:
        """End, once the lines have; parts that are not whole are told."""
        self._stopped.set()
        self._thread.join(10)
        for view in self._subscription.pending():
            self._take(view)
        self._subscription.close()
        with self._lock:
            done = self._joiner.close("The station was stopped.")
        self._publish(done)

    def __enter__(self) -> "PartFeed":
        self.start()
        return self

    def _run(self) -> None:
        while not self._stopped.is_set() and not self._subscription.closed:
            view = self._subscription.get(TICK)
            while view is not None:
                self._take(view)
                view = self._subscription.get(0)
            with self._lock:
                done = self._joiner.expire(time.monotonic())
            self._publish(done)

    def _take(self, view: Inspection) -> None:
        if view.origin in self.rule.views:
            with self._lock:
                done = self._joiner.add(view, time.monotonic())
            self._publish(done)

    def _publish(self, parts: list[Part]) -> None:
        for part in parts:
            inspection = inspection_of(part, self.rule, time.time())
            for react in self._reactions:  # before anything else: the part moves on
                react(inspection.fields)
            self._feed.publish(inspection)
