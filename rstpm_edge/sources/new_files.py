"""Which files are new in a folder and below it: it is listed again and again, and compared with what it held."""

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rstpm_edge.image.listing import FolderWalk, Reason, is_unfinished_name, kind_of_entry, natural_order
from rstpm_edge.sources.file_state import FileState, Memory, WatchedFile
from rstpm_edge.sources.inotify import Notices, Written

RECENT = 2.0  # seconds; a folder that changed so lately may change again within the resolution of its time stamp
LISTED = 5.0  # seconds after which a folder is listed again in any case: clocks of file servers differ
REMEMBERED = 100_000  # files that are known again where they are moved to; about 30 MB
LOOKED_AT = 1_000  # files of a folder up to which each is looked at whenever it is listed; of more, only those that
# have another inode, or of which inotify has told: an inode is used again soon, by the file after the next one


@dataclass
class Listing:
    """What a folder held when it was listed last."""

    changed: int = -1  # its time of change then, in ns
    listed: float | None = None
    files: dict[str, FileState] = field(default_factory=dict)  # by name: as they were listed, or judged
    folders: tuple[tuple[str, bool], ...] = ()  # paths, and whether they are links
    odd: frozenset[tuple[str, Reason]] = frozenset()  # names of what is no file that could be an image, and why
    told: set[str] = field(default_factory=set)  # names of files that are no images, of which has been told
    written: Written = field(default_factory=Written)

    def is_due(self, status: os.stat_result) -> bool:
        """Whether it may have changed since."""
        old = self.listed is None or time.monotonic() - self.listed > LISTED
        return old or status.st_mtime_ns != self.changed

    def forget(self, name: str) -> None:
        """A file has gone; where it is back, it is new."""
        self.files.pop(name, None)
        self.written.forget(name)


class NewFiles:
    """Finds files in `folder` and below it that are new, or not as they were; what is there already is not.

    With `memory`, that decides of files that are there already, and of those in folders that are seen for the first
    time. Without, what is there already is also what a file system holds that is mounted at `folder` later than that.

    One that is moved or renamed is not new, as far as its time stamp tells it. Links are followed as `list_folder`
    does. `leave_out` are folders in it that are not looked into. `left_out` is called with the path of what can be no
    image, and the reason.
    """

    def __init__(
        self,
        folder: Path,
        leave_out: Iterable[Path],
        left_out: Callable[[str, Reason], None],
        memory: Memory | None = None,
    ) -> None:
        self._folder = folder
        self._leave_out = {os.path.realpath(path) for path in leave_out}
        self._left_out = left_out
        self._memory = memory
        # By path, then by device and inode: while a network folder is not mounted, another one has its path.
        self._listings: dict[str, dict[tuple[int, int], Listing]] = {}
        self._known: dict[FileState, None] = {}  # the latest, wherever they are now; in the order in which they came
        self._notices = Notices()
        self._was_mount: bool | None = None  # `folder` is, or was once, where a file system is mounted
        self._from_before: list[tuple[Path, Listing]] = []
        for path, listing in self.find():
            if memory is None:
                self._know(listing.files[path.name])
            else:
                self._from_before.append((path, listing))

    def find(self) -> list[tuple[Path, Listing]]:
        """Files that are not as they were when their folders were listed last, in natural order."""
        found, self._from_before = self._from_before, []
        walk, is_late = FolderWalk(str(self._folder)), False
        for path, status in walk:
            if status is None or os.path.realpath(path) in self._leave_out:
                continue
            with contextlib.suppress(OSError):  # it has gone, or may not be read: next time
                listing = self._listing_of(path, status)
                is_first_look = listing.listed is None and path == str(self._folder)
                if listing.is_due(status):
                    found += [(Path(path, name), listing) for name in self._list(path, listing)]
                    recent = abs(time.time_ns() - status.st_mtime_ns) < RECENT * 1e9
                    listing.changed = -1 if recent else status.st_mtime_ns
                if is_first_look:
                    is_late = self._is_mounted_late() and self._memory is None
                for inner, is_link in listing.folders:
                    walk.add(inner, is_link=is_link)
        self._notices.take()
        if is_late:
            for file, listing in found:
                self._know(listing.files[file.name])
            return []
        return sorted(found, key=lambda pair: natural_order(pair[0]))

    def remember(self, name: str, listing: Listing, state: FileState) -> None:
        """A file has been judged, or left out, in this state; in another one it is new."""
        listing.files[name] = state
        listing.written.forget(name)
        self._know(state)

    def close(self) -> None:
        """Listen no more."""
        self._notices.close()

    def _is_mounted_late(self) -> bool:
        """Whether a file system is mounted at the folder for the first time; its mount point was watched so far.

        One that was there before is away for a while: what it holds then has come meanwhile.
        """
        before = self._was_mount
        self._was_mount = bool(before) or os.path.ismount(os.path.realpath(self._folder))
        return before is False and self._was_mount

    def _know(self, state: FileState) -> None:
        self._known[state] = None
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]

    def _listing_of(self, path: str, status: os.stat_result) -> Listing:
        listings, key = self._listings.setdefault(path, {}), (status.st_dev, status.st_ino)
        if key not in listings:
            listings[key] = Listing(written=self._notices.add(path))  # before it is listed: nothing is missed
        return listings[key]

    def _list(self, path: str, listing: Listing) -> list[str]:
        """Bring `listing` up to date and give the names of files that are new in it."""
        files: dict[str, FileState] = {}
        folders: list[tuple[str, bool]] = []
        odd: set[tuple[str, Reason]] = set()
        look_at_all, told = len(listing.files) <= LOOKED_AT, listing.written.names()
        with os.scandir(path) as children:
            for child in children:
                kind = kind_of_entry(child)
                if kind == "folder":
                    folders.append((child.path, child.is_symlink()))
                elif kind != "file":
                    if kind in ("special", "dangling"):  # what is hidden may be on its way to another name
                        odd.add((child.name, kind))
                elif not is_unfinished_name(child.name):
                    before = listing.files.get(child.name)
                    if look_at_all or before is None or before.inode != child.inode() or child.name in told:
                        with contextlib.suppress(OSError):  # taken away meanwhile
                            status = child.stat()
                            files[child.name] = FileState(child.inode(), status.st_size, status.st_mtime_ns)
                    else:
                        files[child.name] = before
        for name, reason in sorted(odd - listing.odd):
            self._left_out(os.path.join(path, name), reason)
        if listing.listed is None and files:
            self._take_over(path, listing)
        if listing.listed is None and self._memory is not None:
            for name, state in files.items():
                if self._memory.holds(WatchedFile(os.path.relpath(os.path.join(path, name), self._folder), state)):
                    listing.files[name] = state
                    self._know(state)
        new = [name for name, state in files.items() if listing.files.get(name) != state and not self._is_known(state)]
        self._forget_folders({inner for inner, _ in listing.folders} - {inner for inner, _ in folders})
        listing.files, listing.folders, listing.odd = files, tuple(sorted(folders)), frozenset(odd)
        listing.told &= files.keys()
        listing.listed = time.monotonic()
        return new

    def _is_known(self, state: FileState) -> bool:
        return state.is_distinct and state in self._known

    def _forget_folders(self, gone: set[str]) -> None:
        for folder in gone:
            for path in [path for path in self._listings if path == folder or path.startswith(folder + os.sep)]:
                del self._listings[path]

    def _take_over(self, path: str, listing: Listing) -> None:
        """Let `listing` know what other folders at its path held: a share that is mounted again has another number."""
        listings = self._listings[path]
        for key in [key for key, other in listings.items() if other is not listing]:
            listing.files |= listings.pop(key).files
