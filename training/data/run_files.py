"""The files of a run: how it remembers them, and whether they are still the same."""

import contextlib
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from rstpm_edge.errors import DatasetError, TrainingError
from rstpm_edge.sources.video import open_regular

from .images import MINIMUM_IMAGES


class RecordedFile(NamedTuple):
    """A file as a run remembers it: photos of a camera may all have one size, and the same names each day."""

    name: str
    size: int  # bytes
    crc32: int | None = None  # of its bytes; unknown to runs from before, and of a file that cannot be read


def training_file(data: Path, name: str) -> Path:
    """Where the image `name` of a run on `data` lies: in train/good of the MVTec AD layout, else in `data` itself."""
    mvtec = data / "train" / "good" / name
    return mvtec if mvtec.is_file() else data / name


def recorded_files(
    data: Path,
    recorded: Sequence[RecordedFile],
    otherwise: str,
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Path]:
    """Where the images of a run on `data` lie, as it recorded them. `progress` is called with the number looked at.

    Raises TrainingError, with `otherwise` for what to do, when one of them is missing or another file.
    """
    paths = [training_file(data, file.name) for file in recorded]
    for done, (path, file) in enumerate(zip(paths, recorded, strict=True), 1):
        if not path.is_file() or not _is_still(path, file):
            state = "another file" if path.is_file() else "missing"
            raise TrainingError(f"{file.name} in {data} is {state} since the run began; {otherwise}.")
        progress(done)
    return paths


def _is_still(path: Path, recorded: RecordedFile) -> bool:
    if path.stat().st_size != recorded.size:
        return False
    try:
        return recorded.crc32 is None or _crc32(path) == recorded.crc32
    except OSError:
        return True  # whoever reads the image says why that cannot be done


def _crc32(path: Path) -> int:
    value = 0
    with open_regular(path) as file:
        while part := file.read(1 << 20):
            value = zlib.crc32(part, value)
    return value


def identify(
    files: Sequence[Path], folder: Path | None = None, *, progress: Callable[[int], None] = lambda done: None
) -> tuple[Path, tuple[RecordedFile, ...]]:
    """The folder that all of `files` lie in or below, and each of them with its name relative to that.

    Without `folder` that is the one that lies deepest. `progress` is called with the number of files read. One that
    cannot be read is left for `load_inputs` to name with all others, or to skip.
    Raises DatasetError when none is given.
    """
    if not files:
        raise DatasetError(f"There are no images; training needs at least {MINIMUM_IMAGES} good ones.")
    folder = (folder or Path(os.path.commonpath([path.absolute().parent for path in files]))).absolute()
    recorded = []
    for path in files:
        name = path.absolute().relative_to(folder).as_posix()
        size, crc32 = 0, None
        with contextlib.suppress(OSError):
            size = path.stat().st_size
            crc32 = _crc32(path)
        recorded.append(RecordedFile(name, size, crc32))
        progress(len(recorded))
    return folder, tuple(recorded)
