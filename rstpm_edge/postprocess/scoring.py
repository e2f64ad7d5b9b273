"""From a model's maps to what an image is judged by: its anomaly map, and its score."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.errors import ModelError
from rstpm_edge.model.metadata import Evidence, Fusion, head_gain
from rstpm_edge.postprocess.fusion import make_fuser


@dataclass(frozen=True, eq=False)
class ScoredMaps:
    """The result for a batch of N images. `position` is that of the anomaly map's maximum, (N, 2), row and column.

    `evidence_map` (N, H, W) is what the score is made of besides; None where it is the anomaly map's maximum.
    """

    anomaly_map: NDArray[np.float32]  # (N, H, W)
    score: NDArray[np.float32]  # (N,)
    position: NDArray[np.int32]
    evidence_map: NDArray[np.float32] | None = None


class Scorer:
    """Anomaly maps and scores as a bundle asks for them, with the active kernel. May be shared by threads.

    `map_sizes` are the (height, width) of the three levels, `size` is that of the model's input.
    Raises ValueError for values that `Fuser` does not take.
    """

    def __init__(
        self,
        fusion: Fusion,
        evidence: Evidence | None,
        map_sizes: Sequence[tuple[int, int]],
        size: tuple[int, int],
    ) -> None:
        self._fusion = fusion
        self._evidence = evidence
        self._map_sizes, self._size = map_sizes, size
        self._make_fusers()

    def _make_fusers(self) -> None:
        self._fuse = make_fuser(self._fusion, self._map_sizes, self._size)
        evidence = self._evidence
        self._fuse_evidence = None if evidence is None else make_fuser(evidence.fusion, self._map_sizes, self._size)
        self._process = os.getpid()

    @property
    def kernel(self) -> str:
        """The kernel that ran last; before the first call, the one that will."""
        return self._fuse.last_kernel or self._fuse.kernel

    def __call__(self, maps: Sequence[NDArray[np.float32]]) -> ScoredMaps:
        """Score a batch; `maps` are the bundle's outputs, in their order, each (N, h, w) float32.

        Raises ModelError when a map holds NaN or infinity, or a score would not be finite; TypeError and ValueError as
        `Fuser` does.
        """
        if os.getpid() != self._process:  # forked: a thread that is gone may hold the plan's lock
            self._make_fusers()
        fused = self._fuse(_with_head(maps, self._fusion))
        if self._evidence is None or self._fuse_evidence is None:
            return ScoredMaps(fused.anomaly_map, fused.score, fused.position)
        seen = self._fuse_evidence(maps[6:12])
        score = _combine(self._evidence, seen.score, fused.score)
        if not np.isfinite(score).all():
            raise ModelError("the evidence and the anomaly map give no finite score")
        return ScoredMaps(fused.anomaly_map, score, fused.position, seen.anomaly_map)

    def ignoring(self, scored: ScoredMaps, i: int, ignored: NDArray[np.bool_]) -> tuple[float, tuple[int, int]]:
        """Score and position of image i where `ignored` (H, W) is False; never a higher score than without."""
        where = ~ignored
        kept = np.where(where, scored.anomaly_map[i], -np.inf)
        row, column = divmod(int(kept.argmax()), kept.shape[1])
        peak = scored.anomaly_map[i, row, column]
        if self._evidence is None or scored.evidence_map is None:
            return float(peak), (row, column)
        highest = scored.evidence_map[i].max(where=where, initial=-np.inf)
        return float(_combine(self._evidence, highest, peak)), (row, column)


def _with_head(maps: Sequence[NDArray[np.float32]], fusion: Fusion) -> Sequence[NDArray[np.float32]]:
    """The six maps; the first carries the head's, the last output. Fusion is linear, and both have one size."""
    if (head := fusion.head) is None:
        return maps[:6]
    gain = np.float32(head_gain(fusion, head))
    with np.errstate(all="ignore"):  # what is not finite then is refused by the fusion
        return [maps[0] + gain * (maps[-1] - np.float32(head.mean)), *maps[1:6]]


def _combine(evidence: Evidence, seen: Any, peak: Any) -> Any:
    """The score, from the maxima of the evidence and of the anomaly map: one of each, or arrays."""
    with np.errstate(all="ignore"):  # the callers look at the result
        return seen + np.float32(evidence.outline) * peak + np.float32(evidence.offset)
