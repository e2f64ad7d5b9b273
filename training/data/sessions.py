"""Which photos were taken together, of one day, roll, batch or item: those of a session are more alike than others."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.errors import UsageError
from rstpm_edge.image.duplicates import Duplicates

from .holdout import wanted_count
from .images import some_of

FOLDERS = "folder"  # the rule by which a session is a folder
LEAST = 2  # sessions to hold out, of which one can be left out, and to learn from
LARGE = 1.5  # times as many photos as wanted: sessions that would make more of them are not held out


def session_names(names: Sequence[str], rule: str) -> tuple[str, ...]:
    """The session of each photo, by its name relative to the folder of all, with "/" between folders.

    `rule` is "folder", by which photos of a folder are one session, or a regular expression that is found in each name,
    and whose first group is the session.

    Raises UsageError for a rule that is none, that does not fit all names, or that makes one session of them.
    """
    if rule == FOLDERS:
        found: list[str | None] = [PurePosixPath(name).parent.as_posix() for name in names]
    else:
        expression = _compiled(rule)
        matches = [expression.search(name) for name in names]
        found = [match and match[1] for match in matches]
    missing = [name for name, session in zip(names, found, strict=True) if not session]
    if missing:
        which = "no photo's name" if len(missing) == len(names) else f"not {some_of(missing)}"
        raise UsageError(
            f"`sessions` fits {which}: its group must find the session of each of the {len(names)} photos."
        )
    sessions = tuple(str(session) for session in found)
    if len(set(sessions)) == 1:
        raise UsageError(
            f"All {len(names)} photos are of one session by `sessions`{_shown(sessions[0])}: with one, nothing can be "
            "said of others."
        )
    return sessions


def _compiled(rule: str) -> re.Pattern[str]:
    try:
        expression = re.compile(rule)
    except re.error as error:
        raise UsageError(
            f"`sessions` is the word folder or a regular expression, and {rule!r} is none: {error}."
        ) from error
    if not expression.groups:
        raise UsageError(
            f"`sessions` has no group: put what tells sessions apart into parentheses, as in 'strip([0-9]+)_', not "
            f"{rule!r}."
        )
    return expression


def _shown(session: str) -> str:
    return "" if session == "." else f", {session}"


def split_sessions(
    sessions: Sequence[str], holdout: float, seed: int, copies: Sequence[Duplicates] = ()
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Rows of whole sessions that are held out, a share `holdout` of the photos or a little more, and of those that are
    learned from; each ascending. None where there are too few sessions to hold out two and to learn from two.

    A held-out photo that is a copy of one that is learned from is in neither, nor is the second of two held-out copies.
    """
    names, of_row = np.unique(np.asarray(sessions), return_inverse=True)
    wanted = wanted_count(len(of_row), holdout)
    held = np.zeros(len(names), np.bool_)
    sizes = np.bincount(of_row)
    for session in np.random.default_rng(seed).permutation(len(names)):
        so_far = int(sizes[held].sum())
        if so_far >= wanted:
            break
        if so_far + sizes[session] <= max(LARGE * wanted, wanted + 1):
            held[session] = True
    rows = held[of_row]
    learned = ~rows
    for same in copies:
        copy = np.array(same.rows)
        inside = copy[rows[copy]]
        rows[inside if learned[copy].any() else inside[1:]] = False
    if len(set(of_row[rows])) < LEAST or len(names) - held.sum() < LEAST or learned.sum() < 2:
        return None
    return np.flatnonzero(rows), np.flatnonzero(learned)
