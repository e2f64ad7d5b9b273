"""The sources that `rstpm-edge serve` was given, and what follows each verdict on their images."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rstpm_edge.cli.line.journal import open_journal
from rstpm_edge.cli.line.options import check_line
from rstpm_edge.cli.line.reactions import Reaction, Reactions, open_reactions
from rstpm_edge.cli.line.source import InspectionPlan, plan_sources
from rstpm_edge.cli.serve.station_file import Camera, StationPlan
from rstpm_edge.cli.terminal import counted
from rstpm_edge.errors import UsageError
from rstpm_edge.outputs.journal import Journal
from rstpm_edge.station.drift_file import DriftFile


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
    cameras = [(camera, _source_of(camera)) for camera in plan.cameras]
    plans = [source for _, source in cameras]
    journal = open_journal(plan.options, plans[0], stack) if len(plans) == 1 else None
    # What waits for nobody where one source does not.
    never_ending = next((source for source in plans if not source.has_end), plans[0])
    return Watched(cameras, open_reactions(plan.options, never_ending, stack), journal)


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


@contextlib.contextmanager
def told_with(camera: Camera) -> Iterator[None]:
    """A UsageError in the block names the place of the camera in its file, where it stands in one."""
    try:
        yield
    except UsageError as error:
        if camera.place:
            raise UsageError(f"{camera.place}: {error}") from error
        raise


def _source_of(camera: Camera) -> InspectionPlan:
    """Raises UsageError for one that cannot be; of a file of cameras, with its place there."""
    options = camera.options
    with told_with(camera):
        check_line(options)  # a file of cameras has files that were not typed
        return plan_sources(
            options.sources, every=options.every, watch=options.watch, settle=options.settle, leave_out=()
        )
