"""Which copies of the photos a run learns from beside them: shifted ones, or rotated ones."""

import numpy as np
from numpy.typing import NDArray

from ..data.rotation_augmentation import rotated_copies, with_rotated_copies
from ..data.shift_augmentation import shifted_copies, with_shifted_copies
from .run_folder import RunConfig


def with_copies(config: RunConfig, photos: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`photos` (N, H, W, 3), and after all of them their copies, in the same order, as often as it takes."""
    if config.rotation_aspect is None:
        return with_shifted_copies(photos, config.preset.shift_augmentation, config.seed)
    return with_rotated_copies(photos, config.rotation_aspect, config.seed)


def versions(config: RunConfig, photos: int) -> int:
    """How many images `with_copies` gives of each of so many photos: itself, and its copies."""
    if config.rotation_aspect is None:
        return 1 + shifted_copies(photos, config.preset.shift_augmentation)
    return 1 + rotated_copies(photos)
