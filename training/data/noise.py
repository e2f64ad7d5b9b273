"""Fields of noise and blur, which synthetic defects and rendered parts are made from."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]


def float32(array: Any) -> Field:
    """`array` as float32 without a copy where it is float32 already (cv2's stubs do not tell the type)."""
    return np.asarray(array, dtype=np.float32)


def blur(field: Field, sigma: float) -> Field:
    """Gaussian blur; any number of channels."""
    return float32(cv2.GaussianBlur(field, (0, 0), sigma))


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], grain: float) -> Field:
    """Cloudy noise (h, w) of mean 0 and standard deviation 1, with blobs about `grain` pixels across."""
    # Drawn coarse and enlarged: a wide blur at full size would cost far more.
    coarse = [max(4, round(length / grain) + 3) for length in shape]
    noise = rng.standard_normal(coarse, dtype=np.float32)
    large = float32(cv2.resize(noise, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC))
    return float32((large - large.mean()) / max(float(large.std()), 1e-6))
