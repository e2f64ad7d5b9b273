"""Photos by what they hold: two folders of the same content need not both be learned from."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from rstpm_edge.errors import DatasetError
from rstpm_edge.sources.video import open_regular


def files_sha256(files: Sequence[Path], folder: Path) -> str:
    """Of the names of `files` relative to `folder`, and of all that they hold. Raises DatasetError."""
    whole = hashlib.sha256()
    for path in files:
        one = hashlib.sha256()
        try:
            with open_regular(path) as file:
                while part := file.read(1 << 20):
                    one.update(part)
        except OSError as error:
            raise DatasetError(f"Cannot read {path}: {error.strerror or error}.") from error
        name = path.relative_to(folder).as_posix()
        whole.update(f"{len(name)} {name} {one.hexdigest()}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()
