"""From what the user typed after `rstpm-edge infer` to a plan of what to read."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rstpm_edge.cli.common import images_below
from rstpm_edge.errors import UsageError
from rstpm_edge.printable import without_password
from rstpm_edge.sources.camera import LiveKind
from rstpm_edge.sources.files import Kind, image_frame, kind_of, video_frames
from rstpm_edge.sources.frames import Every, Item, parse_every


@dataclass(frozen=True)
class InspectionPlan:
    """Exactly one of: files to read in this order (kind, path, name of what is written for it), a live source, or a
    folder to watch."""

    files: tuple[tuple[Kind, Path, str], ...] = ()
    live: tuple[LiveKind, str] | None = None
    watched: Path | None = None
    every: Every = field(default_factory=Every)
    settle: float | None = None  # seconds, of a folder to watch

    @property
    def name(self) -> str:
        """The live source or watched folder, for people."""
        return without_password(self.live[1]) if self.live else str(self.watched)

    @property
    def has_end(self) -> bool:
        """Whether the source ends by itself."""
        return bool(self.files)

    def read_files(self) -> Iterator[Item]:
        """Everything in the files."""
        for kind, path, output in self.files:
            if kind == "video":
                yield from video_frames(path, output, self.every)
            else:
                yield image_frame(path, output)


def plan_sources(
    sources: Sequence[str], *, every: str | None, watch: bool, settle: float | None, leave_out: Sequence[Path]
) -> InspectionPlan:
    """Check what was typed. `leave_out` are folders that are written to; where they lie in a folder that is read, their
    images are not.

    Raises UsageError for what does not go together, and for a folder without images, or that is written to itself.
    """
    kinds = [kind_of(source) for source in sources]
    for kind, source in zip(kinds, sources, strict=True):
        if kind == "folder" and any(os.path.samefile(source, folder) for folder in leave_out):
            raise UsageError(
                f"Pictures and maps cannot be written into {source} itself, whose images are judged: "
                f"give another folder, such as {Path(source) / 'results'}."
            )
    chosen = Every() if every is None else parse_every(every)
    if every is not None and not {"video", "camera", "stream", "pipeline"} & set(kinds):
        raise UsageError("--every is for videos, cameras and streams.")
    if settle is not None and not watch:
        raise UsageError("--settle goes with --watch only.")
    if watch:
        # One that is not there is told as a camera is: a share that is mounted late is there at the next start.
        is_folder = kinds == ["folder"] or (kinds[0] in ("image", "video") and not os.path.exists(sources[0]))
        if len(sources) != 1 or not is_folder:
            raise UsageError("--watch takes one folder.")
        return InspectionPlan(watched=Path(sources[0]), settle=settle)
    for kind, source in zip(kinds, sources, strict=True):
        if kind == "camera" or kind == "stream" or kind == "pipeline":
            if len(sources) > 1:
                raise UsageError("A camera or stream must be the only source: start rstpm-edge once for each.")
            return InspectionPlan(live=(kind, source), every=chosen)
    files: list[tuple[Kind, Path]] = []
    for kind, source in zip(kinds, sources, strict=True):
        if kind == "folder":
            files += [("image", path) for path in images_below(Path(source), leave_out)]
        else:
            files.append((kind, Path(source)))
    shared = _shared_folder([Path(source) for source in sources])
    return InspectionPlan(
        files=tuple((kind, path, os.path.relpath(path, shared)) for kind, path in files), every=chosen
    )


def _shared_folder(paths: Sequence[Path]) -> str:
    folders = [os.path.abspath(path if path.is_dir() else path.parent) for path in paths]
    return os.path.commonpath(folders)
