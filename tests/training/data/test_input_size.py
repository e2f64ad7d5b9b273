"""The input size that photos ask for."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from rstpm_edge.training.data.input_size import LEAST, MOST, choose_size, sampled_sizes


@pytest.mark.parametrize(
    ("photo", "size"),
    [
        ((256, 256), (256, 256)),
        ((300, 300), (288, 288)),
        ((640, 640), (384, 384)),  # 416² would be more than 2.5 times the time of 256²
        ((1260, 500), (640, 256)),
        ((3000, 4000), (352, 448)),
        ((1080, 1920), (288, 512)),
        ((64, 64), (256, 256)),  # what small photos show is looked at closely, too
    ],
)
def test_an_input_has_the_shape_of_the_photos_and_their_area(photo: tuple[int, int], size: tuple[int, int]) -> None:
    assert choose_size([photo], 32) == size


def test_every_shape_gets_a_size_that_works() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        height, width = (int(side) for side in np.exp(random.uniform(np.log(1), np.log(10000), 2)))
        for unit in (32, 64):
            rows, columns = choose_size([(height, width)], unit)
            assert rows % unit == columns % unit == 0
            assert min(rows, columns) >= 2 * unit
            assert rows * columns <= MOST


def test_a_large_budget_ends_at_the_largest_side() -> None:
    assert choose_size([(9000, 9000)], 32, 1 << 30) == (4096, 4096)
    assert max(choose_size([(100, 90000)], 32, 1 << 30)) <= 4096


def test_photos_of_no_one_shape_get_a_square_of_their_median_area() -> None:
    assert choose_size([(400, 260), (260, 400), (320, 320)], 32) == (320, 320)


def test_photos_of_nearly_one_shape_keep_it() -> None:
    assert choose_size([(1240, 500), (1260, 500), (1280, 500)], 32) == (640, 256)


def test_without_a_readable_photo_the_size_is_the_least() -> None:
    rows, columns = choose_size([], 32)
    assert rows * columns == LEAST


def test_sizes_are_sampled_from_readable_photos_and_a_roi_is_its_own(tmp_path: Path) -> None:
    files = []
    for i in range(40):
        files.append(tmp_path / f"{i:02}.png")
        cv2.imwrite(str(files[-1]), np.zeros((30, 20 + i, 3), np.uint8))
    files[0].write_bytes(b"no image")
    sizes = sampled_sizes(files, None)
    assert 10 <= len(sizes) <= 20
    assert {height for height, _ in sizes} == {30}
    assert max(width for _, width in sizes) > 50  # of all of them, not of the first ones
    assert sampled_sizes(files, (1, 2, 30, 40)) == [(40, 30)]
