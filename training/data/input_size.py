"""The input size that photos ask for: their own shape, and as many pixels as they have and the time allows."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from rstpm_edge.errors import ImageError
from rstpm_edge.image.decode import read_stored
from rstpm_edge.image.input_profile import Size, aspects
from rstpm_edge.image.roi import Roi

LEAST = 256 * 256  # pixels of the input: fewer say too little, even of small photos
MOST = 5 * LEAST // 2  # the time of an image grows with them
ONE_SHAPE = 1.25  # photos whose aspect ratios differ by more have no shape of their own: a square
SAMPLE = 16  # photos that are looked at
LARGEST = 4096  # pixels a side of the input


def sampled_sizes(files: Sequence[Path], roi: Roi | None) -> list[Size]:
    """(height, width) of some photos, evenly spread, or of their part in `roi`; those that cannot be read are left out.

    Reading all of them says later, and with a name, what is wrong with one.
    """
    if roi is not None:
        return [(roi[3], roi[2])]
    step = max(1, len(files) // SAMPLE)
    sizes: list[Size] = []
    for path in files[::step]:
        try:
            photo = read_stored(path)
        except ImageError:
            continue
        sizes.append((photo.shape[0], photo.shape[1]))
    return sizes


def choose_size(sizes: Sequence[Size], unit: int, most: int = MOST) -> Size:
    """The model's input, (height, width) in multiples of `unit`, for photos of these sizes.

    Its area is that of the median photo, from `LEAST` to `most` pixels; its shape is theirs, where they have one.
    """
    least = min(LEAST, most)
    if not sizes:
        return _nearest(least, 1.0, unit, most)
    area = statistics.median_high(height * width for height, width in sizes)
    low, high = aspects(tuple(sizes))
    ratio = statistics.median_high(width / height for height, width in sizes) if high / low <= ONE_SHAPE else 1.0
    return _nearest(min(max(area, least), most), ratio, unit, most)


def _nearest(area: float, ratio: float, unit: int, most: int) -> Size:
    """Of all possible sizes the one that comes nearest to this area and this ratio of width to height.

    A shape that is wrong by a tenth costs as much as an area that is wrong by a fifth: it distorts all of a part.
    """

    def cost(size: Size) -> float:
        height, width = size
        return 2 * abs(math.log(width / height / ratio)) + abs(math.log(height * width / area))

    cells = most // unit**2
    sides = range(2, min(cells // 2, LARGEST // unit) + 1)
    possible = [(unit * rows, unit * columns) for rows in sides for columns in sides if rows * columns <= cells]
    return min(possible, key=cost)
