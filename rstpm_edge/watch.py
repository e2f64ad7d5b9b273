"""A folder into which somebody else writes images, which are judged as they arrive."""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from rstpm_edge.errors import SourceError
from rstpm_edge.image import is_image_name, natural_order
from rstpm_edge.sources import Failure, Item, SourceReport, image_frame

POLL = 0.1  # seconds; asked rather than notified, since network folders notify of nothing
SETTLED = 0.2  # seconds without a change after which a file may be whole
GIVEN_UP = 5.0  # seconds without a change after which a file that cannot be read never will be
RECENT = 2.0  # seconds; a folder that changed so lately may change again within the resolution of its time stamp
LISTED = 5.0  # seconds after which a folder is listed again in any case: clocks of file servers differ


@dataclass
class _Arrival:
    """A new file: its state when it was looked at last, since when it has it, and when to try to read it."""

    state: tuple[int, int] = (-1, -1)  # size, time of change
    since: float = 0.0
    next_try: float = 0.0


@dataclass
class _Folder:
    """What a folder held when it was listed last."""

    changed: int = -1  # its time of change then, in ns
    listed: float = 0.0
    files: dict[str, int] = field(default_factory=dict)  # names of images, and their inodes
    folders: frozenset[str] = frozenset()


# By path, device and inode: where a network folder is not mounted for a while, another one has its path meanwhile.
_Known: TypeAlias = dict[tuple[str, int, int], _Folder]


def watch(
    folder: Path, leave_out: Sequence[Path] = (), *, report: SourceReport = lambda sentence, there: None
) -> Iterator[Item]:
    """Images that are written into `folder` or below it from now on; None when there is none for a moment.

    An image is taken when its file has not changed for a fifth of a second and can be decoded, so one that is
    still being written is never judged by half. A file that cannot be read for five seconds after its last change
    is a failure. A file is new when its name is, or when another file took its name; one that is written to again
    in place is not. `leave_out` are folders in it whose images are not looked at. When the folder goes away, `report`
    is called with a sentence and False, and once more, with True, when it is back.

    Raises SourceError when there is no such folder.
    """
    if not os.path.isdir(folder):
        problem = "it is no folder" if os.path.exists(folder) else "it is not there"
        raise SourceError(f"Cannot watch {folder}: {problem}.")
    if not _may_be_listed(folder):
        raise SourceError(f"Cannot watch {folder}: no permission to list it.")
    outputs = {os.path.realpath(path) for path in leave_out}
    known: _Known = {}
    _new_files(folder, known, outputs)  # what is there already
    return _arriving(folder, known, outputs, report)


def _arriving(folder: Path, known: _Known, outputs: set[str], report: SourceReport) -> Iterator[Item]:
    arrivals: dict[Path, _Arrival] = {}
    reachable = True
    while True:
        if reachable != (os.path.isdir(folder) and _may_be_listed(folder)):
            reachable = not reachable
            says = "is back." if reachable else "has gone; waiting for it."
            report(f"The folder {folder} {says}", reachable)
        for path in _new_files(folder, known, outputs) if reachable else ():
            arrivals[path] = _Arrival()
        taken = False
        for path in list(arrivals):
            item = _looked_at(path, arrivals, folder)
            if item is not None:
                taken = True
                yield item
        if not taken:
            yield None
            time.sleep(POLL)


def _may_be_listed(folder: Path) -> bool:
    return os.access(folder, os.R_OK | os.X_OK)


def _looked_at(path: Path, arrivals: dict[Path, _Arrival], folder: Path) -> Item:
    """The image, when its file is whole; it then is no arrival any more."""
    arrival = arrivals[path]
    try:
        status = os.stat(path)
    except OSError:
        del arrivals[path]  # taken away, or renamed: then it arrives under its other name
        return None
    now = time.monotonic()
    state = (status.st_size, status.st_mtime_ns)
    if state != arrival.state:
        arrival.state, arrival.since, arrival.next_try = state, now, now + SETTLED
    if now < arrival.next_try:
        return None
    item = image_frame(path, os.path.relpath(path, folder), taken=status.st_mtime)
    if isinstance(item, Failure) and now - arrival.since < GIVEN_UP:
        arrival.next_try = now + max(SETTLED, (now - arrival.since) / 2)
        return None
    del arrivals[path]
    return item


def _new_files(folder: Path, known: _Known, outputs: set[str]) -> list[Path]:
    """Images that were not there when their folders were listed last, in natural order."""
    found: list[Path] = []
    todo = [str(folder)]
    while todo:
        path = todo.pop()
        if os.path.realpath(path) in outputs:
            continue
        with contextlib.suppress(OSError):  # it has gone, or may not be read: next time
            status = os.stat(path)
            entry = known.setdefault((path, status.st_dev, status.st_ino), _Folder())
            if status.st_mtime_ns != entry.changed or time.monotonic() - entry.listed > LISTED:
                found += _list(path, entry, known)
                recent = abs(time.time_ns() - status.st_mtime_ns) < RECENT * 1e9
                entry.changed = -1 if recent else status.st_mtime_ns
            todo += entry.folders
    return sorted(found, key=natural_order)


def _list(path: str, entry: _Folder, known: _Known) -> list[Path]:
    """Bring `entry` up to date and give the images that are new in it."""
    files: dict[str, int] = {}
    folders: set[str] = set()
    with os.scandir(path) as children:
        for child in children:
            if is_image_name(child.name):
                files[child.name] = child.inode()
            elif not child.name.startswith(".") and child.is_dir(follow_symlinks=False):
                folders.add(child.path)
    new = [Path(path, name) for name, inode in files.items() if entry.files.get(name) != inode]
    for gone in entry.folders - folders:
        for key in [key for key in known if key[0] == gone or key[0].startswith(gone + os.sep)]:
            del known[key]
    entry.files, entry.folders, entry.listed = files, frozenset(folders), time.monotonic()
    return new
