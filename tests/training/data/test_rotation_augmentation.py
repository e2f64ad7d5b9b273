"""Parts that lie at any angle: how their photos are told from others, and the copies that are learned from."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rstpm_edge.training.data import rotation_augmentation
from rstpm_edge.training.data.rotation_augmentation import ENOUGH, FEWEST, MOST, rotate, with_rotated_copies
from rstpm_edge.training.learning import rotation_detection as detection
from rstpm_edge.training.learning.rotation_detection import lie_at_any_angle
from rstpm_edge.training.model.presets import EDGE
from rstpm_edge.training.model.rstpm import RSTPM

CPU = torch.device("cpu")
SIDE = 96


def noise(count: int, side: int = 8) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def model() -> RSTPM:
    return RSTPM(EDGE, {}).eval()


def parts(angles: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A part without any symmetry, on a noisy ground, at these angles."""
    draw, images = np.random.default_rng(1), []
    for degrees in angles:
        part = np.full((SIDE, SIDE, 3), 60, np.uint8)
        cv2.circle(part, (SIDE // 2, SIDE // 2), SIDE * 2 // 5, (180, 180, 190), -1)
        cv2.circle(part, (SIDE // 2, SIDE // 4), 8, (30, 30, 30), -1)
        cv2.rectangle(part, (SIDE // 2 + 6, SIDE // 2), (SIDE // 2 + 22, SIDE // 2 + 8), (90, 60, 200), -1)
        cv2.line(part, (SIDE // 3, SIDE // 2), (SIDE // 3 + 6, SIDE * 3 // 4), (230, 240, 240), 3)
        part = rotate(part, degrees, 1.0)
        images.append(np.clip(part + draw.normal(0, 6, part.shape), 0, 255).astype(np.uint8))
    return np.stack(images)


def test_parts_at_any_angle_are_told_from_others(model: RSTPM) -> None:
    draw = np.random.default_rng(0)
    anyhow = draw.uniform(0, 360, 48)
    assert lie_at_any_angle(model, parts(anyhow), 1.0, CPU)
    assert not lie_at_any_angle(model, parts(draw.normal(0, 3, 48)), 1.0, CPU)  # all upright
    assert not lie_at_any_angle(model, parts(90.0 * draw.integers(0, 4, 48)), 1.0, CPU)  # at four angles only
    assert not lie_at_any_angle(model, parts(anyhow)[: FEWEST - 1], 1.0, CPU)


def test_photos_that_would_not_be_copied_are_not_looked_at(model: RSTPM, monkeypatch: pytest.MonkeyPatch) -> None:
    anyhow = parts(np.random.default_rng(0).uniform(0, 360, 48))
    monkeypatch.setattr(rotation_augmentation, "ENOUGH", 2 * len(anyhow))
    assert lie_at_any_angle(model, anyhow, 1.0, CPU)
    monkeypatch.setattr(rotation_augmentation, "ENOUGH", 2 * len(anyhow) - 1)
    monkeypatch.setattr(detection, "_look", lambda *_: pytest.fail("looked at"))
    assert not lie_at_any_angle(model, anyhow, 1.0, CPU)


def test_a_surface_is_no_part(model: RSTPM) -> None:
    draw = np.random.default_rng(0)
    rough = [cv2.GaussianBlur(draw.normal(128, 300, (SIDE, SIDE, 3)), (0, 0), 3) for _ in range(48)]
    assert not lie_at_any_angle(model, np.stack(rough).clip(0, 255).astype(np.uint8), 1.0, CPU)


def test_a_photo_that_was_stretched_to_the_input_is_rotated_as_the_scene(model: RSTPM) -> None:
    wide = np.stack(
        [cv2.resize(part, (SIDE, SIDE * 2 // 3)) for part in parts(np.random.default_rng(0).uniform(0, 360, 48))]
    )
    assert lie_at_any_angle(model, wide, 2 / 3, CPU)
    assert not lie_at_any_angle(model, wide, 1.0, CPU)


def test_large_photos_are_looked_at_as_small_ones_are(model: RSTPM) -> None:
    shapes = {
        size: [tuple(level.shape[2:]) for level in detection._look(model, np.zeros((1, *size, 3), np.uint8), CPU)]
        for size in ((128, 256), (256, 256), (512, 384))
    }
    assert shapes == {
        (128, 256): [(16, 32), (8, 16), (4, 8)],
        (256, 256): [(32, 32), (16, 16), (8, 8)],
        (512, 384): [(32, 32), (16, 16), (8, 8)],
    }


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
