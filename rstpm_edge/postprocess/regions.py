"""From the anomaly map in the model's grid to regions in the image's pixels."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.image.grid import Grid
from rstpm_edge.result import Explanation, Region

# Of cells (H, W) of the model's input, None for all, and of the one of them where the anomaly map is highest.
Explain: TypeAlias = Callable[["NDArray[np.bool_] | None", tuple[int, int]], Explanation]

_LOWEST = float(np.finfo(np.float32).min)


def find_regions(
    anomaly_map: NDArray[np.float32],
    threshold: float,
    grid: Grid,
    *,
    most: int | None = None,
    explain: Explain | None = None,
) -> tuple[Region, ...]:
    """8-connected parts of `anomaly_map` (H, W) above `threshold`, highest peak first, `most` of them at most.

    `explain` gets the cells (H, W) of each, and the one with its peak.
    """
    # As if compared in double precision, as the score is: an image above the threshold has a region for certain.
    limit = np.float32(min(max(threshold, _LOWEST), -_LOWEST))
    above = anomaly_map >= limit if float(limit) > threshold else anomaly_map > limit
    cells = np.flatnonzero(above)
    if not len(cells):
        return ()
    # Not connectedComponentsWithStats, which takes eight times as long on the 65,000 cells of a map.
    count, labels = cv2.connectedComponents(above.view(np.uint8), connectivity=8)
    row, column = np.divmod(cells, anomaly_map.shape[1])
    label, values = labels.ravel()[cells], anomaly_map.ravel()[cells]
    peak = np.full(count, -np.inf, np.float32)
    np.maximum.at(peak, label, values)
    # Where several assignments have one target, the last one stays: backwards, that is the first in the map.
    top, bottom, left, right = np.zeros((4, count), np.intp)
    top[label[::-1]] = row[::-1]
    bottom[label] = row
    left[:] = anomaly_map.shape[1]
    np.minimum.at(left, label, column)
    np.maximum.at(right, label, column)
    highest = np.flatnonzero(values == peak[label])[::-1]
    position = np.zeros(count, np.intp)
    position[label[highest]] = cells[highest]
    rows, columns = grid.placement.window  # padding has no area
    inside = (row >= rows.start) & (row < rows.stop) & (column >= columns.start) & (column < columns.stop)
    area = np.bincount(label, inside, minlength=count)

    order = 1 + np.lexsort((position[1:], -peak[1:]))[:most]  # label 0 is what lies below the threshold
    peaks = np.divmod(position[order], anomaly_map.shape[1])
    facts = (
        *grid.boxes(top[order], left[order], bottom[order] + 1, right[order] + 1),
        *grid.pixels(*peaks),
        grid.areas(area[order]),
        peak[order],
    )
    found = tuple(
        Region(box=(x, y, w, h), area=size, peak=highest, position=(at_x, at_y))
        for x, y, w, h, at_x, at_y, size, highest in zip(*(fact.tolist() for fact in facts), strict=True)
    )
    if explain is None:
        return found
    return tuple(
        replace(region, explanation=explain(labels == label, (int(row), int(column))))
        for region, label, row, column in zip(found, order, *peaks, strict=True)
    )
