"""What a person says of a part."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from rstpm_edge.errors import UsageError

# acknowledged: a reject was seen, and is one. good: a good part was rejected. defect: one was missed. comment: words
# alone. withdrawn: what was said before does not count.
NoteKind: TypeAlias = Literal["acknowledged", "good", "defect", "comment", "withdrawn"]

MOST_COMMENT, MOST_PERSON = 2000, 100  # characters


@dataclass(frozen=True)
class Note:
    """`made` is when, in ms since 1970; `person` is the name that was typed, None without one."""

    part: int
    made: int
    person: str | None
    kind: NoteKind
    comment: str


_KINDS: dict[str, NoteKind] = {kind: kind for kind in get_args(NoteKind)}


def check_note(kind: str, person: str | None, comment: str, verdict: str) -> NoteKind:
    """Raises UsageError for a note that says nothing, or that does not fit what was judged."""
    found = _KINDS.get(kind)
    if found is None:
        raise UsageError(f"A note is one of {', '.join(_KINDS)}, not {kind[:50]!r}.")
    if len(comment) > MOST_COMMENT or len(person or "") > MOST_PERSON:
        raise UsageError(f"A comment has at most {MOST_COMMENT} characters, and a name {MOST_PERSON}.")
    if kind == "comment" and not comment.strip():
        raise UsageError("The comment is empty.")
    if kind == "acknowledged" and verdict == "normal":
        raise UsageError("The part was not rejected: there is nothing to acknowledge.")
    if kind == "good" and verdict not in ("anomalous", "invalid"):
        raise UsageError("The part was not rejected.")
    if kind == "defect" and verdict != "normal":
        raise UsageError("The part was not passed as good, so nothing was missed.")
    return found


def standing(notes: list[Note]) -> NoteKind | None:
    """What holds of a part: the last decision; None where there is none, or it was withdrawn."""
    decisions = [note.kind for note in notes if note.kind != "comment"]
    return decisions[-1] if decisions and decisions[-1] != "withdrawn" else None
