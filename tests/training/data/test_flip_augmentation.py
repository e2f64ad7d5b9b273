"""Mirrored copies of a few photos, pixel for pixel."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rstpm_edge.training.data.flip_augmentation import with_flipped_copies


def noise(count: int, height: int = 6, width: int = 8) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3)).astype(np.uint8)


def ways(images: NDArray[np.uint8], photos: NDArray[np.uint8]) -> list[str]:
    """How each copy is mirrored, found by comparing all of its pixels."""
    found = []
    for row, image in enumerate(images[len(photos) :]):
        photo = photos[row % len(photos)]
        mirrored = {"left-right": np.fliplr(photo), "up-down": np.flipud(photo), "both": np.rot90(photo, 2)}
        found += [way for way, wanted in mirrored.items() if np.array_equal(image, wanted)]
    assert len(found) == len(images) - len(photos)
    return found


@pytest.mark.parametrize(("count", "copies"), [(15, 0), (16, 3), (128, 3), (129, 2), (256, 1), (257, 0)])
def test_the_fewer_photos_the_more_copies_each_mirrored_in_another_way(count: int, copies: int) -> None:
    photos = noise(count, 4, 2)
    images = with_flipped_copies(photos, 0)
    assert (len(images), images.dtype) == (count * (1 + copies), np.uint8)
    np.testing.assert_array_equal(images[:count], photos)
    found = ways(images, photos)
    assert all(len(set(found[row::count])) == copies for row in range(count))
    assert set(found) == ({"left-right", "up-down", "both"} if copies else set())


def test_the_same_seed_gives_the_same_copies() -> None:
    photos = noise(16)
    np.testing.assert_array_equal(with_flipped_copies(photos, 5), with_flipped_copies(photos, 5))
    assert not np.array_equal(with_flipped_copies(photos, 5), with_flipped_copies(photos, 6))
