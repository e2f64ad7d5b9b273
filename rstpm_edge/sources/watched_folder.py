"""A folder into which somebody else writes images, which are judged as they arrive."""

import contextlib
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rstpm_edge.errors import SourceError
from rstpm_edge.image.listing import (
    PHRASES,
    FolderWalk,
    Reason,
    is_unfinished_name,
    kind_of_entry,
    kind_of_file,
    natural_order,
)
from rstpm_edge.sources.files import image_frame
from rstpm_edge.sources.frames import Failure, Frame, Item, SourceReport
from rstpm_edge.sources.writers import Notices, Written, is_open_for_writing, is_unfilled

POLL = 0.1  # seconds; asked rather than notified, since network folders notify of nothing
SETTLED = 0.2  # seconds without a change after which a file may be whole, where nobody knows who writes it
UNFILLED = 10  # times as long, where it has holes, or blocks of zeros
GIVEN_UP = 5.0  # seconds without a change after which a file that cannot be read never will be
HELD = 30.0  # seconds without a change after which a file that somebody still has open for writing is told of
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
    files: dict[str, _State] = field(default_factory=dict)  # by name: as they were listed, or judged
    folders: tuple[tuple[str, bool], ...] = ()  # paths, and whether they are links
    odd: frozenset[tuple[str, Reason]] = frozenset()  # names of what is no file that could be an image, and why
    told: set[str] = field(default_factory=set)  # names of files that are no images, of which has been told
    written: Written = field(default_factory=Written)


@dataclass
class _Arrival:
    """A new file: its folder, its state when last looked at, since when it has it, and when to try to read it.

    `held` says that it has been told of, since it stayed open for writing.
    """

    folder: _Folder
    state: _State | None = None
    since: float = 0.0
    next_try: float = 0.0
    held: bool = False


class LeftOut:
    """What a watched folder holds that is not judged: counted, and `say` gets a sentence on the first of each kind."""

    def __init__(self, say: Callable[[str], None] = lambda sentence: None) -> None:
        self.counts: Counter[Reason] = Counter()
        self._say = say

    def __call__(self, path: str | os.PathLike[str], reason: Reason) -> None:
        self.counts[reason] += 1
        if self.counts[reason] == 1:
            self._say(f"Left out {os.fspath(path)}: {PHRASES[reason][0]}. Further ones are only counted.")

    def summary(self) -> str:
        """For the end: "left out 3 no images, 1 link that leads nowhere"; empty where there was nothing."""
        told = [f"{number} {PHRASES[reason][number > 1]}" for reason, number in self.counts.items()]
        return f"left out {', '.join(told)}" if told else ""


class _Seen:
    """What was there at the start or has been judged since."""

    def __init__(self) -> None:
        # By path, then by device and inode: while a network folder is not mounted, another one has its path.
        self.folders: dict[str, dict[tuple[int, int], _Folder]] = {}
        self.notices = Notices()
        self._files: dict[_State, None] = {}  # the latest, wherever they are now; in the order in which they came

    def add(self, state: _State) -> None:
        self._files[state] = None
        if len(self._files) > REMEMBERED:
            del self._files[next(iter(self._files))]

    def __contains__(self, state: _State) -> bool:
        return state.is_distinct and state in self._files


def watch(
    folder: Path,
    leave_out: Sequence[Path] = (),
    *,
    settle: float = SETTLED,
    report: SourceReport = lambda sentence, there: None,
    left_out: LeftOut | None = None,
) -> Iterator[Item]:
    """Images that are written into `folder` or below it from now on; None when there is none for a moment.

    An image is taken when nobody has its file open for writing any more, as far as the kernel tells, when it has not
    changed for `settle` seconds, and can be decoded. Where a part of it may not be written yet, since it has holes, or
    blocks of zeros and nobody knows its writers, it is taken after ten times as long; where it was renamed into its
    place, at once. A file that cannot be read for five seconds after its last change, or that is held open for thirty,
    is a failure. A file that is written to later on, or whose name another one takes, is new; one that is moved or
    renamed is not, as far as its time stamp tells it. Links are followed as `list_folder` does. `leave_out` are folders
    in it whose images are not looked at. `left_out` is told of files that are no images.
    When the folder goes away, `report` is called with a sentence and False, and once more, with True, when it is back.

    Raises SourceError when there is no such folder.
    """
    if not os.path.isdir(folder):
        problem = "it is no folder" if os.path.exists(folder) else "it is not there"
        raise SourceError(f"Cannot watch {folder}: {problem}.")
    if not _may_be_listed(folder):
        raise SourceError(f"Cannot watch {folder}: no permission to list it.")
    outputs = {os.path.realpath(path) for path in leave_out}
    seen, left_out = _Seen(), left_out or LeftOut()
    for path, listed in _new_files(folder, seen, outputs, left_out):  # what is there already
        seen.add(listed.files[path.name])
    return _arriving(folder, seen, outputs, settle, report, left_out)


def _arriving(
    folder: Path, seen: _Seen, outputs: set[str], settle: float, report: SourceReport, left_out: LeftOut
) -> Iterator[Item]:
    arrivals: dict[Path, _Arrival] = {}
    reachable = True
    try:
        while True:
            if reachable != (os.path.isdir(folder) and _may_be_listed(folder)):
                reachable = not reachable
                says = "is back." if reachable else "has gone; waiting for it."
                report(f"The folder {folder} {says}", reachable)
                for arrival in arrivals.values():
                    arrival.state = None  # nobody could write meanwhile: no time in which it did not change
            taken = False
            if reachable:
                for path, listed in _new_files(folder, seen, outputs, left_out):
                    arrivals.setdefault(path, _Arrival(listed))
                seen.notices.take()
                for path in list(arrivals):
                    item = _looked_at(path, arrivals, seen, folder, settle, left_out)
                    if item is not None:
                        taken = True
                        yield item
            if not taken:
                yield None
                time.sleep(POLL)
    finally:
        seen.notices.close()


def _may_be_listed(folder: Path) -> bool:
    return os.access(folder, os.R_OK | os.X_OK)


def _looked_at(
    path: Path, arrivals: dict[Path, _Arrival], seen: _Seen, folder: Path, settle: float, left_out: LeftOut
) -> Item:
    """The image, when its file is whole; it then is no arrival any more."""
    arrival = arrivals[path]
    written = arrival.folder.written
    try:
        state, taken = _state_of(path)
        now = time.monotonic()
        if state != arrival.state:
            arrival.state, arrival.since, arrival.held = state, now, False
            arrival.next_try = now + (0.0 if path.name in written.moved else settle)
        if now < arrival.next_try or not _is_whole(path, arrival, now - arrival.since, settle):
            return None
        kind = kind_of_file(path)
        item: Item = None
        if kind == "image":
            item = image_frame(path, os.path.relpath(path, folder), taken=taken)
            if (state, taken) != _state_of(path):  # written to while it was read
                return None
            if isinstance(item, Frame) and is_open_for_writing(path):
                return None
    except _Held as held:
        return Failure(str(path), str(held))
    except OSError:
        # Taken away, or renamed: then it arrives under its other name. Or the whole folder has gone: then it is listed
        # again when that is back, for what it is, an image that has not been judged.
        arrival.folder.files.pop(path.name, None)
        written.forget(path.name)
        del arrivals[path]
        return None
    if isinstance(item, Failure) and now - arrival.since < max(GIVEN_UP, 2 * settle):
        arrival.next_try = now + max(settle, POLL, (now - arrival.since) / 2)
        return None
    if kind != "image" and path.name not in arrival.folder.told:
        arrival.folder.told.add(path.name)
        left_out(path, kind)
    arrival.folder.files[path.name] = state
    written.forget(path.name)
    seen.add(state)
    del arrivals[path]
    return item


class _Held(Exception):
    """A file that stays open for writing."""


def _state_of(path: Path) -> tuple[_State, float]:
    """The file's state, and when it was written. Raises OSError where there is no regular file."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError("it is not a regular file")
    return _State(os.lstat(path).st_ino, status.st_size, status.st_mtime_ns), status.st_mtime


def _is_whole(path: Path, arrival: _Arrival, unchanged: float, settle: float) -> bool:
    """Whether all of a file may have been written that has not changed for so many seconds; else when to look again.

    Raises _Held, once, where an image is open for long.
    """
    written, name = arrival.folder.written, path.name
    if not os.access(path, os.R_OK):  # whoever reads the image says so
        return True
    is_open = is_open_for_writing(path, since=arrival.since)
    if is_open is None and name in written.unclosed and unchanged < HELD:  # later on: as if a notice was lost
        is_open = True
    if is_open:
        if unchanged >= HELD and not arrival.held and kind_of_file(path) == "image":  # and no log, for instance
            arrival.held = True
            raise _Held(
                f"Cannot read {path}: it has not changed for {HELD:.0f} seconds, and another process still has it open "
                "for writing; it is judged when that closes it."
            )
        arrival.next_try = time.monotonic() + min(max(POLL, unchanged / 10), 1.0)
        return False
    if name in written.moved:  # whoever renames a file says that it is whole
        return True
    is_known = is_open is False or name in written.closed
    if unchanged < UNFILLED * settle and is_unfilled(path, look=not is_known):
        arrival.next_try = time.monotonic() + min(POLL, settle)
        return False
    return True


def _new_files(folder: Path, seen: _Seen, outputs: set[str], left_out: LeftOut) -> list[tuple[Path, _Folder]]:
    """Files that are not as they were when their folders were listed last, in natural order."""
    found: list[tuple[Path, _Folder]] = []
    walk = FolderWalk(str(folder))
    for path, status in walk:
        if status is None or os.path.realpath(path) in outputs:
            continue
        with contextlib.suppress(OSError):  # it has gone, or may not be read: next time
            entry = _entry(path, status, seen)
            due = entry.listed is None or time.monotonic() - entry.listed > LISTED
            if status.st_mtime_ns != entry.changed or due:
                found += [(Path(path, name), entry) for name in _list(path, entry, seen, left_out)]
                recent = abs(time.time_ns() - status.st_mtime_ns) < RECENT * 1e9
                entry.changed = -1 if recent else status.st_mtime_ns
            for inner, is_link in entry.folders:
                walk.add(inner, is_link=is_link)
    return sorted(found, key=lambda pair: natural_order(pair[0]))


def _entry(path: str, status: os.stat_result, seen: _Seen) -> _Folder:
    entries, key = seen.folders.setdefault(path, {}), (status.st_dev, status.st_ino)
    if key not in entries:
        entries[key] = _Folder(written=seen.notices.add(path))  # before it is listed, so that nothing is missed
    return entries[key]


def _list(path: str, entry: _Folder, seen: _Seen, left_out: LeftOut) -> list[str]:
    """Bring `entry` up to date and give the names of files that are new in it."""
    files: dict[str, _State] = {}
    folders: list[tuple[str, bool]] = []
    odd: set[tuple[str, Reason]] = set()
    look_at_all = len(entry.files) <= LOOKED_AT
    with os.scandir(path) as children:
        for child in children:
            kind = kind_of_entry(child)
            if kind == "folder":
                folders.append((child.path, child.is_symlink()))
            elif kind != "file":
                if kind in ("special", "dangling"):  # what is hidden may be on its way to another name
                    odd.add((child.name, kind))
            elif not is_unfinished_name(child.name):
                before = entry.files.get(child.name)
                if look_at_all or before is None or before.inode != child.inode():
                    with contextlib.suppress(OSError):  # taken away meanwhile
                        status = child.stat()
                        files[child.name] = _State(child.inode(), status.st_size, status.st_mtime_ns)
                else:
                    files[child.name] = before
    for name, reason in sorted(odd - entry.odd):
        left_out(os.path.join(path, name), reason)
    if entry.listed is None and files:
        _take_over(path, entry, seen)
    new = [name for name, state in files.items() if entry.files.get(name) != state and state not in seen]
    for gone in {inner for inner, _ in entry.folders} - {inner for inner, _ in folders}:
        for known in [known for known in seen.folders if known == gone or known.startswith(gone + os.sep)]:
            del seen.folders[known]
    entry.files, entry.folders, entry.odd = files, tuple(sorted(folders)), frozenset(odd)
    entry.told &= files.keys()
    entry.listed = time.monotonic()
    return new


def _take_over(path: str, entry: _Folder, seen: _Seen) -> None:
    """Let `entry` know what other folders at its path held: a share that is mounted again has another number."""
    entries = seen.folders[path]
    for key in [key for key, other in entries.items() if other is not entry]:
        entry.files |= entries.pop(key).files
