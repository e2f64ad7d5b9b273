"""Whether the lines of a chain, such as an audit log, are those that were written, all of them, in their order."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from rstpm_edge.errors import OutputError, UsageError
from rstpm_edge.outputs.hash_chain import FIRST, TORN, Link, files_of, is_torn, lines_of, read_link
from rstpm_edge.printable import one_line

MOST = 100  # sentences about one log
ENDED = ("stop", "refused", TORN)  # after any other entry a run goes on; of the last one there is a note already


@dataclass
class Checked:
    """What was found. `faults` are sentences about lines that were changed, removed or inserted; `notes` about what a
    crash, or housekeeping, leaves. `hashes` are those of all entries."""

    files: int = 0
    entries: int = 0
    first: int = 0
    last: int = 0
    last_hash: str = FIRST
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    found: bool = False  # the hash that was looked for

    def fault(self, sentence: str) -> None:
        if len(self.faults) < MOST:
            self.faults.append(sentence)


@dataclass(frozen=True)
class _Place:
    """A line in a file, for people, and what it holds."""

    name: str
    line: bytes
    link: Link | None
    whole: bool  # it ends in a line break


def check_chain(
    path: Path, looked_for: str | None = None, *, each: Callable[[Link], None] = lambda entry: None
) -> Checked:
    """Read the log at `path`, with the files that were set aside, and compare what hangs together.

    `looked_for` is the hash of an entry, kept elsewhere, that must be among them. `each` is called with all entries, in
    their order.

    Raises UsageError where there is no such file, or nothing in it; OutputError where it cannot be read.
    """
    files = files_of(path)
    if not files or path.is_dir():
        raise UsageError(f"There is no audit log {path}; `rstpm-edge infer --audit-log FILE` writes one.")
    checked = Checked(files=len(files))
    before: Link | None = None
    odd: list[_Place] = []  # lines since the last entry
    try:
        for place in _places(files):
            if place.link is None:
                odd.append(place)
                continue
            changed = _explain(checked, odd, place.link)
            _follow(checked, before, place, place.link, changed)
            each(place.link)
            before, odd = place.link, []
            checked.found = checked.found or before.hash == looked_for
    except OSError as error:
        raise OutputError(f"Cannot read {path}: {error.strerror or error}.") from error
    if before is None and not odd:
        raise UsageError(f"There is nothing in the audit log {path}.")
    if odd and not odd[-1].whole and all(is_torn(place.line) for place in odd):
        checked.notes.append(f"{odd[0].name}, the last one, was cut off, as by a crash or a full disk.")
    else:
        for place in odd:
            checked.fault(f"{place.name} was changed, or is none of this log.")
    if before is not None:
        checked.last, checked.last_hash = before.number, before.hash
    if looked_for is not None and not checked.found:
        checked.fault(
            f"No entry has the hash {one_line(looked_for[:64])}: entries at the end were removed, or the log was "
            "written anew."
        )
    return checked


def _places(files: list[Path]) -> Iterator[_Place]:
    for file in files:
        for number, (line, whole) in enumerate(lines_of(file), 1):
            yield _Place(f"Line {number} of {one_line(file)}", line, read_link(line), whole)


def _explain(checked: Checked, odd: list[_Place], after: Link) -> int:
    """Lines that are no entries: cut off by a crash where the entry after them says so, changed otherwise; how many."""
    if not odd:
        return 0
    fields, lines = after.fields, [place.line for place in odd]
    if (
        fields.get("event") == TORN
        and fields.get("sha256") == sha256(b"\n".join(lines)).hexdigest()
        and all(map(is_torn, lines))
    ):
        checked.notes.append(f"{odd[0].name} was cut off, as by a crash or a full disk; entry {after.number} says so.")
        return 0
    for place in odd:
        checked.fault(f"{place.name} was changed, or is none of this log.")
    return len(odd)


def _follow(checked: Checked, before: Link | None, place: _Place, found: Link, changed: int) -> None:
    """Compare an entry with the one before it, between which so many lines were changed."""
    checked.entries += 1
    if before is None:
        checked.first = found.number
        if found.number == 1 and found.previous != FIRST:
            checked.fault(f"{place.name} is entry 1, and yet follows on another.")
        if found.number > 1 and not changed:
            checked.notes.append(f"The log begins with entry {found.number}: what came before is not here.")
        return
    missing = found.number - before.number - 1
    if missing == 0 and found.previous == before.hash:
        if str(found.fields.get("time", "")) < str(before.fields.get("time", "")):
            checked.notes.append(f"The clock was set back before entry {found.number}.")
        if found.fields.get("event") == "start" and before.fields.get("event") not in ENDED:
            checked.notes.append(f"The run before entry {found.number} did not end: it was killed, or crashed.")
    elif missing > 0 and missing != changed:
        lost = f"entry {before.number + 1} is" if missing == 1 else f"{missing} entries are"
        checked.fault(f"{place.name}, entry {found.number}, does not follow on entry {before.number}: {lost} missing.")
    elif missing <= 0:
        checked.fault(
            f"{place.name}, entry {found.number}, does not follow on entry {before.number}: one of the two was "
            "inserted or exchanged."
        )
