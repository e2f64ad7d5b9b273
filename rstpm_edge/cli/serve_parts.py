"""What `rstpm-edge serve` puts together: products, lines and what follows their verdicts, the station."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from rstpm_edge.cli.common import check_no_picture
from rstpm_edge.cli.drift_watch import first_state
from rstpm_edge.cli.infer_source import InspectionPlan, plan_sources
from rstpm_edge.cli.inspection import Reaction
from rstpm_edge.cli.journalling import open_journal
from rstpm_edge.cli.reactions import Reactions, open_reactions
from rstpm_edge.cli.serve_audit import record_of, shown
from rstpm_edge.cli.serve_options import ServeOptions
from rstpm_edge.cli.serve_shadow import open_shadows
from rstpm_edge.cli.station_file import Camera, StationPlan
from rstpm_edge.cli.terminal import counted, say_note
from rstpm_edge.detector import Detector
from rstpm_edge.errors import UsageError
from rstpm_edge.image.mask import load_mask
from rstpm_edge.model.keys import load_public_key
from rstpm_edge.outputs.journal import Journal
from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.station.access import Access
from rstpm_edge.station.audit import StationAudit
from rstpm_edge.station.drift_file import DriftFile
from rstpm_edge.station.feed import Feed
from rstpm_edge.station.line import Line
from rstpm_edge.station.part_feed import PartFeed
from rstpm_edge.station.products import Products
from rstpm_edge.station.registry_shelf import RegistryShelf
from rstpm_edge.station.settings import Limits
from rstpm_edge.station.shelf import FolderShelf, Shelf
from rstpm_edge.station.station import Station, make_station


def judging_of(options: ServeOptions) -> InferenceOptions:
    """How all models of a station, or of a camera, judge. Raises UsageError."""
    return InferenceOptions(
        providers=options.providers,
        threads=options.threads,
        polite=options.polite,
        engine_cache=options.engine_cache,
        threshold=options.threshold,
        alpha=options.alpha,
        roi=options.roi,
        mask=load_mask(options.mask) if isinstance(options.mask, Path) else options.mask,
        allow_size_change=options.allow_size_change,
        public_key=None if options.public_key is None else load_public_key(options.public_key),
        verify=options.verify,
        explain=options.explain,
    )


def open_products(options: ServeOptions, audit: StationAudit | None = None, line: str | None = None) -> Products:
    """Those of the station, or of a line that has options of its own.

    Raises UsageError, and what `Detector` does for the only model of a station.
    """
    judging = judging_of(options)

    def open_detector(path: Path) -> Detector:
        return Detector(path, **vars(replace(judging, notify=lambda sentence: say_note(f"{path.name}: {sentence}"))))

    shelf: Shelf
    if options.models is not None:
        shelf = FolderShelf(options.models)
    elif options.registry is not None:
        shelf = RegistryShelf(options.registry)
    else:
        shelf = FolderShelf(file=options.model)
    max_memory = None if options.max_memory is None else options.max_memory * 1_000_000
    products = Products(
        shelf, open_detector, max_memory=max_memory, report=say_note, record=record_of(audit, judging, line)
    )
    try:
        if options.models is None and options.registry is None:  # one that cannot be loaded is told at the start
            products.get(products.resolve())
    except BaseException:
        products.close()
        raise
    return products


@dataclass(frozen=True, eq=False)
class Watched:
    """What the cameras are, and what follows each verdict of theirs, or of a part that several see."""

    cameras: Sequence[tuple[Camera, InspectionPlan]]
    reactions: Reactions
    journal: Journal | None
    drift_files: list[DriftFile] = field(default_factory=list)

    @property
    def unwritten(self) -> int:
        """Rows of the table, verdicts of the journal, and states of drift, that could not be written."""
        lost = sum(file.lost for file in self.drift_files)
        return self.reactions.unwritten + (0 if self.journal is None else self.journal.lost) + lost

    def keep_drift(self, path: Path, report: Callable[[str], None]) -> DriftFile:
        """The file of a camera."""
        check_no_picture("--drift-state", path)
        self.drift_files.append(DriftFile(path, report=report))
        return self.drift_files[-1]

    @property
    def to_verdicts(self) -> list[Reaction]:
        """What each verdict is told to."""
        return [*self.reactions.to_parts, *self.reactions.to_all]

    def notes(self) -> list[str]:
        """What went wrong, for the end."""
        lost = 0 if self.journal is None else self.journal.lost
        states = sum(file.lost for file in self.drift_files)
        return [
            *self.reactions.notes(),
            *([f"{counted(lost, 'verdict')} not in the journal"] if lost else []),
            *([f"{counted(states, 'state')} of drift not written"] if states else []),
        ]


def open_watched(plan: StationPlan, stack: contextlib.ExitStack) -> Watched | None:
    """The sources that were typed, if any. What follows their verdicts lasts until the end of `stack`.

    Raises UsageError and OutputError.
    """
    if not plan.cameras:
        return None
    check_no_picture("--csv", plan.options.csv_file)
    cameras = [(camera, _source_of(camera)) for camera in plan.cameras]
    plans = [source for _, source in cameras]
    journal = open_journal(plan.options, plans[0], stack) if len(plans) == 1 else None
    # What waits for nobody where one source does not.
    never_ending = next((source for source in plans if not source.has_end), plans[0])
    return Watched(cameras, open_reactions(plan.options, never_ending, stack), journal)


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
    shadows = open_shadows(plan, products, judging_of, audit, stack)
    joined: list[PartFeed] = []

    def lines(feed: Feed) -> list[Line]:
        if watched is None:
            return []
        if plan.part is not None:
            joined.append(PartFeed(feed, plan.part, reactions=watched.to_verdicts, report=say_note))
        sources = Sources(watched.reactions.tell_source)
        made = []
        for camera, source in watched.cameras:
            own = stack.enter_context(open_products(camera.options, audit, camera.name)) if camera.own else products
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


class Sources:
    """Tells `tell` whether all sources are there; each line is called from a thread of its own."""

    def __init__(self, tell: Callable[[bool], None]) -> None:
        self._tell, self._lock = tell, threading.Lock()
        self._lost: set[str] = set()

    def tell(self, name: str, there: bool) -> None:
        """The line of this name has lost its source, or has it."""
        with self._lock:
            before = not self._lost
            (self._lost.discard if there else self._lost.add)(name)
            if (not self._lost) != before:
                self._tell(not self._lost)


def _source_of(camera: Camera) -> InspectionPlan:
    """Raises UsageError for one that cannot be; of a file of cameras, with its place there."""
    options = camera.options
    with _told_with(camera):
        return plan_sources(
            options.sources, every=options.every, watch=options.watch, settle=options.settle, leave_out=()
        )


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

    with _told_with(camera):
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


@contextlib.contextmanager
def _told_with(camera: Camera) -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        if camera.place:
            raise UsageError(f"{camera.place}: {error}") from error
        raise


def _product(typed: str | None) -> tuple[str | None, str | None]:
    """Name and version of "bracket" or "bracket 3"."""
    name, _, version = (typed or "").partition(" ")
    return name or None, version or None
