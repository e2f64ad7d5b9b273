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
# Of the variance of pixels, the share that their positions explain, above which parts lie alike. Photos of such parts
# have 0.79 to 0.94, of surfaces, screws, tiles and solar cells 0.00 to 0.61: docs/experiments.md.
ALIKE = 2 / 3
CELL = 8  # pixels each way that one value of that comparison is the mean of: finer detail lies nowhere alike


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


def lie_alike(photos: NDArray[np.uint8]) -> bool:
    """Whether the parts in `photos` (N, H, W, 3), two or more, lie alike: the mean photo tells most of each of them.

    Where they do not, the photos themselves show what is where in every way, as shifted copies would. Where all photos
    are the same, as in what pads them, does not count.
    """
    height, width = (max(1, side // CELL) for side in photos.shape[1:3])
    small = np.stack([cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA) for photo in photos])
    values = small.astype(np.float64)  # (N, H/8, W/8, 3)
    values = values[:, (values != values[0]).any(axis=(0, 3))]  # (N, positions, 3)
    if not values.size:
        return True
    at_one_position = values.var(axis=0, ddof=1).mean()
    return bool(at_one_position <= (1 - ALIKE) * values.var(axis=(0, 1)).mean())


def shifted_copies(photos: int) -> int:
    """How many copies there are of each of so many photos."""
    return max(0, min(ENOUGH // photos - 1, MOST)) if photos >= FEWEST else 0
