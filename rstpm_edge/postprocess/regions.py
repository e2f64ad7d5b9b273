"""From the anomaly map in the model's grid to regions in the image's pixels."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.image.grid import Cells, Grid
from rstpm_edge.result import Region

_LOWEST = float(np.finfo(np.float32).min)


def find_regions(anomaly_map: NDArray[np.float32], threshold: float, grid: Grid) -> tuple[Region, ...]:
    """8-connected parts of `anomaly_map` (H, W) above `threshold`, highest peak first."""
    # As if compared in double precision, as the score is: an image above the threshold has a region for certain.
    limit = np.float32(min(max(threshold, _LOWEST), -_LOWEST))
    height, width = anomaly_map.shape
    # One more column, and one more cell in front, so that above and below alternate along the flat array.
    flat = np.zeros(1 + height * (width + 1), np.bool_)
    above = flat[1:].reshape(height, width + 1)[:, :width]
    compare = np.greater_equal if float(limit) > threshold else np.greater
    compare(anomaly_map, limit, out=above)
    if not above.any():
        return ()
    count, labels = cv2.connectedComponents(above.view(np.uint8), connectivity=8)

    # From here on runs of cells are looked at, each within one row and one region, in row-major order.
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    row, start = np.divmod(edges[::2], width + 1)
    length = edges[1::2] - edges[::2]
    label: Cells = labels[row, start].astype(np.intp)
    first = row * width + start  # in the map
    cells = anomaly_map.ravel()
    both = np.stack([first, first + length], axis=1).ravel()
    run_peak = np.maximum.reduceat(cells, both[:-1] if both[-1] == cells.size else both)[::2]
    peak = np.full(count, -np.inf, np.float32)
    np.maximum.at(peak, label, run_peak)

    position = _first_peaks(cells, peak, label, run_peak, first, length)
    top, bottom = np.zeros(count, np.intp), np.zeros(count, np.intp)
    top[label[::-1]] = row[::-1]
    bottom[label] = row
    left, right = np.full(count, width), np.zeros(count, np.intp)
    np.minimum.at(left, label, start)
    np.maximum.at(right, label, start + length - 1)
    rows, columns = grid.placement.window
    inside = np.minimum(start + length, columns.stop) - np.maximum(start, columns.start)
    inside[(inside < 0) | (row < rows.start) | (row >= rows.stop)] = 0
    area = np.bincount(label, inside, minlength=count)

    order = 1 + np.lexsort((position[1:], -peak[1:]))  # label 0 is what lies below the threshold
    boxes = grid.boxes(top[order], left[order], bottom[order] + 1, right[order] + 1)
    pixels = grid.pixels(*np.divmod(position[order], width))
    facts = (*boxes, *pixels, grid.areas(area[order]), peak[order])
    return tuple(
        Region(box=(x, y, w, h), area=size, peak=highest, position=(at_x, at_y))
        for x, y, w, h, at_x, at_y, size, highest in zip(*(fact.tolist() for fact in facts), strict=True)
    )


def _first_peaks(
    cells: NDArray[np.float32], peak: NDArray[np.float32], label: Cells, run_peak: Any, first: Cells, length: Cells
) -> Cells:
    """For each label the first cell that holds its peak, among the runs [first, first + length) that have the label."""
    # Where several assignments have one target, the last one stays: backwards, that is the first in the map.
    run = np.zeros(len(peak), np.intp)
    holds = np.flatnonzero(run_peak == peak[label])[::-1]
    run[label[holds]] = holds
    owner = np.repeat(np.arange(len(peak)), length[run])
    in_run = np.arange(len(owner)) - np.repeat(np.cumsum(length[run]) - length[run], length[run])
    candidate = first[run][owner] + in_run
    hits = np.flatnonzero(cells[candidate] == peak[owner])[::-1]
    position = np.zeros(len(peak), np.intp)
    position[owner[hits]] = candidate[hits]
    return position
