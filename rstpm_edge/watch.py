"""A folder into which somebody else writes images, which are judged as they arrive."""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rstpm_edge.errors import SourceError
from rstpm_edge.image.listing import is_image_name, natural_order
from rstpm_edge.sources import Failure, Item, SourceReport, image_frame

POLL = 0.1  # seconds; asked rather than notified, since network folders notify of nothing
SETTLED = 0.2  # seconds without a change after which a file may be whole
GIVEN_UP = 5.0  # seconds without a change after which a file that cannot be read never will be
RECENT = 2.0  # seconds; a folder that changed so lately may change again within the resolution of its time stamp
LISTED = 5.0  # seconds after which a folder is listed again in any case: clocks of file servers differ
REMEMBERED = 100_000  # files that are known again where they are moved to; about 30 MB
LOOKED_AT = 1_000  # files of a folder up to which each is looked at whenever it is listed, not new names alone


class _State(NamedTuple):
    """What a file is told by: another one has another state, and so has the same one once it is written to."""

    inode: int  # of the name; alone it tells little: that of a file that was deleted goes to the next one
    size: int
    changed: int  # ns

    @property
    def is_distinct(self) -> bool:
        """Whether no other file will have it: file systems and copies of whole seconds have one stamp for many."""
        return self.changed % 1_000_000_000 != 0


@dataclass
class _Folder:
    """What a folder held when it was listed last."""

    changed: int = -1  # its time of change then, in ns
    listed: float | None = None
    files: dict[str, _State] = field(default_factory=dict)  # by the names of images: as they were listed, or judged
    folders: frozenset[str] = frozenset()


@dataclass
class _Arrival:
    """A new file: its folder, its state when last looked at, since when it has it, and when to try to read it."""

    folder: _Folder
    state: _State | None = None
    since: float = 0.0
    next_try: float = 0.0


class _Seen:
    """What was there at the start or has been judged since."""

    def __init__(self) -> None:
        # By path, then by device and inode: while a network folder is not mounted, another one has its path.
        self.folders: dict[str, dict[tuple[int, int], _Folder]] = {}
        self._files: dict[_State, None] = {}  # the latest, wherever they are now; in the order in which they came

    def add(self, state: _State) -> None:
        self._files[state] = None
        if len(self._files) > REMEMBERED:
            del self._files[next(iter(self._files))]

    def __contains__(self, state: _State) -> bool:
        return state.is_distinct and state in self._files


def watch(
    folder: Path, leave_out: Sequence[Path] = (), *, report: SourceReport = lambda sentence, there: None
) -> Iterator[Item]:
    """Images that are written into `folder` or below it from now on; None when there is none for a moment.

    An image is taken when its file has not changed for a fifth of a second and can be decoded, so one that is
    still being written is never judged by half. A file that cannot be read for five seconds after its last change
    is a failure. A file that is written to later on, or whose name another one takes, is new; one that is moved or
    renamed is not, as far as its time stamp tells it. `leave_out` are folders in it whose images are not looked at.
    When the folder goes away, `report` is called with a sentence and False, and once more, with True, when it is back.

    Raises SourceError when there is no such folder.
    """
    if not os.path.isdir(folder):
        problem = "it is no folder" if os.path.exists(folder) else "it is not there"
        raise SourceError(f"Cannot watch {folder}: {problem}.")
    if not _may_be_listed(folder):
        raise SourceError(f"Cannot watch {folder}: no permission to list it.")
    outputs = {os.path.realpath(path) for path in leave_out}
    seen = _Seen()
    for path, listed in _new_files(folder, seen, outputs):  # what is there already
        seen.add(listed.files[path.name])
    return _arriving(folder, seen, outputs, report)


def _arriving(folder: Path, seen: _Seen, outputs: set[str], report: SourceReport) -> Iterator[Item]:
    arrivals: dict[Path, _Arrival] = {}
    reachable = True
    while True:
        if reachable != (os.path.isdir(folder) and _may_be_listed(folder)):
            reachable = not reachable
            says = "is back." if reachable else "has gone; waiting for it."
            report(f"The folder {folder} {says}", reachable)
            for arrival in arrivals.values():
                arrival.state = None  # nobody could write meanwhile: no time in which it did not change
        taken = False
        if reachable:
            for path, listed in _new_files(folder, seen, outputs):
                arrivals.setdefault(path, _Arrival(listed))
            for path in list(arrivals):
                item = _looked_at(path, arrivals, seen, folder)
                if item is not None:
                    taken = True
                    yield item
        if not taken:
            yield None
            time.sleep(POLL)


def _may_be_listed(folder: Path) -> bool:
    return os.access(folder, os.R_OK | os.X_OK)


def _looked_at(path: Path, arrivals: dict[Path, _Arrival], seen: _Seen, folder: Path) -> Item:
    """The image, when its file is whole; it then is no arrival any more."""
    arrival = arrivals[path]
    try:
        status = os.stat(path)
        state = _State(os.lstat(path).st_ino, status.st_size, status.st_mtime_ns)
    except OSError:
        # Taken away, or renamed: then it arrives under its other name. Or the whole folder has gone: then it is listed
        # again when that is back, for what it is, an image that has not been judged.
        arrival.folder.files.pop(path.name, None)
        del arrivals[path]
        return None
    now = time.monotonic()
    if state != arrival.state:
        arrival.state, arrival.since, arrival.next_try = state, now, now + SETTLED
    if now < arrival.next_try:
        return None
    item = image_frame(path, os.path.relpath(path, folder), taken=status.st_mtime)
    if isinstance(item, Failure) and now - arrival.since < GIVEN_UP:
        arrival.next_try = now + max(SETTLED, (now - arrival.since) / 2)
        return None
    arrival.folder.files[path.name] = state
    seen.add(state)
    del arrivals[path]
    return item


def _new_files(folder: Path, seen: _Seen, outputs: set[str]) -> list[tuple[Path, _Folder]]:
    """Images that are not as they were when their folders were listed last, in natural order."""
    found: list[tuple[Path, _Folder]] = []
    todo = [str(folder)]
    while todo:
        path = todo.pop()
        if os.path.realpath(path) in outputs:
            continue
        with contextlib.suppress(OSError):  # it has gone, or may not be read: next time
            status = os.stat(path)
            entry = seen.folders.setdefault(path, {}).setdefault((status.st_dev, status.st_ino), _Folder())
            due = entry.listed is None or time.monotonic() - entry.listed > LISTED
            if status.st_mtime_ns != entry.changed or due:
                found += [(Path(path, name), entry) for name in _list(path, entry, seen)]
                recent = abs(time.time_ns() - status.st_mtime_ns) < RECENT * 1e9
                entry.changed = -1 if recent else status.st_mtime_ns
            todo += entry.folders
    return sorted(found, key=lambda pair: natural_order(pair[0]))


def _list(path: str, entry: _Folder, seen: _Seen) -> list[str]:
    """Bring `entry` up to date and give the names of images that are new in it."""
    files: dict[str, _State] = {}
    folders: set[str] = set()
    look_at_all = len(entry.files) <= LOOKED_AT
    with os.scandir(path) as children:
        for child in children:
            if is_image_name(child.name):
                before = entry.files.get(child.name)
                if look_at_all or before is None or before.inode != child.inode():
                    with contextlib.suppress(OSError):  # taken away meanwhile
                        status = child.stat()
                        files[child.name] = _State(child.inode(), status.st_size, status.st_mtime_ns)
                else:
                    files[child.name] = before
            elif not child.name.startswith(".") and child.is_dir(follow_symlinks=False):
                folders.add(child.path)
    if entry.listed is None and files:
        _take_over(path, entry, seen)
    new = [name for name, state in files.items() if entry.files.get(name) != state and state not in seen]
    for gone in entry.folders - folders:
        for known in [known for known in seen.folders if known == gone or known.startswith(gone + os.sep)]:
            del seen.folders[known]
    entry.files, entry.folders, entry.listed = files, frozenset(folders), time.monotonic()
    return new


def _take_over(path: str, entry: _Folder, seen: _Seen) -> None:
    """Let `entry` know what other folders at its path held: a share that is mounted again has another number."""
    entries = seen.folders[path]
    for key in [key for key, other in entries.items() if other is not entry]:
        entry.files |= entries.pop(key).files
