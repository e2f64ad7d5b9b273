"""From what was typed after `rstpm-edge infer` to the source that images come from."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from rstpm_edge.cli.common import images_below, real
from rstpm_edge.errors import UsageError
from rstpm_edge.printable import without_password
from rstpm_edge.sources.camera import LiveKind
from rstpm_edge.sources.file_state import Memory
from rstpm_edge.sources.files import Files, Kind, kind_of
from rstpm_edge.sources.frames import Every, Source, SourceReport
from rstpm_edge.sources.live import Live
from rstpm_edge.sources.watched_folder import SETTLED, WatchedFolder

Say: TypeAlias = Callable[[str], None]


@dataclass(frozen=True)
class InspectionPlan:
    """What to read, checked but not open yet.

    `open` gives the source, and raises SourceError where it cannot. A source without an end is told of by its first
    argument when it is lost and when it is back; the second one takes sentences about files that are no images. The
    third one knows which files of a watched folder were judged before; None leaves all alone that are there.
    """

    name: str  # for people
    has_end: bool
    open: Callable[[SourceReport, Say, Memory | None], Source]
    watched: Path | None = None  # the folder


def plan_sources(
    sources: Sequence[str], *, every: Every | None, watch: bool, settle: float | None, leave_out: Sequence[Path]
) -> InspectionPlan:
    """Check what was typed. `leave_out` are folders that are written to; where they lie in a folder that is read, their
    images are not. None for `every` and `settle` is what holds without the option.

    Raises UsageError for what does not go together, for an empty name, for a folder without images, or that is written
    to itself, and for one of several that is missing and would be made by what is written. One alone that is missing is
    no wrong use: a share may be mounted late, and nothing is written before.
    """
    if "" in sources:  # as of a variable that is not set; a path of no name would be the current folder
        raise UsageError("The name of a source is empty: give a file, a folder, a camera or a stream.")
    kinds = [kind_of(source) for source in sources]
    for kind, source in zip(kinds, sources, strict=True):
        if kind == "folder" and any(os.path.exists(to) and os.path.samefile(source, to) for to in leave_out):
            raise UsageError(
                f"Pictures and maps cannot be written into {source} itself, whose images are judged: "
                f"give another folder, such as {Path(source) / 'results'}."
            )
        if len(sources) > 1 and any(lies_in_missing(to, [source]) for to in leave_out):
            raise UsageError(
                f"{source} is not there, and the first picture or map that is written would make it, as an empty "
                "folder: name a source that is there, or another folder for pictures and maps."
            )
    if every is not None and not {"video", "camera", "stream", "pipeline"} & set(kinds):
        raise UsageError("--every is for videos, cameras and streams.")
    if settle is not None and not watch:
        raise UsageError("--settle goes with --watch only.")
    due = every or Every()
    if watch:
        return _watched(sources, kinds, SETTLED if settle is None else settle, leave_out)
    for kind, source in zip(kinds, sources, strict=True):
        if kind == "camera" or kind == "stream" or kind == "pipeline":
            if len(sources) > 1:
                raise UsageError("A camera or stream must be the only source: start rstpm-edge once for each.")
            return _live(kind, source, due)
    files: list[tuple[Kind, Path]] = []
    for kind, source in zip(kinds, sources, strict=True):
        if kind == "folder":
            files += [("image", path) for path in images_below(Path(source), leave_out)]
        else:
            files.append((kind, Path(source)))
    shared = _shared_folder([Path(source) for source in sources])
    named = [(kind, path, os.path.relpath(path, shared)) for kind, path in files]
    return InspectionPlan(f"{len(named)} files", True, lambda report, say, memory: Files(named, due))


def lies_in_missing(path: Path, sources: Sequence[str]) -> bool:
    """Whether `path` is below a source that is not there: whoever makes it makes that, too, as an empty folder."""
    missing = [Path(source) for source in sources if not os.path.exists(source)]
    return any(real(path).is_relative_to(real(source)) for source in missing)


def _live(kind: LiveKind, source: str, every: Every) -> InspectionPlan:
    return InspectionPlan(
        without_password(source),
        False,
        lambda report, say, memory: Live(kind, source, every=every, report=report, deep=True),
    )


def _watched(sources: Sequence[str], kinds: Sequence[Kind], settle: float, leave_out: Sequence[Path]) -> InspectionPlan:
    # One that is not there is told as a camera is: a share that is mounted late is there at the next start.
    is_folder = kinds[0] == "folder" or (kinds[0] in ("image", "video") and not os.path.exists(sources[0]))
    if len(sources) != 1 or not is_folder:
        raise UsageError("--watch takes one folder.")
    folder = Path(sources[0])
    return InspectionPlan(
        str(folder),
        False,
        lambda report, say, memory: WatchedFolder(
            folder, leave_out, settle=settle, memory=memory, report=report, say=say
        ),
        watched=folder,
    )


def _shared_folder(paths: Sequence[Path]) -> str:
    folders = [os.path.abspath(path if path.is_dir() else path.parent) for path in paths]
    return os.path.commonpath(folders)
