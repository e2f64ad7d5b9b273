"""The station of `rstpm-edge serve`, with its lines."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rstpm_edge.cli.line.audit_log import shown
from rstpm_edge.cli.line.drift import first_state
from rstpm_edge.cli.line.source import InspectionPlan
from rstpm_edge.cli.serve.products import open_products
from rstpm_edge.cli.serve.shadows import open_shadows
from rstpm_edge.cli.serve.station_file import Camera, StationPlan
from rstpm_edge.cli.serve.watched import Sources, Watched, told_with
from rstpm_edge.cli.terminal import say_note
from rstpm_edge.station.access import Access
from rstpm_edge.station.audit import StationAudit
from rstpm_edge.station.feed import Feed
from rstpm_edge.station.line import Line
from rstpm_edge.station.part_feed import PartFeed
from rstpm_edge.station.products import Products
from rstpm_edge.station.settings import Limits
from rstpm_edge.station.station import Station, make_station


@dataclass(frozen=True, eq=False)
class Opened:
    """A station, and what joins the verdicts of cameras that see one part, where there are such."""

    station: Station
    parts: PartFeed | None


def open_station(
    plan: StationPlan,
    access: Access,
    watched: Watched | None,
    audit: StationAudit | None,
    stack: contextlib.ExitStack,
) -> Opened:
    """Open it until the end of `stack`; nothing is judged before `Station.start`.

    Raises UsageError and what `Detector` does for the model of a line.
    """
    options = plan.options
    limits = Limits(
        body=options.max_body * 1_000_000,
        workers=options.workers or Limits.workers,
        waiting=options.waiting,
        pixels=options.max_pixels * 1_000_000,
        photos=options.keep_photos * 1_000_000,
    )
    products = stack.enter_context(open_products(options, audit))
    shadows = open_shadows(plan, products, audit, stack)
    joined: list[PartFeed] = []

    def lines(feed: Feed) -> list[Line]:
        if watched is None:
            return []
        if plan.part is not None:
            joined.append(PartFeed(feed, plan.part, reactions=watched.to_verdicts, report=say_note))
        sources = Sources(watched.reactions.tell_source)
        made = []
        for camera, source in watched.cameras:
            own = products
            if camera.own:
                with told_with(camera):
                    own = stack.enter_context(open_products(camera.options, audit, camera.name))
            made.append(_line_of(camera, source, own, feed, watched, audit, sources, joined))
        return made

    def record(event: str, fields: Mapping[str, Any]) -> None:
        if audit is not None:
            audit.log.record(event, shown(fields))

    station = stack.enter_context(
        make_station(
            products, limits=limits, access=access, report=say_note, record=record, shadows=shadows, lines=lines
        )
    )
    for parts in joined:
        stack.enter_context(parts)
        stack.callback(station.stop_lines)  # before: what they still judge has its part, too
    return Opened(station, joined[0] if joined else None)


def _line_of(
    camera: Camera,
    source: InspectionPlan,
    products: Products,
    feed: Feed,
    watched: Watched,
    audit: StationAudit | None,
    sources: Sources,
    joined: Sequence[PartFeed],
) -> Line:
    options, reactions, journal = camera.options, watched.reactions, watched.journal
    views = [parts for parts in joined if camera.name in parts.rule.views]

    def tell_source(there: bool) -> None:
        sources.tell(camera.name, there)
        for parts in views:
            parts.tell_source(camera.name, there)

    def tell_drift(fields: Mapping[str, Any]) -> None:
        reactions.tell_drift({**fields, "line": camera.name} if camera.place else fields)
        if audit is not None and fields["drift"] != "stable":
            audit.log.tell_drift({"line": camera.name, **fields})

    def report(sentence: str) -> None:
        say_note(f"{camera.name}: {sentence}" if camera.place else sentence)

    with told_with(camera):
        return Line(
            camera.name,
            source.name,
            lambda told: source.open(told, say_note, journal),
            products,
            products.resolve(*_product(options.product)),
            feed,
            reactions=[] if views else watched.to_verdicts,  # of a view nobody acts: its part is told
            first_drift=None if options.drift is None else partial(first_state, options),
            drift_file=None if options.drift_state is None else watched.keep_drift(options.drift_state, report),
            tell_drift=tell_drift,
            tell_source=tell_source,
            journal=None if journal is None else journal.entry,
            report=report,
        )


def _product(typed: str | None) -> tuple[str | None, str | None]:
    """Name and version of "bracket" or "bracket 3"."""
    name, _, version = (typed or "").partition(" ")
    return name or None, version or None
