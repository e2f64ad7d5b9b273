"""The folder of models: which products there are, and in which versions."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, TypeAlias

from rstpm_edge.errors import UsageError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # of a product or version: may stand in an address as it is
ONLY = "1"  # the version of a product that has one file

Catalogue: TypeAlias = Mapping[str, Mapping[str, Path]]


class Shelf(Protocol):
    """Where a station has its models from.

    `may_exchange` says whether the station may put another model into the place of a file: others have those of a
    registry, too.
    """

    may_exchange: bool

    def catalogue(self) -> Catalogue:
        """What is there now: of each product its versions, the newest at the end, and the file of each."""

    def check(self, path: Path, sha256: str) -> None:
        """Raises ModelError where a file that was loaded is not the one that should lie there."""


class FolderShelf:
    """Names the files of models: of each product its versions, in natural order, and the path of each.

    A folder's NAME.onnx is the version 1 of NAME, and NAME/VERSION.onnx is another one. Files and folders of other
    names are none.
    """

    may_exchange = True

    def __init__(self, folder: Path | None = None, file: Path | None = None) -> None:
        """Give a folder, or the one model of a station.

        Raises UsageError for a folder that is not there, and for a file whose name cannot stand in an address.
        """
        self._folder, self._file = folder, file
        if file is not None and NAME.fullmatch(file.stem) is None:
            raise UsageError(
                f"The model's name {file.stem!r} cannot stand in an address: rename the file to letters, digits, "
                "dots, hyphens and underscores."
            )
        if folder is not None and not os.path.isdir(folder):
            raise UsageError(f"There is no folder {folder} with models.")

    def catalogue(self) -> Catalogue:
        """What is there now. A folder that cannot be listed holds nothing."""
        if self._folder is None:
            assert self._file is not None
            return {self._file.stem: {ONLY: self._file}}
        found: dict[str, dict[str, Path]] = {}
        for entry in _entries(self._folder):
            if os.path.isdir(entry) and NAME.fullmatch(entry.name):
                versions = {model.stem: model for one in _entries(entry) if (model := _model(one)) is not None}
                if versions:
                    found[entry.name] = {**found.get(entry.name, {}), **versions}
            elif (model := _model(entry)) is not None:
                found.setdefault(model.stem, {}).setdefault(ONLY, model)
        return {name: dict(sorted(found[name].items(), key=_age)) for name in sorted(found)}

    def check(self, path: Path, sha256: str) -> None:
        """Whatever lies there is the model."""


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _model(entry: Path) -> Path | None:
    """A model's file; None for anything else."""
    return entry if entry.suffix == ".onnx" and NAME.fullmatch(entry.stem) and os.path.isfile(entry) else None


def _age(version: tuple[str, Path]) -> list[tuple[bool, int, str]]:
    """Sorts 9 before 10, and 2026-02 after 2026-01."""
    parts = re.findall(r"\d+|\D+", version[0])
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]
