"""From maps to regions, against a flood fill that anybody can check."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rstpm_edge.image.grid import Grid
from rstpm_edge.image.placement import Placement
from rstpm_edge.postprocess.regions import find_regions
from rstpm_edge.result import Region

Map = NDArray[np.float32]
WHOLE = Grid(Placement(0, 0, 64, 64), 64, 64)


def flood_fill(anomaly_map: Map, threshold: float, grid: Grid) -> list[Region]:
    inside = grid.placement

    def position(row: float, column: float) -> tuple[float, float]:
        x = (column - inside.left) * grid.width / inside.width
        y = (row - inside.top) * grid.height / inside.height
        return min(max(x, 0.0), float(grid.width)), min(max(y, 0.0), float(grid.height))

    todo = {(int(y), int(x)) for y, x in np.argwhere(anomaly_map.astype(np.float64) > threshold)}
    found = []
    while todo:
        edge = [todo.pop()]
        cells = []
        while edge:
            y, x = edge.pop()
            cells.append((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & todo
            todo -= near
            edge += near
        peak = max(float(anomaly_map[cell]) for cell in cells)
        at = min(cell for cell in cells if anomaly_map[cell] == peak)
        x0, y0 = position(min(y for y, _ in cells), min(x for _, x in cells))
        x1, y1 = position(max(y for y, _ in cells) + 1, max(x for _, x in cells) + 1)
        left, top = min(int(x0), grid.width - 1), min(int(y0), grid.height - 1)
        rows, columns = inside.window
        shown = sum(rows.start <= y < rows.stop and columns.start <= x < columns.stop for y, x in cells)
        area = round(shown * (grid.height * grid.width / (inside.height * inside.width)))
        px, py = position(at[0] + 0.5, at[1] + 0.5)
        region = Region(
            box=(left, top, max(math.ceil(x1) - left, 1), max(math.ceil(y1) - top, 1)),
            area=min(max(area, 1), grid.height * grid.width),
            peak=peak,
            position=(min(int(px), grid.width - 1), min(int(py), grid.height - 1)),
        )
        found.append((-peak, at, region))
    return [region for _, _, region in sorted(found, key=lambda entry: entry[:2])]


@settings(max_examples=200, deadline=None)
@given(
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    image=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    padding=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    steps=st.sampled_from([2, 5, 1000]),  # few steps make equal peaks
    share=st.floats(0, 1),
    seed=st.integers(0, 2**16),
)
def test_agrees_with_a_flood_fill(
    size: tuple[int, int], image: tuple[int, int], padding: tuple[int, int], steps: int, share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    anomaly_map = (rng.integers(0, steps, size) / steps - 0.3).astype(np.float32)
    top, left = min(padding[0], (size[0] - 1) // 2), min(padding[1], (size[1] - 1) // 2)
    grid = Grid(Placement(top, left, size[0] - 2 * top, size[1] - 2 * left), *image)
    threshold = float(np.quantile(anomaly_map, share)) - 1e-9
    regions = find_regions(anomaly_map, threshold, grid)
    assert list(regions) == flood_fill(anomaly_map, threshold, grid)
    for region in regions:
        assert {type(number) for number in (*region.box, region.area, *region.position)} == {int}
        assert type(region.peak) is float


@pytest.mark.parametrize("value", [0.1, -0.1, 1e-40, 3.0, -3e38])
def test_thresholds_are_compared_in_double_precision(value: float) -> None:
    anomaly_map = np.full((64, 64), value, np.float32)
    exact = float(anomaly_map[0, 0])
    for threshold in (np.nextafter(exact, -np.inf), exact, np.nextafter(exact, np.inf)):
        assert bool(find_regions(anomaly_map, float(threshold), WHOLE)) == (exact > threshold)


def test_thresholds_beyond_single_precision() -> None:
    anomaly_map = np.zeros((64, 64), np.float32)
    assert find_regions(anomaly_map, 1e300, WHOLE) == ()
    (region,) = find_regions(anomaly_map, -1e300, WHOLE)
    assert (region.box, region.area, region.position) == ((0, 0, 64, 64), 64 * 64, (0, 0))


def test_thousands_of_regions_are_no_burden() -> None:
    anomaly_map = np.zeros((256, 256), np.float32)
    anomaly_map[::2, ::2] = 1 + np.random.default_rng(0).random((128, 128), dtype=np.float32)
    grid = Grid(Placement(0, 0, 256, 256), 480, 640)
    start = time.process_time()
    regions = find_regions(anomaly_map, 0.5, grid)
    assert time.process_time() - start < 1  # 0.03 s; one by one in Python it was 0.12
    assert len(regions) == 128 * 128
    assert list(regions) == sorted(regions, key=lambda region: -region.peak)
