"""Rotation augmentation, for parts that lie at any angle: copies of the photos at angles that were not photographed.

Of a hundred such photos no two show one angle, and students that saw only those know the angles by heart.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

ENOUGH = 1536  # images to learn from, copies included: more angles help less than they cost
MOST = 11  # copies of each photo


def rotate(image: NDArray[np.uint8], degrees: float, aspect: float) -> NDArray[np.uint8]:
    """`image` (H, W, 3) rotated about its middle; what comes in at a corner mirrors what is there.

    `aspect` is how many times as much of the scene's width as of its height a pixel covers: a photo that was stretched
    to the input is rotated as the scene would have been.
    """
    height, width = image.shape[:2]
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix = np.array([[cos, sin / aspect], [-sin * aspect, cos]])
    affine = np.column_stack([matrix, middle - matrix @ middle])
    rotated = cv2.warpAffine(image, affine, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(rotated, np.uint8)


def with_rotated_copies(photos: NDArray[np.uint8], aspect: float, seed: int) -> NDArray[np.uint8]:
    """`photos` (N, H, W, 3), and after all of them their copies, in the same order, as often as it takes.

    The angles of one photo's copies are spread over the circle. At most `ENOUGH` images come of it, and `MOST` copies
    of each. The same photos and seed give the same copies.
    """
    copies = rotated_copies(len(photos))
    if not copies:
        return photos
    draw = np.random.default_rng((seed, MOST))
    images = np.tile(photos, (1 + copies, 1, 1, 1))
    for row in range(len(photos), len(images)):
        degrees = 360 * (row // len(photos) + draw.uniform(-0.5, 0.5)) / (1 + copies)
        images[row] = rotate(images[row], degrees, aspect)
    return images


def rotated_copies(photos: int) -> int:
    """How many copies there are of each of so many photos."""
    return max(0, min(ENOUGH // photos - 1, MOST))
