"""The parts of a study whose state is known, and their photos: which folders they lie in."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from rstpm_edge.errors import DatasetError
from rstpm_edge.image.listing import Listing, kind_of_entry, list_folder, natural_order

Reference: TypeAlias = Literal["good", "borderline", "bad"]

REFERENCES: tuple[Reference, ...] = get_args(Reference)
LEAST_REPEATS = 3
LAYOUT = "DATA/good/PART/*.png, DATA/bad/PART/*.png, and DATA/borderline/PART/*.png where there are such parts"


@dataclass(frozen=True)
class ReferencePart:
    """A part of known state, and its photos, three or more, in natural order. `name` is that of its folder."""

    name: str
    reference: Reference
    photos: tuple[Path, ...]


def find_parts(data: Path) -> tuple[list[ReferencePart], list[str]]:
    """The parts of a study, good ones first, and sentences about files that were left out.

    A folder in `data`/good, bad or borderline is a part; photos in it and below it are its repeats.

    Raises DatasetError for another layout, a part with too few photos, a part that has two references, and where no
    part is good, or none bad; ImageError where a folder cannot be listed.
    """
    folders = _folders(data)
    others = [folder.name for folder in folders if folder.name not in REFERENCES]
    if others or not folders:
        found = f"the folder {others[0]}" if others else "no folders"
        raise DatasetError(f"{data} has {found}, but a study has {LAYOUT}.")
    parts: list[ReferencePart] = []
    notes: list[str] = []
    for reference in REFERENCES:
        if data / reference in folders:
            for part, listing in _parts_of(data / reference, reference):
                parts.append(part)
                notes += filter(None, [listing.note()])
    for reference in ("good", "bad"):
        if not any(part.reference == reference for part in parts):
            raise DatasetError(f"{data} has no {reference} parts, but a study needs good and bad ones: {LAYOUT}.")
    _check_one_reference(data, parts)
    return parts, notes


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as children:
            found = [Path(child.path) for child in children if kind_of_entry(child) == "folder"]
    except OSError as error:
        raise DatasetError(f"Cannot list the folder {folder}: {error.strerror}.") from error
    return sorted(found, key=natural_order)


def _parts_of(folder: Path, reference: Reference) -> list[tuple[ReferencePart, Listing]]:
    loose = list_folder(folder, recursive=False).images
    if loose:
        raise DatasetError(
            f"{loose[0]} lies in no folder of a part: put the photos of each part into a folder of its own, "
            f"{folder / 'PART'}."
        )
    found = []
    for child in _folders(folder):
        listing = list_folder(child)
        if len(listing.images) < LEAST_REPEATS:
            about = listing.about_left_out()
            raise DatasetError(
                f"The part {child} has {len(listing.images)} photos{f' ({about})' if about else ''}, but needs "
                f"{LEAST_REPEATS} or more: photograph it again, each time put in anew."
            )
        found.append((ReferencePart(child.name, reference, listing.images), listing))
    return found


def _check_one_reference(data: Path, parts: list[ReferencePart]) -> None:
    """Raises DatasetError for a part under two references, by its name or by links to one folder."""
    seen: dict[str, ReferencePart] = {}
    for part in parts:
        folder = data / part.reference / part.name
        for key in (part.name.casefold(), os.path.realpath(folder)):
            other = seen.setdefault(key, part)
            if other is not part:
                raise DatasetError(
                    f"{folder} and {data / other.reference / other.name} are one part: give each part one folder and "
                    "one reference, and different parts different names."
                )
