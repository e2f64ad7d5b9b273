"""What `rstpm-edge serve` puts together: products, lines and what follows their verdicts, the station."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rstpm_edge.cli.common import check_no_picture
from rstpm_edge.cli.drift_watch import first_state
from rstpm_edge.cli.infer_source import InspectionPlan, plan_sources
from rstpm_edge.cli.journalling import open_journal
from rstpm_edge.cli.reactions import Reactions, open_reactions
from rstpm_edge.cli.serve_options import ServeOptions
from rstpm_edge.cli.terminal import counted, say_note
from rstpm_edge.detector import Detector
from rstpm_edge.image.mask import load_mask
from rstpm_edge.model.keys import load_public_key
from rstpm_edge.outputs.journal import Journal
from rstpm_edge.station.access import Access
from rstpm_edge.station.feed import Feed
from rstpm_edge.station.line import Line
from rstpm_edge.station.products import Products
from rstpm_edge.station.settings import Limits
from rstpm_edge.station.shelf import Shelf
from rstpm_edge.station.station import Station, make_station


def open_products(options: ServeOptions) -> Products:
    """Raises UsageError, and what `Detector` does for the only model of a station."""
    mask = load_mask(options.mask) if isinstance(options.mask, Path) else options.mask
    key = None if options.public_key is None else load_public_key(options.public_key)

    def open_detector(path: Path) -> Detector:
        return Detector(
            path,
            providers=options.providers,
            threads=options.threads,
            polite=options.polite,
            engine_cache=options.engine_cache,
            threshold=options.threshold,
            alpha=options.alpha,
            roi=options.roi,
            mask=mask,
            allow_size_change=options.allow_size_change,
            notify=lambda sentence: say_note(f"{path.name}: {sentence}"),
            public_key=key,
            verify=options.verify,
            explain=options.explain,
        )

    shelf = Shelf(options.models) if options.models is not None else Shelf(file=options.model)
    max_memory = None if options.max_memory is None else options.max_memory * 1_000_000
    products = Products(shelf, open_detector, max_memory=max_memory, report=say_note)
    try:
        if options.models is None:  # one that cannot be loaded is told at the start
            products.get(products.resolve())
    except BaseException:
        products.close()
        raise
    return products


@dataclass(frozen=True, eq=False)
class Watched:
    """What the SOURCE is, and what follows each of its verdicts."""

    plan: InspectionPlan
    reactions: Reactions
    journal: Journal | None

    @property
    def unwritten(self) -> int:
        """Rows of the table, and verdicts of the journal, that could not be written."""
        return self.reactions.unwritten + (0 if self.journal is None else self.journal.lost)

    def notes(self) -> list[str]:
        """What went wrong, for the end."""
        lost = 0 if self.journal is None else self.journal.lost
        return [*self.reactions.notes(), *([f"{counted(lost, 'verdict')} not in the journal"] if lost else [])]


def open_watched(options: ServeOptions, stack: contextlib.ExitStack) -> Watched | None:
    """The SOURCE that was typed, if any. What follows its verdicts lasts until the end of `stack`.

    Raises UsageError and OutputError.
    """
    if not options.sources:
        return None
    check_no_picture("--csv", options.csv_file)
    plan = plan_sources(options.sources, every=options.every, watch=options.watch, settle=options.settle, leave_out=())
    journal = open_journal(options, plan, stack)
    return Watched(plan, open_reactions(options, plan, stack), journal)


def open_station(options: ServeOptions, products: Products, access: Access, watched: Watched | None) -> Station:
    """Raises UsageError and what `Detector` does for the model of a line."""
    limits = Limits(
        body=options.max_body * 1_000_000,
        workers=options.workers or Limits.workers,
        waiting=options.waiting,
        pixels=options.max_pixels * 1_000_000,
    )
    lines = (lambda feed: ()) if watched is None else _line_of(options, products, watched)
    return make_station(products, limits=limits, access=access, report=say_note, lines=lines)


def _line_of(options: ServeOptions, products: Products, watched: Watched) -> Callable[[Feed], Sequence[Line]]:
    plan, reactions, journal = watched.plan, watched.reactions, watched.journal
    first_drift = None if options.drift is None else partial(first_state, options)

    def lines(feed: Feed) -> list[Line]:
        return [
            Line(
                "line",
                plan.name,
                lambda report: plan.open(report, say_note, journal),
                products,
                products.resolve(options.product),
                feed,
                reactions=[*reactions.to_parts, *reactions.to_all],
                first_drift=first_drift,
                tell_drift=reactions.tell_drift,
                tell_source=reactions.tell_source,
                journal=None if journal is None else journal.entry,
                report=say_note,
            )
        ]

    return lines
