"""What a file is told by, while a folder is watched and after a restart."""

import os
from typing import NamedTuple, Protocol


class FileState(NamedTuple):
    """What a file is told by: another one has another state, and so has the same one once it is written to."""

    inode: int  # of the name; alone it tells little: that of a file that was deleted goes to the next one
    size: int
    changed: int  # ns

    @property
    def is_distinct(self) -> bool:
        """Whether no other file will have it: file systems and copies of whole seconds have one stamp for many."""
        return self.changed % 1_000_000_000 != 0


class WatchedFile(NamedTuple):
    """A file of a watched folder, as it was when it was read."""

    name: str  # the path below the folder
    state: FileState

    @property
    def stored_name(self) -> bytes:
        """The name as the file system has it, which need not be text."""
        return os.fsencode(self.name)


class Memory(Protocol):
    """What is known of files from before the process started."""

    def holds(self, file: WatchedFile) -> bool:
        """Whether the file was judged, or given up."""

    def begin(self, file: WatchedFile) -> int:
        """The file is tried now; gives how many processes in a row have died while they did."""
