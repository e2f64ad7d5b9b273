"""Six anomaly maps into one, with its maximum: the step after the network, in C++.

Bilinear upsampling is linear, so both maps of a level are combined before it, and three upsamplings serve six
maps. `rstpm_edge.postprocess.reference` says in a few lines of NumPy what is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.errors import ModelError
from rstpm_edge.model.metadata import Fusion
from rstpm_edge.native import _native


@dataclass(frozen=True)
class FusedMaps:
    """The result for a batch of N images."""

    anomaly_map: NDArray[np.float32]  # (N, H, W)
    score: NDArray[np.float32]  # (N,), the maximum of each map
    position: NDArray[np.int32]  # (N, 2), row and column of that maximum; the first in row-major order


class Fuser:
    """Fuses maps of one geometry. Make it once; it may be called from many threads at the same time.

    Mode `normalized`: A = sum over levels of up(w1 (M1 - mean1) / std1 + w2 (M2 - mean2) / std2).
    Mode `paper` (arXiv 2111.15376): A = product over levels of up(M1 + M2); mean, std, weights have no part.
    M1 and M2 are the two pairs' maps of that level; `up` is bilinear with half-pixel centres and clamped
    edges, as torch.nn.functional.interpolate(mode="bilinear", align_corners=False).

    Args:
        map_sizes: (height, width) of the maps of the three levels.
        size: (height, width) of the fused map.
        mode: `normalized` or `paper`.
        mean, std, weights: six values each, in the order of the maps; |mean| at most 1e12, std positive and no
            denormal float32, |weight / std| at most 1e24. Maps of values up to 1e12 then have a finite fused map.
        smoothing_sigma: standard deviation in output pixels of a Gaussian that is applied to the fused map
            before its maximum is taken (radius ceil(3 sigma), edges clamped); from 0.01 to 64, or 0, which is off.
            In mode `paper` it is 0.
        kernel: one of `kernels().available`; None takes `kernels().active`.

    Raises:
        ValueError: a value is outside what is said above.
    """

    def __init__(
        self,
        map_sizes: Sequence[tuple[int, int]],
        size: tuple[int, int],
        *,
        mode: Literal["normalized", "paper"] = "normalized",
        mean: Sequence[float] = (0.0,) * 6,
        std: Sequence[float] = (1.0,) * 6,
        weights: Sequence[float] = (1.0,) * 6,
        smoothing_sigma: float = 0.0,
        kernel: str | None = None,
    ) -> None:
        statistics = (mode, mean, std, weights, smoothing_sigma)
        self._native = _native.Scorer(
            map_sizes, size, statistics, None, None, kernel
        )  # with neither head nor score maps

    @property
    def kernel(self) -> str:
        """The kernel that this fuser uses."""
        return self._native.kernel

    @property
    def last_kernel(self) -> str | None:
        """The name that the kernel itself noted when it last ran; None before the first call."""
        return self._native.last_kernel

    def __call__(
        self,
        maps: Sequence[NDArray[np.float32]],
        *,
        out: NDArray[np.float32] | None = None,
        threads: int = 1,
    ) -> FusedMaps:
        """Fuse a batch.

        Args:
            maps: stpm_a, stpm_b, stpm_c, recon_a, recon_b, recon_c, each float32, C-contiguous, (N, h, w)
                with the size of its level.
            out: where to write the fused maps, float32 (N, H, W), C-contiguous; a new array if None. It must
                not overlap the maps.
            threads: how many threads share the work. The result does not depend on it.

        Raises:
            TypeError: something is not an array, or has another dtype.
            ValueError: a wrong shape, count or memory layout.
            ModelError: a map holds NaN or infinity, or values so large that the fused map may not be finite. `out`
                is then unspecified.
        """
        anomaly_map, score, position, nonfinite = self._native.run(maps, None, out, threads)
        if nonfinite >= 0:
            raise ModelError(
                f"the maps of image {nonfinite} of the batch hold NaN or infinite values, or values too large to add up"
            )
        return FusedMaps(anomaly_map, score, position)


def make_fuser(fusion: Fusion, map_sizes: Sequence[tuple[int, int]], size: tuple[int, int]) -> Fuser:
    """The fuser that a bundle asks for, with the active kernel."""
    return Fuser(
        map_sizes,
        size,
        mode=fusion.mode,
        mean=fusion.mean,
        std=fusion.std,
        weights=fusion.weights,
        smoothing_sigma=fusion.smoothing_sigma,
    )
