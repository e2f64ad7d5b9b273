"""Photos that were taken together: which they are, and whole sessions that are held out."""

from __future__ import annotations

import pytest

from rstpm_edge.errors import UsageError
from rstpm_edge.image.duplicates import Duplicates
from rstpm_edge.training.data.sessions import session_names, split_sessions

STRIPS = [f"strip{strip:02}_{tile}.png" for strip in range(1, 11) for tile in range(8)]


def test_a_session_is_a_folder_or_what_a_group_finds() -> None:
    assert session_names(["a/1.png", "b/c/1.png", "2.png"], "folder") == ("a", "b/c", ".")
    assert session_names(["x_strip01_7.png", "strip2_1.png"], "strip([0-9]+)_") == ("01", "2")
    assert session_names(["a/1.png", "b/1.png"], "^(.+?)/") == ("a", "b")


@pytest.mark.parametrize(
    ("names", "rule", "says"),
    [
        (STRIPS, "strip(", "`sessions` is the word folder or a regular expression, and 'strip(' is none: missing ), "),
        (STRIPS, "strip[0-9]+_", "`sessions` has no group: put what tells sessions apart into parentheses, as in "),
        (STRIPS, "roll([0-9]+)", "`sessions` fits no photo's name: its group must find the session of each of the 80 "),
        (
            [*STRIPS, "odd.png"],
            "strip([0-9]+)",
            "`sessions` fits not odd.png: its group must find the session of each ",
        ),
        (STRIPS, "strip([a-z]*)", "`sessions` fits no photo's name"),  # the group is empty
        (STRIPS, "(strip)|(roll)", "All 80 photos are of one session by `sessions`, strip: with one, nothing can be "),
        (
            ["a.png", "b.png"],
            "folder",
            "All 2 photos are of one session by `sessions`: with one, nothing can be said of ",
        ),
    ],
)
def test_rules_that_do_not_fit(names: list[str], rule: str, says: str) -> None:
    with pytest.raises(UsageError) as error:
        session_names(names, rule)
    assert str(error.value).startswith(says)
    assert "\n" not in str(error.value)


def test_whole_sessions_are_held_out() -> None:
    sessions = session_names(STRIPS, "strip([0-9]+)")
    chosen = set()
    for seed in range(20):
        split = split_sessions(sessions, 0.2, seed)
        assert split is not None
        held, learned = ({sessions[row] for row in rows} for rows in split)
        assert not held & learned
        assert len(held) == 2
        assert sorted([*split[0], *split[1]]) == list(range(80))
        chosen.add(frozenset(held))
    assert len(chosen) > 5


def test_a_session_that_is_most_of_the_photos_is_learned_from() -> None:
    sessions = ["large"] * 60 + [name for name in "abcdefgh" for _ in range(5)]
    for seed in range(10):
        split = split_sessions(sessions, 0.2, seed)
        assert split is not None
        assert "large" not in {sessions[row] for row in split[0]}
        assert 20 <= len(split[0]) <= 30


@pytest.mark.parametrize(("count", "holdout"), [(2, 0.5), (3, 0.2), (5, 0.2), (3, 0.6)])
def test_too_few_sessions_to_hold_out_two_and_learn_from_two(count: int, holdout: float) -> None:
    assert split_sessions([str(i) for i in range(count) for _ in range(10)], holdout, 0) is None


def test_copies_in_other_sessions_have_no_part() -> None:
    sessions = session_names(STRIPS, "strip([0-9]+)")
    split = split_sessions(sessions, 0.2, 0)
    assert split is not None
    held, learned = (rows.tolist() for rows in split)
    copies = [Duplicates((held[0], learned[0]), exact=True), Duplicates((held[1], held[2]), exact=True)]
    again = split_sessions(sessions, 0.2, 0, copies)
    assert again is not None
    assert again[0].tolist() == [row for row in held if row not in (held[0], held[2])]
    assert again[1].tolist() == learned
