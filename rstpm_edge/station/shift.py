"""How many parts of which kind since the shift began."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rstpm_edge.station.event import Inspection

VERDICTS = ("normal", "anomalous", "invalid", "failed")


@dataclass(frozen=True)
class ShiftCounts:
    """`since` is when the shift began, in seconds since 1970; `counts` are by origin, product and verdict."""

    since: float
    counts: Mapping[tuple[str, str, str], int]

    def total(self, origin: str | None = None, product: str | None = None) -> dict[str, int]:
        """By verdict: all, or those of an origin or of a product."""
        found = dict.fromkeys(VERDICTS, 0)
        for (of_origin, of_product, verdict), number in self.counts.items():
            if origin in (None, of_origin) and product in (None, of_product):
                found[verdict] += number
        return found


class Shift:
    """A tap of the feed that counts. now: seconds since 1970."""

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._since = now()
        self._counts: Counter[tuple[str, str, str]] = Counter()

    def add(self, inspection: Inspection) -> None:
        """Count one more."""
        with self._lock:
            self._counts[inspection.origin, inspection.product, inspection.verdict] += 1

    def counts(self) -> ShiftCounts:
        """What was counted so far."""
        with self._lock:
            return ShiftCounts(self._since, dict(self._counts))

    def begin(self) -> ShiftCounts:
        """Begin a new shift; gives the counts of the one that ends."""
        with self._lock:
            ended = ShiftCounts(self._since, dict(self._counts))
            self._since, self._counts = self._now(), Counter()
        return ended
