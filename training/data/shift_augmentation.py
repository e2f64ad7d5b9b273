"""Shift augmentation: copies of a few photos, shifted by some pixels.

Without them the students would know these photos by heart, pixel for pixel.
A part never lies twice in quite the same place, and its features change with where it falls on the teachers' grid. Many
photos show that by themselves.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

SHIFT = 6  # pixels of the input: more than half a cell of the finest map, so copies fall on its grid in every way
FEWEST = 16  # photos; of fewer there are so few steps that copies would be learned from in too few of them
ENOUGH = 512  # images to learn from, copies included
MOST = 3  # copies of each photo: every version of it is to be learned from many times


def with_shifted_copies(photos: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """`photos` (N, H, W, 3), and after all of them their copies, in the same order, as often as it takes.

    Each copy is shifted by -`SHIFT` to `SHIFT` whole pixels each way, so that it stays as sharp; what comes in at an
    edge mirrors what is there. At most `ENOUGH` images come of it; where there are more than half as many photos, or
    fewer than `FEWEST`, nothing but them. The same photos and seed give the same copies.
    """
    copies = shifted_copies(len(photos))
    if not copies:
        return photos
    draw = np.random.default_rng((seed, SHIFT))
    images = np.tile(photos, (1 + copies, 1, 1, 1))
    for image in images[len(photos) :]:
        (x, y), (height, width) = draw.integers(-SHIFT, SHIFT, 2, endpoint=True), image.shape[:2]
        padded = cv2.copyMakeBorder(image, SHIFT, SHIFT, SHIFT, SHIFT, cv2.BORDER_REFLECT_101)
        image[:] = padded[SHIFT + y : SHIFT + y + height, SHIFT + x : SHIFT + x + width]
    return images


def shifted_copies(photos: int) -> int:
    """How many copies there are of each of so many photos."""
    return max(0, min(ENOUGH // photos - 1, MOST)) if photos >= FEWEST else 0
