"""Parts on which the station was wrong: their photos, in a folder that the next training and evaluation can take.

corrections/good/*        good parts that were rejected: beside the photos that `train` learns from
corrections/defective/*   defects that passed: for `evaluate`, never to be learned from
corrections/comments.csv  who said so, when, and why
"""

import os
from dataclasses import dataclass
from pathlib import Path

from rstpm_edge.atomic_files import make_folder, write_bytes
from rstpm_edge.errors import OutputError
from rstpm_edge.image.listing import is_image_name
from rstpm_edge.outputs.csv_file import csv_row
from rstpm_edge.sources.frames import utc_time
from rstpm_edge.station.history.history import History
from rstpm_edge.station.history.notes import Note
from rstpm_edge.station.history.parts import Part
from rstpm_edge.station.history.pictures import PHOTO

FOLDERS = {"good": "good", "defect": "defective"}  # by the kind of note
COMMENTS = "comments.csv"
_COLUMNS = ("photo", "kind", "id", "name", "verdict", "score", "threshold", "person", "made", "comment")


@dataclass(frozen=True)
class Corrections:
    """In the folder of a history. Nothing here is ever removed for its age, or for want of room."""

    history: History

    def keep(self, note: Note) -> bool:
        """Keep the photo of the part where the note says that the station was wrong; gives whether it was.

        Any other decision takes such a one back, and removes the photo. Raises OutputError.
        """
        if note.kind == "comment":
            return False
        self._remove(note.part)
        found = self.history.parts.get(note.part)
        if note.kind not in FOLDERS or found is None:
            return False
        photo = self._keep(found, FOLDERS[note.kind])
        if photo is not None:
            self._write_comment(found, note, photo)
        return photo is not None

    @property
    def folder(self) -> Path:
        """Where they are."""
        return self.history.folder / "corrections"

    def _keep(self, part: Part, name: str) -> Path | None:
        """Where the photo is now: the file itself where that is still the one that was judged, or a JPEG of it."""
        folder = make_folder(self.folder / name)
        found = _original(part)
        if found is None:
            content = self.history.pictures.read(part.id, PHOTO)
            if content is None:
                return None
            found = ".jpg", content
        ending, content = found
        kept = folder / f"{part.id}{ending}"
        write_bytes(kept, content)
        return kept

    def _remove(self, part: int) -> None:
        for name in FOLDERS.values():
            for kept in (self.folder / name).glob(f"{part}.*"):
                kept.unlink(missing_ok=True)

    def _write_comment(self, part: Part, note: Note, photo: Path) -> None:
        path = self.folder / COMMENTS
        values = (
            photo.relative_to(self.folder).as_posix(),
            note.kind,
            part.id,
            part.name,
            part.verdict,
            part.score,
            part.threshold,
            note.person,
            utc_time(note.made / 1000),
            note.comment,
        )
        try:
            with open(path, "ab") as file:
                file.write((csv_row(_COLUMNS) if file.tell() == 0 else b"") + csv_row(values))
        except OSError as error:
            raise OutputError(f"Cannot write {path}: {error.strerror or error}.") from error


def _original(part: Part) -> tuple[str, bytes] | None:
    """Ending and content of the file that was judged, where it is still there with the time stamp that it had then."""
    taken, path = part.fields.get("time"), Path(part.fields["path"])
    if taken is None or "frame" in part.fields or not is_image_name(path.name) or not path.is_file():
        return None
    try:
        content = path.read_bytes()
        return (path.suffix.lower(), content) if utc_time(os.stat(path).st_mtime) == taken else None
    except OSError:  # somebody has moved it, or may read it alone
        return None
