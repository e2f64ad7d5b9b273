"""Which files of a folder are images, and in which order they come."""

import os
import re
from pathlib import Path

from rstpm_edge.errors import ImageError

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})


def find_images(folder: str | os.PathLike[str], *, recursive: bool = True) -> list[Path]:
    """Image files in a folder and (`recursive`) the folders below it, in natural order: 2.png before 10.png.

    Judged by their extension; hidden files and folders are left out. Raises ImageError where a folder cannot
    be listed.
    """
    found: list[Path] = []

    def give_up(error: OSError) -> None:
        raise ImageError(f"Cannot list the folder {error.filename}: {error.strerror}.") from error

    for parent, folders, names in os.walk(folder, onerror=give_up):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        found += [Path(parent, name) for name in names if is_image_name(name)]
    return sorted(found, key=natural_order)


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for an image: by its extension, unless it is hidden."""
    return Path(name).suffix.lower() in EXTENSIONS and not name.startswith(".")


def natural_order(path: Path) -> tuple[tuple[tuple[int, str, int], ...], ...]:
    """Sort key: 2.png before 10.png, and each folder's files together."""

    # Part by part. Numbers sort before text, and by value.
    def key(run: str) -> tuple[int, str, int]:
        return (0, "", int(run)) if run.isdecimal() else (1, run.lower(), 0)

    return tuple(tuple(key(run) for run in re.findall(r"\d+|\D+", part)) for part in path.parts)
