"""Which images an archive holds: a folder, a glob, Parquet files, or any of these at an address that fsspec knows."""

import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from rstpm_edge.errors import ImageError, SourceError, UsageError
from rstpm_edge.fleet_score.items import table_of
from rstpm_edge.fleet_score.parquet_images import PARQUET, items_of_parquet
from rstpm_edge.image.listing import is_image_name, list_folder
from rstpm_edge.printable import without_password

_WILD = "*?["


@dataclass(frozen=True)
class Archive:
    """`items` is an Arrow table of schema ITEMS, in the order of the listing; `note` says what was left out."""

    items: Any
    note: str | None = None


def list_archive(archive: str, column: str | None = None) -> Archive:
    """The images of `archive`; `column` is that of their bytes in Parquet, None for the only one that can be.

    Raises SourceError where there are none or nothing can be listed, UsageError for an address or column that does not
    work.
    """
    found = _of_address(archive) if "://" in archive else _of_disk(archive)
    tables = [name for name in found.names if name.lower().endswith(PARQUET)]
    images = [name for name in found.names if not name.lower().endswith(PARQUET)]
    if tables and images:
        raise UsageError(
            f"{without_password(archive)} holds both images and Parquet files: name one kind, such as "
            f"'{without_password(archive).rstrip('/')}/*{PARQUET}'."
        )
    if not found.names:
        about = f": {found.note}" if found.note else "."
        raise SourceError(f"There are no images in {without_password(archive)}{about}")
    described = [(name, *found.states[name]) for name in found.names]
    items = items_of_parquet(described, column) if tables else table_of(described)
    if not len(items):
        raise SourceError(f"The Parquet files of {without_password(archive)} have no rows.")
    return Archive(items, found.note)


@dataclass(frozen=True)
class _Found:
    names: Sequence[str]
    states: Mapping[str, tuple[int, str]]  # size and version
    note: str | None = None


def _of_disk(archive: str) -> _Found:
    path = Path(archive)
    note = None
    if path.is_dir():
        try:
            listing = list_folder(path)
        except ImageError as error:
            raise SourceError(str(error)) from error
        tables = [] if listing.images else [file for files in listing.left_out.values() for file in files]
        names = [str(file) for file in listing.images or tables if listing.images or file.suffix.lower() == PARQUET]
        note = listing.note() if listing.images else None
    elif path.exists():
        names = [archive]
    elif any(sign in archive for sign in _WILD):
        names = sorted(name for name in glob.glob(archive, recursive=True) if os.path.isfile(name) and _wanted(name))
    else:
        raise SourceError(f"There is no folder or file {archive}.")
    names = list(dict.fromkeys(map(os.path.abspath, names)))  # the same ones from wherever the command is run
    return _Found(names, {name: _state(name) for name in names}, note)


def _state(name: str) -> tuple[int, str]:
    try:
        status = os.stat(name)
    except OSError:  # whoever reads it says why that cannot be done
        return -1, ""
    return status.st_size, str(status.st_mtime_ns)


def _of_address(archive: str) -> _Found:
    shown = without_password(archive)
    try:
        files, path = fsspec.core.url_to_fs(archive)
        if any(sign in path for sign in _WILD):
            listed = files.glob(path, detail=True)
        elif files.isdir(path):
            listed = files.find(path, detail=True)
        else:
            listed = {path: files.info(path)}
    except ImportError as error:
        raise UsageError(f"{shown} needs a package that is missing: {error}.") from error
    except (ValueError, OSError) as error:
        raise SourceError(f"Cannot list {shown}: {str(error) or type(error).__name__}.") from error
    except Exception as error:  # of the many packages behind fsspec, each has errors of its own
        raise SourceError(f"Cannot list {shown}: {type(error).__name__}: {error}") from error
    states = {
        files.unstrip_protocol(name): (int(info.get("size") or 0), _version(info))
        for name, info in sorted(listed.items())
        if info.get("type") == "file" and _wanted(name)
    }
    return _Found(_one_kind(states), states)


def _one_kind(names: Iterable[str]) -> list[str]:
    """The images; where there are none, the Parquet files."""
    known = list(names)
    return [name for name in known if not name.lower().endswith(PARQUET)] or known


def _version(info: Mapping[str, Any]) -> str:
    for key in ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "updated", "created"):
        if info.get(key):
            return str(info[key])
    return ""


def _wanted(name: str) -> bool:
    base = os.path.basename(name)
    return not base.startswith(".") and (is_image_name(base) or base.lower().endswith(PARQUET))
