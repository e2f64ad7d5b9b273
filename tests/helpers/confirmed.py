"""Good photos with known scores, for the tests of recalibration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray


def patterned(distance: int, seed: int, size: int = 64) -> NDArray[np.uint8]:
    """A picture that the tiny models of `bundles` score with 6 · distance / 128.

    Each pixel lies that far from mid-grey, above or below by chance, so that no two seeds look alike.
    """
    sign = np.random.default_rng(seed).integers(0, 2, (size, size)) * 2 - 1
    return np.repeat((127 + distance * sign).astype(np.uint8)[..., None], 3, axis=2)


def write_confirmed(folder: Path, distances: Sequence[int], seed: int = 0) -> list[Path]:
    """Photos of these distances, as 00.png, 01.png, …"""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{i:02}.png" for i in range(len(distances))]
    for i, (path, distance) in enumerate(zip(paths, distances, strict=True)):
        cv2.imwrite(str(path), patterned(distance, seed + i))
    return paths


def counted(**some: int) -> dict[str, int]:
    """What a station counts of the parts that it has judged: so many of some kinds, and none of the others."""
    kinds = ("passed", "wrong", "defects", "undecided", "unjudged", "judged_otherwise", "without_pictures")
    return dict.fromkeys(kinds, 0) | some
