"""Which photos are held out: by the seed, and never beside a copy that was learned from."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from small_training import teach

from rstpm_edge.image.duplicates import Duplicates
from rstpm_edge.progress import Progress
from rstpm_edge.training.data.holdout import about_copies, split
from rstpm_edge.training.learning.run_config import load_config


@pytest.mark.parametrize(("count", "holdout", "held"), [(12, 0.25, 3), (5, 0.01, 1), (5, 0.99, 3), (100, 0.2, 20)])
def test_the_split(count: int, holdout: float, held: int) -> None:
    for seed in range(3):
        held_out, learned = split(count, holdout, seed)
        assert len(held_out) == held
        assert sorted([*held_out, *learned]) == list(range(count))


def test_copies_are_never_on_both_sides_of_the_split() -> None:
    copies = [(0, 1, 2, 3, 4, 5, 6, 7, 8, 9), (20, 50), (30, 90)]
    sides = set()
    for seed in range(30):
        held_out, learned = map(set, split(100, 0.2, seed, [Duplicates(rows, exact=False) for rows in copies]))
        for rows in copies:
            assert not (set(rows) & held_out and set(rows) & learned)
            assert len(set(rows) & held_out) <= 1  # a part counts once
            sides.add((rows, bool(set(rows) & held_out)))
        assert not held_out & learned
        left_aside = set(range(100)) - held_out - learned
        assert left_aside <= {row for rows in copies for row in rows}
        assert 9 <= len(held_out) <= 20
        assert len(learned) >= 71
    assert len(sides) == 6  # each group is held out now and then
    for seed in range(3):  # without copies, as ever
        for rows, plain in zip(split(50, 0.2, seed, []), split(50, 0.2, seed), strict=True):
            np.testing.assert_array_equal(rows, plain)


@pytest.mark.parametrize(
    ("copies", "held"), [([range(25)], 15), ([range(i, i + 2) for i in range(0, 100, 2)], 10), ([range(90)], 2)]
)
def test_a_fifth_of_different_photos_is_held_out(copies: list[range], held: int) -> None:
    """A frozen frame, say, that was saved again and again takes no place of the others."""
    for seed in range(50):
        held_out, learned = split(100, 0.2, seed, [Duplicates(tuple(rows), exact=True) for rows in copies])
        assert len(held_out) == held
        assert all(
            (np.isin(rows, held_out).sum(), np.isin(rows, learned).sum()) in ((0, len(rows)), (1, 0)) for rows in copies
        )


def test_photos_that_are_all_copies_are_split_one_by_one() -> None:
    held_out, learned = split(10, 0.2, 0, [Duplicates(tuple(range(10)), exact=True)])
    assert (len(held_out), len(learned)) == (2, 8)


def test_one_photo_beside_copies_of_another_is_held_out() -> None:
    copies = [Duplicates(tuple(range(1, 10)), exact=True)]
    held_out, learned = split(10, 0.2, 0, copies)
    assert (held_out.tolist(), learned.tolist()) == ([0], list(range(1, 10)))
    assert "means nothing" not in about_copies(copies, held_out, learned)


def test_a_photo_taken_twice_is_told_and_not_held_out_beside_its_copy(parts: Path, tmp_path: Path) -> None:
    good = Path(shutil.copytree(parts / "train" / "good", tmp_path / "good"))
    for copy in range(3):
        shutil.copy(good / "003.png", good / f"copy{copy}.png")
    for seed in range(3):
        said: list[Progress] = []
        folder = teach(good, tmp_path / f"run{seed}", epochs=1, seed=seed, report=said.append)
        (warning,) = [progress.warning for progress in said if progress.warning]
        assert warning.startswith("4 photos are the same or nearly so, in one group.")
        config = load_config(folder)
        same = {"003.png", "copy0.png", "copy1.png", "copy2.png"}
        learned, held_out, aside = (
            {photo.name for photo in side} & same for side in (config.train, config.holdout, config.aside)
        )
        assert (learned, held_out, aside) == (same, set(), set()) or (len(held_out), len(aside)) == (1, 3)
        assert len(config.train) + len(config.holdout) + len(config.aside) == 15
