"""Copies of a few photos, moved by whole pixels."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rstpm_edge.training.data import shift_augmentation
from rstpm_edge.training.data.shift_augmentation import ENOUGH, MOST, SHIFT, with_shifted_copies


def noise(count: int, height: int = 8, width: int = 12) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("count", "copies"), [(15, 0), (16, MOST), (64, 3), (128, 3), (129, 2), (256, 1), (257, 0), (1000, 0)]
)
def test_the_fewer_photos_the_more_copies(count: int, copies: int) -> None:
    photos = noise(count, 2, 2)
    images = with_shifted_copies(photos, 0)
    assert len(images) == count * (1 + copies)
    np.testing.assert_array_equal(images[:count], photos)
    assert len(images) <= ENOUGH or not copies


def test_a_copy_is_its_photo_moved_by_whole_pixels() -> None:
    photos, reach = noise(60, 18, 20), SHIFT
    images = with_shifted_copies(photos, 0)
    moves = set()
    for row, image in enumerate(images[60:]):
        fits = {
            (y, x)
            for y in range(-reach, reach + 1)
            for x in range(-reach, reach + 1)
            if np.array_equal(  # all but the margin
                image[reach:-reach, reach:-reach],
                photos[row % 60, reach + y : 18 - reach + y, reach + x : 20 - reach + x],
            )
        }
        assert len(fits) == 1
        moves |= fits
    assert len(moves) > 80  # of 169
    assert {y for y, _ in moves} == {x for _, x in moves} == set(range(-reach, reach + 1))


def test_what_comes_in_at_an_edge_mirrors_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shift_augmentation, "SHIFT", 2)
    photos = np.zeros((16, 6, 6, 3), np.uint8)
    photos[:, :, :, 0] = np.arange(6)
    rows = {tuple(image[0, :, 0]) for image in with_shifted_copies(photos, 0)}
    allowed = {(2, 1, 0, 1, 2, 3), (1, 0, 1, 2, 3, 4), (0, 1, 2, 3, 4, 5), (1, 2, 3, 4, 5, 4), (2, 3, 4, 5, 4, 3)}
    assert rows <= allowed
    assert len(rows) > 2


def test_the_same_seed_gives_the_same_copies() -> None:
    photos = noise(16)
    np.testing.assert_array_equal(with_shifted_copies(photos, 5), with_shifted_copies(photos, 5))
    assert not np.array_equal(with_shifted_copies(photos, 5), with_shifted_copies(photos, 6))
