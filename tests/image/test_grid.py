"""Where cells of the model's input lie on a photo: one cell, and many at a time."""

from __future__ import annotations

import numpy as np
import pytest

from rstpm_edge.image.grid import Grid
from rstpm_edge.image.placement import Placement, ResizePolicy, place


@pytest.mark.parametrize("policy", ["stretch", "letterbox"])
def test_one_cell_lies_where_it_lies_among_many(policy: ResizePolicy) -> None:
    """Of photos of many sizes and shapes, with padding, and parts of photos."""
    rng = np.random.default_rng(0)
    sides = rng.integers(1, 5000, (300, 2)).tolist()
    for height, width in [*sides, [1, 1], [1, 5000], [5000, 1], [256, 256], [480, 640]]:
        size = int(rng.integers(8, 700)), int(rng.integers(8, 700))
        x, y = (int(offset) for offset in rng.integers(0, 100, 2))
        grid = Grid(place(height, width, size, policy), height, width, x, y, (height + y, width + x))
        rows = np.concatenate([[0, size[0] - 1], rng.integers(0, size[0], 20)])
        columns = np.concatenate([[0, size[1] - 1], rng.integers(0, size[1], 20)])
        many = np.stack(grid.pixels(rows, columns), axis=1).tolist()
        one_by_one = [grid.pixel(row, column) for row, column in zip(rows, columns, strict=True)]
        assert [list(pixel) for pixel in one_by_one] == many
        assert all(x <= found[0] < x + width and y <= found[1] < y + height for found in one_by_one)
        assert {type(number) for pixel in one_by_one for number in pixel} == {int}  # as JSON takes them


def test_padding_lies_at_the_nearest_pixel() -> None:
    grid = Grid(Placement(2, 0, 4, 8), 40, 80, x=100, y=200)
    assert [grid.pixel(row, 3) for row in (0, 1, 2, 5, 6, 7)] == [
        (135, 200),
        (135, 200),
        (135, 205),
        (135, 235),
        (135, 239),
        (135, 239),
    ]
