"""Verdicts on their way to whoever wants them. Nobody who is slow holds up the line."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from rstpm_edge.station.closing import Closing
from rstpm_edge.station.event import Inspection

Tap: TypeAlias = Callable[[Inspection], None]


class Subscription(Closing):
    """The verdicts since it began, for one reader; made by `Feed.subscribe`.

    Where the reader is slower than the line, the oldest ones are dropped and counted: what is new matters more.
    """

    def __init__(
        self, feed: "Feed", name: str, room: int, wake: Callable[[], None] | None, lasting: bool = False
    ) -> None:
        self.name, self.lasting = name, lasting
        self.dropped = 0
        self._feed = feed
        self._wake = wake
        self._queue: deque[Inspection] = deque(maxlen=room)
        self._ready = threading.Condition()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether nothing will come any more."""
        return self._closed

    def get(self, timeout: float | None = None) -> Inspection | None:
        """The next one; None after `timeout` seconds without any, and once the station stops."""
        with self._ready:
            self._ready.wait_for(lambda: self._queue or self._closed, timeout)
            return self._queue.popleft() if self._queue else None

    def pending(self) -> list[Inspection]:
        """All that wait, without waiting for more."""
        with self._ready:
            found = list(self._queue)
            self._queue.clear()
        return found

    def close(self) -> None:
        """Read no more."""
        self._feed.forget(self)
        self.end()

    def put(self, inspection: Inspection) -> bool:
        """Take one more; whether another one was dropped for it. The feed calls this."""
        with self._ready:
            full = len(self._queue) == self._queue.maxlen
            self.dropped += full
            self._queue.append(inspection)
            self._ready.notify()
        if self._wake is not None:
            self._wake()
        return full

    def end(self) -> None:
        """Nothing will come any more. The feed calls this."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()
        if self._wake is not None:
            self._wake()


class Feed:
    """Numbers verdicts and hands them out, in one order for everybody.

    taps: called one after the other in the thread that judges, before anybody else hears of it. They must be quick, and
    must not raise. now: seconds since 1970.
    """

    def __init__(self, taps: Sequence[Tap] = (), *, now: Callable[[], float] = time.time) -> None:
        self._taps = list(taps)
        self._now = now
        self._lock = threading.Lock()
        self._last = 0
        self._subscriptions: list[Subscription] = []
        self._dropped: Counter[str] = Counter()
        self._closed = False

    @property
    def dropped(self) -> dict[str, int]:
        """How many verdicts each subscriber was too slow for, by its name."""
        with self._lock:
            return dict(self._dropped)

    @property
    def subscribers(self) -> int:
        """How many read now."""
        return len(self._subscriptions)

    @property
    def newest(self) -> int:
        """The highest number so far; 0 where none is known."""
        with self._lock:
            return self._last

    def tap(self, tap: Tap) -> None:
        """Call this with each verdict from now on, as those that were given at the start."""
        with self._lock:
            self._taps.append(tap)

    def go_on_from(self, number: int) -> None:
        """Number what comes higher than this, also where the clock was set back since that was given."""
        with self._lock:
            self._last = max(self._last, number)

    def publish(self, inspection: Inspection) -> Inspection:
        """Give it its number, and hand it out; gives what was handed out."""
        with self._lock:
            self._last = max(self._last + 1, int(self._now() * 1000))  # so it grows across restarts, too
            numbered = replace(inspection, id=self._last)
            for tap in self._taps:
                tap(numbered)
            for subscription in self._subscriptions:
                if subscription.put(numbered):
                    self._dropped[subscription.name] += 1
        return numbered

    def subscribe(
        self, name: str, *, room: int = 100, wake: Callable[[], None] | None = None, lasting: bool = False
    ) -> Subscription:
        """Read from now on; at most `room` of them wait. `wake` is called, from another thread, when one has come.

        `name` is for the count of what was dropped; several readers may share one.
        One that is `lasting` goes on after `end_readers`: something of the station itself.
        """
        subscription = Subscription(self, name, room, wake, lasting)
        with self._lock:
            if self._closed:
                subscription.end()
            else:
                self._subscriptions.append(subscription)
                self._dropped.setdefault(name, 0)
        return subscription

    def forget(self, subscription: Subscription) -> None:
        """Hand nothing out to it any more."""
        with self._lock:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)

    def close(self) -> None:
        """Nothing will come any more: wakes whoever waits."""
        self._end(lambda subscription: True)

    def end_readers(self) -> None:
        """The station is about to stop: nothing will come for those who read, but for the lasting ones."""
        self._end(lambda subscription: not subscription.lasting)

    def _end(self, whom: Callable[[Subscription], bool]) -> None:
        with self._lock:
            self._closed = True
            ended = [one for one in self._subscriptions if whom(one)]
            self._subscriptions = [one for one in self._subscriptions if not whom(one)]
        for subscription in ended:
            subscription.end()
