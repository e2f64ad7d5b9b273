"""How cells of the model's input lie on a photo."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.image.placement import Placement
from rstpm_edge.image.roi import Roi

Cells: TypeAlias = NDArray[np.intp]


Coordinates: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class Grid:
    """How cells of the model's input, padding included, lie on an image of `height` × `width` pixels.

    The image may be a part of a photo of `photo_size` (height, width), whose pixel (x, y) is then its first.
    """

    placement: Placement
    height: int
    width: int
    x: int = 0
    y: int = 0
    photo: tuple[int, int] | None = None

    @property
    def photo_size(self) -> tuple[int, int]:
        """(height, width) of the photo; the image's own where it is all of the photo."""
        return self.photo or (self.height, self.width)

    @property
    def roi(self) -> Roi:
        """The image's part of the photo."""
        return self.x, self.y, self.width, self.height

    def pixel(self, row: float, column: float) -> tuple[int, int]:
        """The photo's pixel (x, y) under the centre of a cell; for padding, the nearest one."""
        # The arithmetic of `pixels`, in plain numbers: arrays of one number cost each image ten times as much.
        inside = self.placement
        y = (row + 0.5 - inside.top) * self.height / inside.height
        x = (column + 0.5 - inside.left) * self.width / inside.width
        return self.x + _clamped(x, self.width), self.y + _clamped(y, self.height)

    # The rest takes and gives one value for each of many regions.

    def pixels(self, row: Cells, column: Cells) -> tuple[Cells, Cells]:
        """As `pixel`."""
        return self._clipped(*self._position(row + 0.5, column + 0.5))

    def boxes(self, top: Cells, left: Cells, bottom: Cells, right: Cells) -> tuple[Cells, Cells, Cells, Cells]:
        """The smallest boxes (x, y, width, height) of the photo's pixels over boxes of cells; at least one pixel."""
        x0, y0 = self._position(top, left)
        x1, y1 = self._position(bottom, right)
        x, y = self._clipped(x0, y0)
        width = self.x + np.ceil(x1).astype(np.intp) - x
        height = self.y + np.ceil(y1).astype(np.intp) - y
        return x, y, np.maximum(width, 1), np.maximum(height, 1)

    def areas(self, cells: Cells) -> Cells:
        """Image pixels that so many cells cover; at least one."""
        scale = self.height * self.width / (self.placement.height * self.placement.width)
        pixels: Cells = np.rint(cells * scale).astype(np.intp)
        return np.clip(pixels, 1, self.height * self.width)

    def _clipped(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[Cells, Cells]:
        """Pixels of the photo that hold these positions in the image."""
        column, row = np.minimum(x.astype(np.intp), self.width - 1), np.minimum(y.astype(np.intp), self.height - 1)
        return self.x + column, self.y + row

    def _position(self, row: Coordinates, column: Coordinates) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        inside = self.placement
        y = (row - inside.top) * self.height / inside.height
        x = (column - inside.left) * self.width / inside.width
        return np.clip(x, 0.0, self.width), np.clip(y, 0.0, self.height)


def _clamped(position: float, size: int) -> int:
    """The pixel, from 0 to size - 1, that holds a position."""
    return min(max(int(position), 0), size - 1)
