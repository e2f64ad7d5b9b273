"""From the anomaly map in the model's grid to regions in the image's pixels."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.image import Placement
from rstpm_edge.result import Region


@dataclass(frozen=True)
class Grid:
    """How cells of the model's input, padding included, lie on an image of `height` × `width` pixels."""

    placement: Placement
    height: int
    width: int

    def pixel(self, row: int, column: int) -> tuple[int, int]:
        """The image pixel (x, y) under the centre of a cell; for padding, the nearest one."""
        x, y = self._position(row + 0.5, column + 0.5)
        return min(int(x), self.width - 1), min(int(y), self.height - 1)

    def box(self, top: int, left: int, height: int, width: int) -> tuple[int, int, int, int]:
        """The smallest box (x, y, width, height) of image pixels over a box of cells; at least one pixel."""
        x0, y0 = self._position(top, left)
        x1, y1 = self._position(top + height, left + width)
        x, y = min(int(x0), self.width - 1), min(int(y0), self.height - 1)
        return x, y, max(math.ceil(x1) - x, 1), max(math.ceil(y1) - y, 1)

    def area(self, cells: int) -> int:
        """Image pixels that so many cells cover; at least one."""
        scale = self.height * self.width / (self.placement.height * self.placement.width)
        return min(max(round(cells * scale), 1), self.height * self.width)

    def _position(self, row: float, column: float) -> tuple[float, float]:
        inside = self.placement
        y = (row - inside.top) * self.height / inside.height
        x = (column - inside.left) * self.width / inside.width
        return min(max(x, 0.0), float(self.width)), min(max(y, 0.0), float(self.height))


def find_regions(anomaly_map: NDArray[np.float32], threshold: float, grid: Grid) -> tuple[Region, ...]:
    """8-connected parts of `anomaly_map` (H, W) above `threshold`, highest peak first."""
    # Compared in double precision, as the score is: an image above the threshold has a region for certain.
    above = anomaly_map.astype(np.float64) > threshold
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(above.astype(np.uint8), connectivity=8)

    # The highest cell of each label: sorted by descending value, each label's first.
    cells = np.flatnonzero(above)
    cells = cells[np.argsort(-anomaly_map.ravel()[cells], kind="stable")]
    found, first = np.unique(labels.ravel()[cells], return_index=True)
    peaks = cells[first]

    areas = np.bincount(labels[grid.placement.window].ravel(), minlength=len(boxes))

    regions = []
    for index in np.argsort(first):  # as in `cells`: highest peak first
        label, (row, column) = found[index], divmod(int(peaks[index]), anomaly_map.shape[1])
        left, top, width, height, _ = map(int, boxes[label])
        regions.append(
            Region(
                box=grid.box(top, left, height, width),
                area=grid.area(int(areas[label])),
                peak=float(anomaly_map[row, column]),
                position=grid.pixel(row, column),
            )
        )
    return tuple(regions)
