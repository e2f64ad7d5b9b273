"""A folder into which somebody else writes images, which are judged as they arrive."""

import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rstpm_edge.errors import SourceError
from rstpm_edge.image.listing import PHRASES, Reason, kind_of_file
from rstpm_edge.sources.file_state import FileState, Memory, WatchedFile
from rstpm_edge.sources.files import image_frame
from rstpm_edge.sources.frames import Failure, Frame, Item, SourceReport
from rstpm_edge.sources.new_files import Listing, NewFiles
from rstpm_edge.sources.open_for_writing import is_open_for_writing, is_unfilled

POLL = 0.1  # seconds; asked rather than notified, since network folders notify of nothing
SETTLED = 0.2  # seconds without a change after which a file may be whole, where nobody knows who writes it
UNFILLED = 10  # times as long, where it has holes, or blocks of zeros
GIVEN_UP = 5.0  # seconds without a change after which a file that cannot be read never will be
FATAL = 3  # processes in a row that died at a file, after which it is not tried again: it may have killed them
GONE = (FileNotFoundError, NotADirectoryError)  # of a file that was taken away; any other error may pass
HELD = 30.0  # seconds without a change after which a file that somebody still has open for writing is told of


class LeftOut:
    """What a watched folder holds that is not judged: counted, and `say` gets a sentence on the first of each kind."""

    def __init__(self, say: Callable[[str], None]) -> None:
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


@dataclass
class _Arrival:
    """A new file: its folder, its state when last looked at, since when it has it, and when to try to read it.

    `told` says that it has been told of: it stayed open for writing, or could not be opened, since `failing`.
    """

    listing: Listing
    state: FileState | None = None
    since: float = 0.0
    next_try: float = 0.0
    told: bool = False
    failing: float | None = None


class _HeldOpen(Exception):
    """A file that stays open for writing."""


class WatchedFolder:
    """Images that are written into `folder` or below it from now on; iterating gives None when there is none now.

    An image is taken when nobody has its file open for writing any more, as far as the kernel tells, when it has not
    changed for `settle` seconds, and can be decoded. Where a part of it may not be written yet, since it has holes, or
    blocks of zeros and nobody knows its writers, it is taken after ten times as long; where it was renamed into its
    place, at once. A file that cannot be read for five seconds after its last change, or that is held open for thirty,
    is a failure; one that cannot be opened then is, too, and is tried further. A file that is written to later on, or
    whose name another one takes, is new; one that is moved or renamed is not, as far as its time stamp tells it. Links
    are followed as `list_folder` does. `leave_out` are folders in it whose images are not looked at. With `memory`,
    images that are there already are taken, too, but for those that it holds; one at which three processes died is a
    failure. `say` gets a sentence on the first file of each kind that is no image.
    When the folder goes away, `report` is called with a sentence and False, and once more, with True, when it is back.

    Raises SourceError when there is no such folder.
    """

    def __init__(
        self,
        folder: Path,
        leave_out: Sequence[Path] = (),
        *,
        settle: float = SETTLED,
        memory: Memory | None = None,
        report: SourceReport = lambda sentence, there: None,
        say: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        if not os.path.isdir(folder):
            problem = "it is no folder" if os.path.exists(folder) else "it is not there"
            raise SourceError(f"Cannot watch {folder}: {problem}.")
        if not _may_be_listed(folder):
            raise SourceError(f"Cannot watch {folder}: no permission to list it.")
        self.left_out = LeftOut(say)
        self._folder = folder
        self._settle = settle
        self._memory = memory
        self._report = report
        self._reachable = True
        self._arrivals: dict[Path, _Arrival] = {}
        self._files = NewFiles(folder, leave_out, self.left_out, memory)

    def __iter__(self) -> Iterator[Item]:
        while True:
            taken = False
            if self._is_reachable():
                for path, listing in self._files.find():
                    self._arrivals.setdefault(path, _Arrival(listing))
                for path in list(self._arrivals):
                    item = self._look_at(path)
                    if item is not None:
                        taken = True
                        yield item
            if not taken:
                yield None
                time.sleep(POLL)

    def summary(self) -> str:
        """What was left out, for the end; empty where nothing was."""
        return self.left_out.summary()

    def close(self) -> None:
        """Watch no more."""
        self._files.close()

    def _is_reachable(self) -> bool:
        """Whether the folder is there; tells of it where that has changed."""
        if self._reachable != (os.path.isdir(self._folder) and _may_be_listed(self._folder)):
            self._reachable = not self._reachable
            says = "is back." if self._reachable else "has gone; waiting for it."
            self._report(f"The folder {self._folder} {says}", self._reachable)
            for arrival in self._arrivals.values():
                arrival.failing = None
                arrival.state = None  # nobody could write meanwhile: no time in which it did not change
        return self._reachable

    def _look_at(self, path: Path) -> Item:
        """The image, when its file is whole; it then is no arrival any more."""
        arrival, name = self._arrivals[path], path.name
        listing, now = arrival.listing, time.monotonic()
        if arrival.failing is not None and now < arrival.next_try:
            return None
        try:
            state, taken = _state_of(path)
            if state != arrival.state:
                arrival.state, arrival.since, arrival.told, arrival.failing = state, now, False, None
                arrival.next_try = now + (0.0 if name in listing.written.moved else self._settle)
            if now < arrival.next_try or not self._is_whole(path, arrival, now - arrival.since):
                return None
            kind = kind_of_file(path)
            item: Item = None
            if kind == "image":
                item = self._read(path, state, taken)
                if (state, taken) != _state_of(path):  # written to while it was read
                    return None
                if isinstance(item, Frame) and is_open_for_writing(path):
                    return None
        except _HeldOpen as held:
            return Failure(str(path), str(held))
        except GONE:
            # Taken away, or renamed: then it arrives under its other name. Or the whole folder has gone: then it is
            # listed again when that is back, for what it is, an image that has not been judged.
            listing.forget(name)
            del self._arrivals[path]
            return None
        except OSError as error:
            return self._unreadable(path, arrival, error)
        arrival.failing = None
        if isinstance(item, Failure) and now - arrival.since < max(GIVEN_UP, 2 * self._settle):
            arrival.next_try = now + max(self._settle, POLL, (now - arrival.since) / 2)
            return None
        if kind != "image":
            self._leave_out(path, listing, kind)
        self._files.remember(name, listing, state)
        del self._arrivals[path]
        return item

    def _unreadable(self, path: Path, arrival: _Arrival, error: OSError) -> Failure | None:
        """What is told of a file that cannot be looked at or opened, as on a share: once, when that lasts.

        It is tried again and again: whether the file is damaged, or the share away for a moment, nobody knows.
        """
        now = time.monotonic()
        if arrival.failing is None:
            arrival.failing = now
        lasts = now - arrival.failing
        arrival.next_try = now + max(self._settle, POLL, min(lasts / 2, GIVEN_UP))
        if arrival.told or lasts < max(GIVEN_UP, 2 * self._settle):
            return None
        arrival.told = True
        kind = kind_of_file(path)
        if kind != "image":
            self._leave_out(path, arrival.listing, kind)
            return None
        return Failure(
            str(path), f"Cannot read {path}: {error.strerror or error}; it is judged when it can be read again."
        )

    def _leave_out(self, path: Path, listing: Listing, reason: Reason) -> None:
        if path.name not in listing.told:
            listing.told.add(path.name)
            self.left_out(path, reason)

    def _read(self, path: Path, state: FileState, taken: float) -> Frame | Failure:
        file = WatchedFile(os.path.relpath(path, self._folder), state)
        if self._memory is not None and (deaths := self._memory.begin(file)) >= FATAL:
            message = f"Cannot judge {path}: {deaths} processes in a row ended while they did; it is not tried again."
            return Failure(str(path), message, file=file)
        return replace(image_frame(path, file.name, taken=taken), file=file)

    def _is_whole(self, path: Path, arrival: _Arrival, unchanged: float) -> bool:
        """Whether all of a file may be written that has not changed for so many seconds; if not, when to look again.

        Raises _HeldOpen, once, where an image is open for long.
        """
        written, name = arrival.listing.written, path.name
        if not os.access(path, os.R_OK):  # whoever reads the image says so
            return True
        is_open = is_open_for_writing(path, since=arrival.since)
        if is_open is None and name in written.unclosed and unchanged < HELD:  # later on: as if a notice was lost
            is_open = True
        if is_open:
            if unchanged >= HELD and not arrival.told and kind_of_file(path) == "image":  # and no log, for instance
                arrival.told = True
                raise _HeldOpen(
                    f"Cannot read {path}: it has not changed for {HELD:.0f} seconds, and another process still has it "
                    "open for writing; it is judged when that closes it."
                )
            arrival.next_try = time.monotonic() + min(max(POLL, unchanged / 10), 1.0)
            return False
        if name in written.moved:  # whoever renames a file says that it is whole
            return True
        is_known = is_open is False or name in written.closed
        if unchanged < UNFILLED * self._settle and is_unfilled(path, look=not is_known):
            arrival.next_try = time.monotonic() + min(POLL, self._settle)
            return False
        return True


def _may_be_listed(folder: Path) -> bool:
    return os.access(folder, os.R_OK | os.X_OK)


def _state_of(path: Path) -> tuple[FileState, float]:
    """The file's state, and when it was written. Raises OSError: one of `GONE` where there is no regular file."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError("it is not a regular file")
    return FileState(os.lstat(path).st_ino, status.st_size, status.st_mtime_ns), status.st_mtime
