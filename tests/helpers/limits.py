"""Limits of a valid photo, for the tiny models of tests, whose embedding is the mean of each channel."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.image.input_profile import InputProfile
from rstpm_edge.model.validity import Novelty, Validity, pack_vectors

Image = NDArray[np.uint8]


def good_photo(size: tuple[int, int] = (64, 64), seed: int = 0) -> Image:
    """A grey photo (H, W, 3) with fine detail around mid-grey."""
    grey = np.random.default_rng(seed).integers(107, 148, (*size, 1), np.uint8)
    return np.repeat(grey, 3, axis=2)


def make_validity(**changes: Any) -> Validity:
    """That of photos like `good_photo`."""
    limits = Validity(brightness=(80.0, 190.0), contrast=4.0, detail=-6.0, white=0.5, black=0.5, novelty=make_novelty())
    return dataclasses.replace(limits, **changes)


def make_novelty(*means: tuple[float, float, float], limit: float = 60.0) -> Novelty:
    """Of good photos whose channels have these means: grey ones, unless they are given."""
    vectors = np.float32(means or [(120, 120, 120), (134, 134, 134)])
    return Novelty(len(vectors), 3, limit, pack_vectors(vectors))


def make_profile(**changes: Any) -> InputProfile:
    """Of such photos of 64×64 pixels."""
    usual = InputProfile(20, ((64, 64),), 8, 8, (127.0, 2.0), 0.0, (0.0,) * 4, (0.0,) * 4)
    return dataclasses.replace(usual, **changes)
