"""Shift augmentation: copies of a few photos, shifted by some pixels.

Without them the students would know these photos by heart, pixel for pixel.
A part never lies twice in quite the same place, and its features change with where it falls on the teachers' grid. Many
photos show that by themselves.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

FEWEST = 16  # photos; of fewer there are so few steps that copies would be learned from in too few of them
ENOUGH = 512  # images to learn from, copies included
MOST = 3  # copies of each photo: every version of it is to be learned from many times


def with_shifted_copies(photos: NDArray[np.uint8], most_shift: int, seed: int) -> NDArray[np.uint8]:
    """`photos` (N, H, W, 3), and after all of them their copies, in the same order, as often as it takes.

    Each copy is shifted by -`most_shift` to `most_shift` whole pixels each way, so that it stays as sharp; what comes
    in at an edge mirrors what is there. At most `ENOUGH` images come of it; where there are more than half as many
    photos, fewer than `FEWEST`, or `most_shift` is 0, nothing but them. The same photos and seed give the same copies.
    """
    copies = shifted_copies(len(photos), most_shift)
    if not copies:
        return photos
    draw = np.random.default_rng((seed, most_shift))
    images = np.tile(photos, (1 + copies, 1, 1, 1))
    for image in images[len(photos) :]:
        (x, y), (height, width) = draw.integers(-most_shift, most_shift, 2, endpoint=True), image.shape[:2]
        padded = cv2.copyMakeBorder(image, most_shift, most_shift, most_shift, most_shift, cv2.BORDER_REFLECT_101)
        image[:] = padded[most_shift + y : most_shift + y + height, most_shift + x : most_shift + x + width]
    return images


def shifted_copies(photos: int, most_shift: int) -> int:
    """How many copies there are of each of so many photos."""
    return max(0, min(ENOUGH // photos - 1, MOST)) if photos >= FEWEST and most_shift else 0
