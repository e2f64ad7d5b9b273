"""Copies of a few photos, moved by some pixels: what the students would otherwise know by heart, pixel for pixel.

A part never lies twice in quite the same place, and its features change with where it falls on the teachers' grid. Many
photos show that by themselves.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

FEWEST = 16  # photos; of fewer there are so few steps that copies would be learned from in too few of them
ENOUGH = 512  # images to learn from, copies included
MOST = 3  # copies of each photo: every version of it is to be learned from many times


def with_moved_copies(photos: NDArray[np.uint8], reach: int, seed: int) -> NDArray[np.uint8]:
    """`photos` (N, H, W, 3), and after all of them their copies, in the same order, as often as it takes.

    Each copy is moved by -`reach` to `reach` whole pixels each way, so that it stays as sharp; what comes in at an edge
    mirrors what is there. At most `ENOUGH` images come of it; where there are more than half as many photos, fewer
    than `FEWEST`, or `reach` is 0, nothing but them. The same photos and seed give the same copies.
    """
    copies = moved_copies(len(photos), reach)
    if not copies:
        return photos
    draw = np.random.default_rng((seed, reach))
    images = np.tile(photos, (1 + copies, 1, 1, 1))
    for image in images[len(photos) :]:
        (x, y), (height, width) = draw.integers(-reach, reach, 2, endpoint=True), image.shape[:2]
        padded = cv2.copyMakeBorder(image, reach, reach, reach, reach, cv2.BORDER_REFLECT_101)
        image[:] = padded[reach + y : reach + y + height, reach + x : reach + x + width]
    return images


def moved_copies(photos: int, reach: int) -> int:
    """How many copies there are of each of so many photos."""
    return max(0, min(ENOUGH // photos - 1, MOST)) if photos >= FEWEST and reach else 0
