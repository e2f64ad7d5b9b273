"""Copies of a few photos, moved by whole pixels, and which photos show parts that lie alike."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rstpm_edge.training.data import shift_augmentation
from rstpm_edge.training.data.shift_augmentation import ENOUGH, MOST, SHIFT, lie_alike, with_shifted_copies


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


def photographed(shifts: NDArray[np.int64], light: float) -> NDArray[np.uint8]:
    """Photos of one part with noise, each moved by so many pixels, under a light that varies by this share."""
    draw = np.random.default_rng(1)
    part = np.kron(draw.integers(40, 200, (8, 10, 3)), np.ones((16, 16, 1)))
    photos = [np.roll(part, shift, (0, 1)) * draw.uniform(1 - light, 1 + light) for shift in shifts]
    return np.clip(np.stack(photos) + draw.normal(0, 5, (len(shifts), *part.shape)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("reach", "light", "alike"), [(0, 0.0, True), (4, 0.1, True), (64, 0.1, False), (4, 0.9, False)]
)
def test_whether_parts_lie_alike(reach: int, light: float, alike: bool) -> None:
    shifts = np.random.default_rng(0).integers(-reach, reach, (20, 2), endpoint=True)
    assert lie_alike(photographed(shifts, light)) is alike


@pytest.mark.parametrize("reach", [0, 64])
def test_what_pads_all_photos_does_not_count(reach: int) -> None:
    photos = photographed(np.random.default_rng(0).integers(-reach, reach, (20, 2), endpoint=True), 0.1)
    padded = np.pad(photos // 4, ((0, 0), (96, 96), (0, 0), (0, 0)), constant_values=114)  # dark, between grey bars
    assert lie_alike(padded) is (reach == 0)


def test_whether_parts_of_which_a_photo_shows_nothing_lie_alike() -> None:
    assert lie_alike(np.full((16, 4, 6, 3), 90, np.uint8))  # smaller than one value of the comparison
    assert not lie_alike(noise(16, 64, 64))
