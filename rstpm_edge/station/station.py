"""All that a station is made of: what the server shows and steers."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rstpm_edge.errors import UsageError
from rstpm_edge.station.access import Access
from rstpm_edge.station.audit import Record, nobody
from rstpm_edge.station.closing import Closing
from rstpm_edge.station.feed import Feed
from rstpm_edge.station.gate import Gate
from rstpm_edge.station.line import Line
from rstpm_edge.station.metrics import Metrics
from rstpm_edge.station.product import Product
from rstpm_edge.station.products import Products
from rstpm_edge.station.recent import Recent
from rstpm_edge.station.settings import Limits
from rstpm_edge.station.shadows import Shadows
from rstpm_edge.station.shift import Shift


@dataclass(frozen=True, eq=False)
class Station(Closing):
    """Made by `make_station`; ends with `close`. Any thread may use its parts; `gate` is the event loop's.

    `products` judge requests, and all lines but those that have products of their own (`Line.products`).
    `record` gets what somebody had it do, for the audit log. `shadows` judge without effect; None without them.
    """

    products: Products
    feed: Feed
    recent: Recent
    shift: Shift
    lines: Sequence[Line]
    gate: Gate
    limits: Limits
    access: Access
    metrics: Metrics
    report: Callable[[str], None]
    record: Record
    shadows: Shadows | None

    def line(self, name: str | None = None) -> Line:
        """The line of this name; without one, the only line. Raises UsageError where there is none."""
        if name is None and len(self.lines) == 1:
            return self.lines[0]
        for line in self.lines:
            if line.name == name:
                return line
        names = ", ".join(line.name for line in self.lines) or "none"
        raise UsageError(f"There is no line {name}: there are {names}." if name else f"Say which line: {names}.")

    def loaded(self) -> list[Product]:
        """What is in memory: of the station, and of lines that have copies of their own."""
        return [product for products in self._all_products() for product in products.loaded()]

    def outcomes(self) -> Counter[str]:
        """`Products.outcomes` of all of them."""
        return sum((products.outcomes() for products in self._all_products()), Counter[str]())

    def _all_products(self) -> list[Products]:
        own = [line.products for line in self.lines if line.products is not self.products]
        return [self.products, *own]

    def start(self) -> None:
        """Let all lines judge."""
        for line in self.lines:
            line.start()

    def stop_lines(self) -> None:
        """Let all lines end after the image under way."""
        for line in self.lines:
            line.stop()

    def close(self) -> None:
        """End all of it: what is under way is finished, and whoever reads verdicts is told that none will come."""
        self.stop_lines()
        self.feed.close()
        self.gate.close()
        self.products.close()


def make_station(
    products: Products,
    *,
    limits: Limits | None = None,
    access: Access | None = None,
    report: Callable[[str], None] = lambda sentence: None,
    record: Record = nobody,
    shadows: Shadows | None = None,
    lines: Callable[[Feed], Sequence[Line]] = lambda feed: (),
) -> Station:
    """A station of these products. `lines` makes its lines, which publish to the feed that it is given; they may raise
    what `Line` does."""
    limits = limits or Limits()
    recent, shift, metrics = Recent(bytes=limits.photos), Shift(), Metrics()
    feed = Feed([recent.add, shift.add, metrics.add, *([] if shadows is None else [shadows.add])])
    return Station(
        products,
        feed,
        recent,
        shift,
        lines(feed),
        Gate(limits.workers, limits.waiting),
        limits,
        access or Access(),
        metrics,
        report,
        record,
        shadows,
    )
