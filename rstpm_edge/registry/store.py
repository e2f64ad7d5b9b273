"""Files by what they hold: written once, under a name that other bytes cannot have."""

import contextlib
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from rstpm_edge.atomic_files import make_folder, write_bytes
from rstpm_edge.errors import ModelError, OutputError


def put(folder: Path, files: Mapping[str, bytes]) -> None:
    """See to it that `folder` holds these files, and that a power cut does not take them away.

    One that is there is left alone, unless it is damaged. Raises OutputError; what was written until then is whole.
    """
    make_folder(folder)
    for name, content in files.items():
        if _sha256(folder / name) != sha256(content).hexdigest():
            write_bytes(folder / name, content)
    for made in (folder, folder.parent):
        sync_folder(made)


def check_file(path: Path, digest: str) -> None:
    """Raises ModelError where the file is missing, or has another SHA-256 (hexadecimal) than `digest`."""
    found = _sha256(path)
    if found is None:
        raise ModelError(f"The registry lacks {path}: copy it from a backup, or add the same model again.")
    if found != digest:
        raise ModelError(
            f"The registry's file {path} is damaged: its SHA-256 is {found}. Copy it from a backup, or add the same "
            "model again."
        )


def sync_folder(folder: Path) -> None:
    """Let the names in a folder outlast a power cut. Raises OutputError."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with contextlib.suppress(PermissionError):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise OutputError(f"Cannot write to the folder {folder}: {error.strerror or error}.") from error


def _sha256(path: Path) -> str | None:
    """In hexadecimal; None where there is no such file, or none that can be read."""
    digest = sha256()
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    except OSError:
        return None
    return digest.hexdigest()
