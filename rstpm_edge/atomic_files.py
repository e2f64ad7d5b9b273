"""Files that are either written whole or not at all."""

import contextlib
import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from rstpm_edge.errors import OutputError
from rstpm_edge.temporary_files import beginning, new_temporary, remove_leftovers

LONGEST_NAME = 255  # bytes, on every file system that boxes have


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], *, below: str | os.PathLike[str] | None = None) -> Iterator[BinaryIO]:
    """Give a temporary file beside `path` to write to; rename it to `path` when the block ends well.

    The rename is atomic, so a reader (or a crash, or a full disk) never sees half a file. Whatever goes wrong, the
    temporary file is removed and an older `path` stays as it was. A process that is killed leaves its temporary file;
    the next one that writes to the folder removes it. It is told from one in use by the lock that a writer holds.

    Where `path` is a link, the file that it leads to is written, as by any program. Not so in a folder of results,
    whose names others can foresee: with `below`, a folder that `path` lies in or below, a link at `path` is replaced,
    folders between the two are made where they are missing, and where one is a link, OutputError is raised.

    Raises OutputError, with one clear sentence, for every OSError inside the block, and when `path` is a
    folder or a device: a rename would replace /dev/null itself.
    """
    try:
        with _folder_of(path, below) as (folder, name):
            if _is_taken(folder, name):
                raise OSError("it is not a regular file")
            remove_leftovers(folder)
            file, temporary = new_temporary(folder, name)
            try:
                yield file
                file.flush()
                os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
                raise
            finally:
                with contextlib.suppress(OSError):  # what could not be written has been told
                    file.close()
    except OSError as error:
        raise OutputError(f"Cannot write {os.fspath(path)}: {error.strerror or error}.") from error


def write_bytes(path: str | os.PathLike[str], content: bytes, *, below: str | os.PathLike[str] | None = None) -> None:
    """Write `content` to `path`, whole or not at all; `below` as for `replacing`. Raises OutputError."""
    with replacing(path, below=below) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # a rename that overtakes its data leaves an empty file after a power cut


def write_json(path: str | os.PathLike[str], content: Any, *, below: str | os.PathLike[str] | None = None) -> None:
    """Write `content` as JSON, whole or not at all. Raises OutputError; ValueError for NaN and infinity."""
    write_bytes(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode(), below=below)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise OutputError where `path` cannot be written as things are, before the work whose result it is to hold."""
    target = Path(path)
    folder = Path(os.path.realpath(target)).parent if target.is_symlink() else target.parent
    if target.is_dir():
        raise OutputError(f"Cannot write {target}: it is a folder.")
    if not folder.is_dir():
        raise OutputError(f"Cannot write {target}: there is no folder {folder}.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"Cannot write {target}: no permission to write in the folder {folder.absolute()}.")


def make_folder(path: str | os.PathLike[str], *, below: str | os.PathLike[str] | None = None) -> Path:
    """Create the folder and its parents where missing; `below` as for `replacing`. Raises OutputError."""
    folder = Path(path)
    try:
        if below is None:
            folder.mkdir(parents=True, exist_ok=True)
        else:
            with _folder_of(folder / "x", below):
                pass
    except OSError as error:
        raise OutputError(f"Cannot create the folder {folder}: {error.strerror or error}.") from error
    return folder


def new_file(path: str | os.PathLike[str]) -> BinaryIO:
    """An empty file at `path`, which is open for reading and writing; what was there, a link too, goes.

    Raises OutputError.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666), "w+b")
    except OSError as error:
        raise OutputError(f"Cannot write {os.fspath(path)}: {error.strerror or error}.") from error


def write_new(path: str | os.PathLike[str], content: bytes, *, mode: int) -> None:
    """Write `content` to a file of that mode, whoever's umask allows more, that is not there yet: whole or not at all.

    Raises OutputError; for whatever is there, a link too.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(path, flags, mode), "wb") as file:
            try:
                os.fchmod(file.fileno(), mode)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(path)
                raise
    except OSError as error:
        raise OutputError(f"Cannot write {os.fspath(path)}: {error.strerror or error}.") from error


def drop_link(path: Path) -> None:
    """Remove what lies at `path` where that is a link, which would be followed. Raises OutputError."""
    try:
        if path.is_symlink():
            path.unlink()
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror or error}.") from error


def fitting_name(name: str, ending: str) -> str:
    """`name` + `ending`, where the last part of that path is shortened to the 255 bytes that a name may have.

    Names of one beginning stay apart.
    """
    folder, last = os.path.split(name)
    room = LONGEST_NAME - len(os.fsencode(ending))
    if len(os.fsencode(last)) > room:
        digest = hashlib.sha256(os.fsencode(last)).hexdigest()[:8]
        last = f"{beginning(last, room - 9)}~{digest}"
    return os.path.join(folder, last + ending)


@contextlib.contextmanager
def _folder_of(path: str | os.PathLike[str], below: str | os.PathLike[str] | None) -> Iterator[tuple[int, str]]:
    """A descriptor of the folder that `path` lies in, and its name there. Raises OSError.

    All that follows names files by it, so that no folder can be changed for a link meanwhile.
    """
    if below is None:
        target = os.path.realpath(path)
        between: list[str] = []
        start, name = os.path.split(target)
    else:
        start = os.fspath(below)
        *between, name = os.path.relpath(path, start).split(os.sep)
        if os.pardir in (*between, name):
            raise OSError(f"it does not lie in {start}")
    if name in ("", os.curdir):
        raise OSError("it is not a regular file")
    folder = os.open(start, os.O_PATH | os.O_DIRECTORY)
    try:
        for part in between:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, dir_fd=folder)
            try:
                inner = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            except OSError:
                status = os.stat(part, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode):
                    raise OSError(
                        f"the folder {part} on the way is a link, which may lead out of {start}; remove it"
                    ) from None
                if not stat.S_ISDIR(status.st_mode):
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
                raise
            os.close(folder)
            folder = inner
        yield folder, name
    finally:
        os.close(folder)


def _is_taken(folder: int, name: str) -> bool:
    """Whether there is something at `name` that must not be replaced."""
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISLNK(mode))
