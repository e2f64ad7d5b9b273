"""From a model's outputs to verdicts: the last of the three steps that every image goes through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.calibration import Threshold
from rstpm_edge.image.grid import Grid
from rstpm_edge.model.metadata import Bundle
from rstpm_edge.model.outputs import ModelOutputs
from rstpm_edge.postprocess.novelty import NoveltyCheck
from rstpm_edge.postprocess.scoring import ScoredMaps, Scorer
from rstpm_edge.postprocess.verdict import judge
from rstpm_edge.result import Result

if TYPE_CHECKING:
    from rstpm_edge.postprocess.explain import Explainer


@dataclass(frozen=True)
class Likeness:
    """How an image compares, as a whole, with what the model learned from: why it cannot be judged, None where it can,
    and `Result.novelty`."""

    invalid_reason: str | None
    novelty: float | None


class Postprocessor:
    """Fuses and scores the outputs of a model as its `bundle` says. Safe to share between threads.

    explain: say where each score comes from; raises UsageError for a model where that cannot be said.
    """

    def __init__(self, bundle: Bundle, *, explain: bool = False) -> None:
        self._calibration = bundle.calibration
        self._explainer: Explainer | None = None
        if explain:
            from rstpm_edge.postprocess.explain import Explainer

            self._explainer = Explainer(bundle)
        self._scorer = Scorer(bundle.fusion, bundle.score_fusion, bundle.level_sizes, bundle.size)
        novelty = None if bundle.validity is None else bundle.validity.novelty
        self._novelty = None if novelty is None else NoveltyCheck(novelty)

    @property
    def kernel(self) -> str:
        """The kernel that ran last; before the first call, the one that will."""
        return self._scorer.kernel

    def score(self, outputs: ModelOutputs, ignored: Sequence[NDArray[np.bool_] | None] | None = None) -> ScoredMaps:
        """Anomaly maps and scores of N images; `ignored` and what is raised are those of `Scorer`."""
        return self._scorer(outputs, ignored)

    def results(
        self,
        outputs: ModelOutputs,
        grids: Sequence[Grid],
        ignored: Sequence[NDArray[np.bool_] | None],
        threshold: Threshold,
        *,
        invalid: Sequence[str | None] | None = None,
        model_sha256: str | None = None,
    ) -> list[Result]:
        """The verdicts on N images; `grids`, `ignored` and `invalid` are those of their `InputBatch`, the SHA-256 is
        that of the model file. Raises ModelError.
        """
        scored = self.score(outputs, ignored)
        likeness = self.compared(outputs, invalid)
        return [
            judge(
                scored.anomaly_map[i],
                float(scored.score[i]),
                (int(scored.position[i, 0]), int(scored.position[i, 1])),
                grid,
                self._calibration,
                threshold=threshold,
                ignored=ignored[i],
                invalid_reason=likeness[i].invalid_reason,
                novelty=likeness[i].novelty,
                model_sha256=model_sha256,
                explain=None
                if self._explainer is None
                else self._explainer.of_image(outputs.rows(slice(i, i + 1)), ignored[i], grid, threshold.value),
            )
            for i, grid in enumerate(grids)
        ]

    def compared(self, outputs: ModelOutputs, invalid: Sequence[str | None] | None) -> list[Likeness]:
        """Whether each of N images can be judged: as their `InputBatch` says, and as they are like the good photos.

        Without `invalid`, nothing is compared. Raises ModelError.
        """
        if invalid is None:
            return [Likeness(None, None)] * len(outputs)
        if self._novelty is None or outputs.embedding is None:
            return [Likeness(reason, None) for reason in invalid]
        distances = map(float, self._novelty.distances(outputs.embedding))
        return [
            Likeness(reason or self._novelty.reason(distance), distance)
            for reason, distance in zip(invalid, distances, strict=True)
        ]
