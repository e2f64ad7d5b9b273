"""Copies of a few photos, moved by whole pixels."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rstpm_edge.training.data.shift_augmentation import ENOUGH, MOST, with_shifted_copies


def noise(count: int, height: int = 8, width: int = 12) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("count", "copies"), [(15, 0), (16, MOST), (64, 3), (128, 3), (129, 2), (256, 1), (257, 0), (1000, 0)]
)
def test_the_fewer_photos_the_more_copies(count: int, copies: int) -> None:
    photos = noise(count, 2, 2)
    images = with_shifted_copies(photos, 1, 0)
    assert len(images) == count * (1 + copies)
    np.testing.assert_array_equal(images[:count], photos)
    assert len(images) <= ENOUGH or not copies


def test_a_copy_is_its_photo_moved_by_whole_pixels() -> None:
    photos, reach = noise(20), 3
    images = with_shifted_copies(photos, reach, 0)
    moves = set()
    for row, image in enumerate(images[20:]):
        fits = {
            (y, x)
            for y in range(-reach, reach + 1)
            for x in range(-reach, reach + 1)
            if np.array_equal(  # all but the margin
                image[reach:-reach, reach:-reach],
                photos[row % 20, reach + y : 8 - reach + y, reach + x : 12 - reach + x],
            )
        }
        assert len(fits) == 1
        moves |= fits
    assert len(moves) > 30  # of 49
    assert {y for y, _ in moves} == {x for _, x in moves} == set(range(-reach, reach + 1))


def test_what_comes_in_at_an_edge_mirrors_what_is_there() -> None:
    photos = np.zeros((16, 6, 6, 3), np.uint8)
    photos[:, :, :, 0] = np.arange(6)
    rows = {tuple(image[0, :, 0]) for image in with_shifted_copies(photos, 2, 0)}
    allowed = {(2, 1, 0, 1, 2, 3), (1, 0, 1, 2, 3, 4), (0, 1, 2, 3, 4, 5), (1, 2, 3, 4, 5, 4), (2, 3, 4, 5, 4, 3)}
    assert rows <= allowed
    assert len(rows) > 2


def test_the_same_seed_gives_the_same_copies() -> None:
    photos = noise(16)
    np.testing.assert_array_equal(with_shifted_copies(photos, 3, 5), with_shifted_copies(photos, 3, 5))
    assert not np.array_equal(with_shifted_copies(photos, 3, 5), with_shifted_copies(photos, 3, 6))


def test_none_where_none_are_wanted() -> None:
    photos = noise(16)
    assert with_shifted_copies(photos, 0, 0) is photos
