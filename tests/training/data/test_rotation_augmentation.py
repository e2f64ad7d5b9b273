"""Copies of photos of parts that lie at any angle, rotated as the scene would have been."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rstpm_edge.training.data.rotation_augmentation import ENOUGH, MOST, rotate, with_rotated_copies


def noise(count: int, side: int = 8) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3)).astype(np.uint8)


def test_a_quarter_turn_is_exact_and_a_circle_stays_one() -> None:
    (image,) = noise(1)
    for quarters in range(4):
        np.testing.assert_array_equal(rotate(image, 90 * quarters, 1.0), np.rot90(image, quarters))
    middle = slice(20, 44)  # about which no edge is mirrored
    for aspect, axes in ((0.5, (20, 10)), (2.0, (10, 20))):  # half of the axes, across and down
        scene = np.zeros((64, 64, 3), np.uint8)
        cv2.ellipse(scene, (32, 32), axes, 0, 0, 360, (255, 255, 255), -1)
        right, wrong = (
            np.abs(rotate(scene, 90, one).astype(int) - scene)[middle, middle].mean() for one in (aspect, 1.0)
        )
        assert right < 20
        assert wrong > 40


@pytest.mark.parametrize(("count", "copies"), [(16, MOST), (128, MOST), (129, 10), (320, 3), (768, 1), (769, 0)])
def test_the_fewer_photos_the_more_copies(count: int, copies: int) -> None:
    photos = noise(count, 2)
    images = with_rotated_copies(photos, 1.0, 0)
    assert len(images) == count * (1 + copies)
    assert len(images) <= ENOUGH
    np.testing.assert_array_equal(images[:count], photos)


def test_the_angles_of_one_photo_are_spread_over_the_circle() -> None:
    photos = np.zeros((16, 65, 65, 3), np.uint8)
    photos[:, 29:36, 43:50] = 255  # a mark to the right of the middle
    angles = []
    for image in with_rotated_copies(photos, 1.0, 0)[::16]:
        y, x = np.argwhere(image[..., 0] > 127).mean(0) - 32
        angles.append(np.rad2deg(np.arctan2(-y, x)) % 360)
    assert sorted(np.round(np.array(angles) / 30) % 12) == list(range(12))


def test_the_same_seed_gives_the_same_copies() -> None:
    photos = noise(16)
    np.testing.assert_array_equal(with_rotated_copies(photos, 1.0, 5), with_rotated_copies(photos, 1.0, 5))
    assert not np.array_equal(with_rotated_copies(photos, 1.0, 5), with_rotated_copies(photos, 1.0, 6))
