"""From a model's outputs to its anomaly map and its score: one call of the C library."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.errors import ModelError
from rstpm_edge.model.metadata import Fusion, ScoreFusion
from rstpm_edge.model.outputs import ModelOutputs
from rstpm_edge.native import _native


@dataclass(frozen=True, eq=False)
class ScoredMaps:
    """The result for a batch of N images.

    `position` (N, 2) is the row and column where the anomaly map is highest, among the cells that count.
    """

    anomaly_map: NDArray[np.float32]  # (N, H, W)
    score: NDArray[np.float32]  # (N,)
    position: NDArray[np.int32]


class Scorer:
    """Anomaly maps and scores as a bundle asks for them, with the active kernel. May be shared by threads.

    `map_sizes` are the (height, width) of the three levels, `size` is that of the model's input. `csrc/rstpm_edge.h`
    says what is computed (`rstpm_scorer_config`), `rstpm_edge.postprocess.reference` in NumPy.
    Raises ValueError for values that `Fuser` does not take.
    """

    def __init__(
        self,
        fusion: Fusion,
        score_fusion: ScoreFusion | None,
        map_sizes: Sequence[tuple[int, int]],
        size: tuple[int, int],
        *,
        kernel: str | None = None,
    ) -> None:
        self._fusion, self._score_fusion = fusion, score_fusion
        self._map_sizes, self._size = map_sizes, size
        self._kernel = kernel
        self._make()

    def _make(self) -> None:
        head, score_fusion = self._fusion.head, self._score_fusion
        self._native = _native.Scorer(
            self._map_sizes,
            self._size,
            _statistics(self._fusion),
            None if head is None else (head.mean, head.std, head.weight),
            None
            if score_fusion is None
            else (
                _statistics(score_fusion.fusion),
                None if (cells := score_fusion.coarse) is None else (cells.mean, cells.std, cells.weights),
                score_fusion.map_weight,
                score_fusion.bias,
            ),
            self._kernel,
        )
        self._process = os.getpid()

    @property
    def kernel(self) -> str:
        """The kernel that ran last; before the first call, the one that will."""
        return self._native.last_kernel or self._native.kernel

    def __call__(self, outputs: ModelOutputs, ignored: Sequence[NDArray[np.bool_] | None] | None = None) -> ScoredMaps:
        """Score a batch.

        Args:
            outputs: of the model. What this scorer has no use for, it leaves alone.
            ignored: for each image the cells (H, W) that have no part in its score and position, though they stand in
                its map; None for none. The score is never higher than without.

        Raises ModelError when a map holds NaN or infinity, or a score would not be finite; TypeError and ValueError as
        `Fuser` does, and ValueError when all cells of an image are ignored.
        """
        if os.getpid() != self._process:  # forked: a thread that is gone may hold the scorer's lock
            self._make()
        score_fusion = self._score_fusion
        coarse = None if score_fusion is None else score_fusion.coarse
        chosen = outputs.flat(
            score_maps=score_fusion is not None,
            angle_maps=coarse is not None and coarse.has_angles,
            head_map=self._fusion.head is not None,
        )
        masks = None
        if ignored is not None and any(one is not None for one in ignored):
            masks = [None if one is None else np.ascontiguousarray(~one).view(np.uint8)[None] for one in ignored]
        anomaly_map, score, position, nonfinite = self._native.run(chosen, masks, None, 1)
        if nonfinite >= 0:
            raise ModelError(
                f"the maps of image {nonfinite} of the batch hold NaN or infinite values, or values too large to add up"
            )
        return ScoredMaps(anomaly_map, score, position)


def _statistics(fusion: Fusion) -> tuple[str, Sequence[float], Sequence[float], Sequence[float], float]:
    return fusion.mode, fusion.mean, fusion.std, fusion.weights, fusion.smoothing_sigma
