"""Files that are either written whole or not at all."""

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rstpm_edge.errors import OutputError


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to; rename it to `path` when the block ends well.

    The rename is atomic, so a reader (or a crash, or a full disk) never sees half a file. Whatever goes
    wrong, the temporary file is removed and an older `path` stays as it was.

    Where `path` is a link, the file that it leads to is written, as by any program.

    Raises OutputError, with one clear sentence, for every OSError inside the block, and when `path` is a
    folder or a device: a rename would replace /dev/null itself.
    """
    target = Path(os.path.realpath(path))
    # Not tempfile.mkstemp: its files are for their owner only, and reading the umask to widen them would
    # change it for a moment under the feet of other threads.
    temporary = target.with_name(f".{uuid.uuid4().hex}{target.suffix}") if target.name else target
    created = False
    try:
        if target.exists() and not target.is_file():
            raise OSError("it is not a regular file")
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        created = True
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise OutputError(f"Cannot write {os.fspath(path)}: {error.strerror or error}.") from error
    finally:
        if created:
            with contextlib.suppress(OSError):
                temporary.unlink()


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` to `path`, whole or not at all. Raises OutputError."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # a rename that overtakes its data leaves an empty file after a power cut


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write `content` as JSON, whole or not at all. Raises OutputError; ValueError for NaN and infinity."""
    write_bytes(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


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


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Create the folder and its parents where missing. Raises OutputError."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot create the folder {folder}: {error.strerror or error}.") from error
    return folder
