"""How far many trainings are: a live table on a terminal, lines of a log elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rstpm_edge.cli.terminal import say_note
from rstpm_edge.errors import UsageError
from rstpm_edge.printable import one_line
from rstpm_edge.progress import Clock, duration, stamped

if TYPE_CHECKING:
    from rstpm_edge.training.fleet_train.result import ProductResult
    from rstpm_edge.training.fleet_train.status import ProductStatus

EVERY = 60.0  # seconds between the lines of a log
REASON = 60  # characters of a reason in the table
MOST_FAILED = 8  # in the table: the report has all of them

Show = Callable[[Sequence["ProductResult"], Sequence["ProductStatus"]], None]


@contextlib.contextmanager
def show_fleet(products: int) -> Iterator[Show]:
    """Something that takes results and statuses of `products`, and shows them on standard error."""
    if not sys.stderr.isatty():
        yield FleetLog(products, say_note)
        return
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError as error:
        raise UsageError(
            f"This command needs rich ({error.name or error} is missing): pip install '.[fleet]' in the checkout, or "
            "pip install 'FILE.whl[fleet]' with the wheel's name."
        ) from error
    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
        yield lambda results, statuses: live.update(table(results, statuses, products), refresh=True)


def table(results: Sequence["ProductResult"], statuses: Sequence["ProductStatus"], products: int) -> Any:
    """A table of rich: a row for each product that a worker has, and for those that failed; the rest is counted."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=Text(counts(results, statuses, products)), title_justify="left", box=None, pad_edge=False)
    for name in ("product", "stage", "%", "epoch", "loss", "left", ""):
        shown.add_column(name, justify="right" if name in ("%", "epoch", "loss", "left") else "left")
    for one in statuses:
        epoch = "" if one.epoch is None else f"{one.epoch} of {one.epochs}"
        loss = "" if one.loss is None else f"{one.loss[0]:.3f} {one.loss[1]:.3f}"
        left = "" if one.seconds_left is None else duration(one.seconds_left)
        again = "" if one.tries < 2 else f"worker {one.tries}, the one before died"
        cells = (one.name, one.stage, f"{100 * one.share:.0f}", epoch, loss, left, again)
        shown.add_row(*map(Text, cells))
    for failed in [one for one in results if one.failure is not None][-MOST_FAILED:]:
        cells = (failed.name, "failed", "", "", "", "", one_line(failed.failure)[:REASON])
        shown.add_row(*(Text(cell, style="red") for cell in cells))
    return shown


def counts(results: Sequence["ProductResult"], statuses: Sequence["ProductStatus"], products: int) -> str:
    """`3 of 8 products have a model, 1 failed, 2 at work, 2 waiting`."""
    failed = sum(one.failure is not None for one in results)
    said = [f"{len(results) - failed} of {products} products have a model"]
    waiting = products - len(results) - len(statuses)
    rest = {"failed": failed, "at work": len(statuses), "waiting": waiting}
    return ", ".join([*said, *(f"{number} {what}" for what, number in rest.items() if number > 0)])


class FleetLog:
    """Lines for a log: when a product is begun, again after a worker's death, done or failed; and one each minute."""

    def __init__(self, products: int, write: Callable[[str], None], clock: Clock = time.monotonic) -> None:
        self._products, self._write, self._clock = products, write, clock
        self._begun: dict[str, int] = {}
        self._ended = set[str]()
        self._last = clock()

    def __call__(self, results: Sequence["ProductResult"], statuses: Sequence["ProductStatus"]) -> None:
        """Write what is due."""
        for status in statuses:
            if self._begun.get(status.name, 0) < status.tries:
                again = f" by worker {status.tries}: the one before died" if status.tries > 1 else ""
                self._say(f"{status.name}: begun{again}")
                self._begun[status.name] = status.tries
        for result in results:
            if result.name not in self._ended:
                self._ended.add(result.name)
                self._say(f"{result.name}: {_end(result)}; {counts(results, statuses, self._products)}")
        if self._clock() - self._last >= EVERY:
            at_work = "; ".join(map(_line, statuses))
            self._say(f"{counts(results, statuses, self._products)}{f'. {at_work}' if at_work else ''}")

    def _say(self, line: str) -> None:
        self._write(stamped(line))
        self._last = self._clock()


def _end(result: "ProductResult") -> str:
    if result.failure is not None:
        return f"failed: {one_line(result.failure).removesuffix('.')}"
    if result.done_before:
        return "was done before"
    return f"done in {duration(sum(result.seconds.values()))}"


def _line(status: "ProductStatus") -> str:
    said = [status.stage, f"{100 * status.share:.0f} %"]
    if status.epoch is not None:
        said.append(f"epoch {status.epoch} of {status.epochs}")
    if status.seconds_left is not None:
        said.append(f"{duration(status.seconds_left)} left")
    return f"{status.name}: {', '.join(said)}"
