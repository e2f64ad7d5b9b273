"""Flip augmentation, for parts that may lie mirrored: copies of a few photos, mirrored in each way."""

import numpy as np
from numpy.typing import NDArray

from .shift_augmentation import shifted_copies

# Of an image (H, W, 3): left for right, top for bottom, and both. Each keeps its pixels as they are.
FLIPS = ((slice(None), slice(None, None, -1)), (slice(None, None, -1),), (slice(None, None, -1),) * 2)


def with_flipped_copies(photos: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """`photos` (N, H, W, 3), and after all of them their copies, in the same order, as often as it takes.

    The copies of one photo are mirrored in different ways; which come first is drawn. The same photos and seed give the
    same copies.
    """
    copies = flipped_copies(len(photos))
    if not copies:
        return photos
    draw = np.random.default_rng((seed, len(FLIPS)))
    ways = draw.permuted(np.tile(np.arange(len(FLIPS)), (len(photos), 1)), axis=1)  # (N, 3)
    flipped = [photo[FLIPS[way]] for column in ways.T[:copies] for photo, way in zip(photos, column, strict=True)]
    return np.concatenate([photos, flipped])


def flipped_copies(photos: int) -> int:
    """How many copies there are of each of so many photos: as many as of shifted ones, of which there are 3, too."""
    return min(shifted_copies(photos), len(FLIPS))
