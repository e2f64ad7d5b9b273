"""The picture of a verdict: it can be drawn for any image, and says what it must."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from bundles import ModelFactory
from numpy.typing import NDArray

from rstpm_edge.detector import Detector
from rstpm_edge.outputs.drawing import ANOMALOUS, NORMAL, TEXT, drawable
from rstpm_edge.outputs.overlay import HEADER, draw_marks, draw_overlay


def has_colour(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> bool:
    return bool((picture[:HEADER] == colour).all(axis=2).any())


@pytest.mark.parametrize("shape", [(1, 1), (9, 40), (200, 300), (30, 2000), (2000, 30), (3000, 4000)])
@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_images_of_any_shape(model_factory: ModelFactory, shape: tuple[int, int], resize: str) -> None:
    image = np.full((*shape, 3), 255, np.uint8)
    picture = draw_overlay(image, Detector(model_factory(resize=resize))(image), name="name.png")
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert 300 < picture.shape[0] < 2000 or min(shape) < 50
    assert 600 < picture.shape[1] < 2000


def test_a_good_part_of_the_photo_stays_as_it_is(detector: Detector, good: Any, bad: Any) -> None:
    picture = draw_overlay(good, detector(good))
    assert has_colour(picture, NORMAL)
    assert not has_colour(picture, ANOMALOUS)
    height, width = picture.shape[:2]
    np.testing.assert_array_equal(picture[height // 2, width // 4], (127, 127, 127))
    np.testing.assert_array_equal(picture[height // 2, 3 * width // 4], (127, 127, 127))

    picture = draw_overlay(bad, detector(bad))
    assert has_colour(picture, ANOMALOUS)
    assert not has_colour(picture, NORMAL)
    left, right = picture[HEADER:-60, : width // 2], picture[HEADER:-60, width // 2 :]
    assert (left.max(axis=2) == left.min(axis=2)).mean() > 0.9  # the photo is grey, and only margins are not
    assert (right.astype(int).max(axis=2) - right.min(axis=2) > 50).any()  # yellow on the spot


def test_a_normal_image_has_no_outline_wherever_its_map_is_high(detector: Detector, bad: Any) -> None:
    result = detector(bad)
    normal = replace(result, score=result.threshold - 0.1, regions=())
    assert (normal.model_map > normal.threshold).any()
    drawn, heat = (draw_marks(bad, one, bad.shape[1]) for one in (result, normal))
    assert (drawn == TEXT).all(axis=2).any()
    assert not (heat == TEXT).all(axis=2).any()


@pytest.mark.parametrize("threshold", [-5.0, 0.0, 0.5, 5.9, 1e9])
def test_any_threshold(detector: Detector, bad: Any, threshold: float) -> None:
    detector.threshold = threshold
    draw_overlay(bad, detector(bad))


def test_any_name(detector: Detector, bad: Any) -> None:
    result = detector(bad)
    pictures = [draw_overlay(bad, result, name=name) for name in ("", "größe\n\0\udcff 型", "long" * 500)]
    assert len({picture.shape for picture in pictures}) == 1


@pytest.mark.parametrize(
    ("name", "drawn"),
    [("Prüfstück_Maß_é.png", "Prufstuck_Mass_e.png"), ("3×2", "3x2"), ("零件 1\udcff", "?? 1?"), ("part_01.png",) * 2],
)
def test_the_letters_of_a_name_are_drawn_as_far_as_the_font_has_them(name: str, drawn: str) -> None:
    assert drawable(name) == drawn


def test_the_image_is_not_drawn_on(detector: Detector, bad: Any) -> None:
    bad.flags.writeable = False
    draw_overlay(bad, detector(bad))
