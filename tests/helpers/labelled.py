"""Small data sets in the MVTec AD layout, for the tiny models of `bundles`: grey is good, white spots are not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

NASTY = '<b>&"x'  # a kind that must not become markup


def write_labelled(folder: Path, kinds: Mapping[str, int], *, size: tuple[int, int] = (80, 100)) -> Path:
    """So many images of each kind, each with its mask. The first of a kind is fainter than the last.

    "good" ones are nearly flat; defects have a spot that grows brighter from image to image.
    """
    height, width = size
    random = np.random.default_rng(0)
    for kind, images in kinds.items():
        (folder / "test" / kind).mkdir(parents=True)
        if kind != "good":
            (folder / "ground_truth" / kind).mkdir(parents=True)
        for i in range(images):
            image = random.integers(124, 131, (height, width, 3), np.uint8)
            if kind != "good":
                top, left = int(random.integers(0, height // 2)), int(random.integers(0, width // 2))
                spot = slice(top, top + height // 3), slice(left, left + width // 3)
                image[spot] = 127 + int(128 * ((i + 1) / images) ** 2)
                mask = np.zeros((height, width), np.uint8)
                mask[spot] = 255
                cv2.imwrite(str(folder / "ground_truth" / kind / f"{i}_mask.png"), mask)
            cv2.imwrite(str(folder / "test" / kind / f"{i}.png"), image)
    return folder


def add_masks(data: Path) -> None:
    """Masks for what is not grey in the images of "dark" and "spot"."""
    for kind in ("dark", "spot"):
        (data / "ground_truth" / kind).mkdir(parents=True)
        for path in (data / "test" / kind).iterdir():
            image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            assert image is not None
            cv2.imwrite(str(data / "ground_truth" / kind / path.name), (image != 127).astype(np.uint8) * 255)
