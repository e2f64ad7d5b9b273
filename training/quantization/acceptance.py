"""What a model in fewer bits does otherwise than the same model in float32, and whether that is too much."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from rstpm_edge.calibration import Calibration, conformal_threshold, smallest_alpha
from rstpm_edge.errors import UsageError
from rstpm_edge.model.metadata import Fusion, ScoreFusion
from rstpm_edge.model.outputs import ModelOutputs
from rstpm_edge.postprocess.scoring import Scorer

from ..learning.map_calibration import calibrate_maps
from ..model.presets import Preset

# Held-out images allow small rates only in large numbers, and a rate of one in a hundred shows in no hundred images.
REJECT_RATE = 0.05

# The unit of a score's moves is the way from the typical score to the threshold of this rate, or of the smallest that
# the images allow. Not of the model's own rate: what a move means does not depend on how lenient a user is.
UNIT_RATE = 0.01


@dataclass(frozen=True)
class Margins:
    """How far a model may move from float32.

    auroc: image AUROC of good photos against pseudo-defects may fall by so much.
    false_rejects: the share of good photos that are rejected may change by so much, and by one photo in any case.
    verdict: how far the score of any good photo may move, as a share of the way from a typical score to the threshold
        for a rate of 1 %.
    """

    auroc: float = 0.005
    false_rejects: float = 0.02
    verdict: float = 0.25


@dataclass(frozen=True, eq=False)
class Behaviour:
    """What a model says of held-out good images (n,), calibrated on them, and of their defective versions (m,)."""

    fusion: Fusion
    score_fusion: ScoreFusion | None
    calibration: Calibration
    good: NDArray[np.float64]
    spoiled: NDArray[np.float64]

    @property
    def auroc(self) -> float:
        """Image AUROC."""
        labels = np.repeat([False, True], [len(self.good), len(self.spoiled)])
        return float(roc_auc_score(labels, np.concatenate([self.good, self.spoiled])))

    @property
    def false_rejects(self) -> int:
        """Good images that are rejected when each half of them is judged by the other half's threshold.

        Its rate is REJECT_RATE, or the smallest that half of the images allows.
        """
        halves = self.good[0::2], self.good[1::2]
        rejected = 0
        for known, judged in (halves, halves[::-1]):
            rate = max(REJECT_RATE, smallest_alpha(len(known)))
            rejected += int((judged > conformal_threshold(tuple(np.sort(known)), rate)).sum())
        return rejected

    @property
    def found(self) -> float:
        """The share of the defective images whose score is above the threshold."""
        return float((self.spoiled > self.calibration.threshold).mean())

    @property
    def positions(self) -> NDArray[np.float64]:
        """Where the good images' scores lie: 0 at the typical score, 1 at the threshold of `UNIT_RATE`."""
        typical = self.calibration.median
        strict = self.calibration.threshold_for(max(UNIT_RATE, smallest_alpha(len(self.calibration.scores))))
        return (self.good - typical) / max(strict - typical, 1e-9)


@dataclass(frozen=True)
class Row:
    """One line of the table: a figure before and after, how much it may move (None: any), and whether that holds.

    `meaning` is a clause that says what moved, and what that means to those who use the model; `enough` is the margin
    that would allow it.
    """

    name: str
    before: str
    after: str
    allowed: str | None
    holds: bool = True
    meaning: str = ""
    enough: str = ""


@dataclass(frozen=True)
class PrecisionComparison:
    """The table, and the numbers that a model file keeps of it."""

    good: int
    spoiled: int
    rows: tuple[Row, ...]
    change: dict[str, float]

    @property
    def broken(self) -> tuple[Row, ...]:
        """The rows that moved too far."""
        return tuple(row for row in self.rows if not row.holds)

    def refusal(self, precision: str) -> str:
        """What moved too far and what to do about it, for people; `precision` is "INT8" or "FP16"."""
        return (
            f"The {precision} file would judge otherwise than FP32, so nothing was written: "
            f"{'; and '.join(row.meaning for row in self.broken)}. Stay with the FP32 file, or train on more good "
            f"photos ({self.good} were held out) and export again; if a test on labelled photos satisfies you "
            f"(`rstpm-edge evaluate`), {' '.join(f'`margins` {row.enough}' for row in self.broken)} writes it all the "
            "same."
        )


def behave(
    good: ModelOutputs,
    spoiled: ModelOutputs,
    preset: Preset,
    size: tuple[int, int],
    alpha: float | None,
) -> Behaviour:
    """Calibrate a model on its maps of n held-out good images, and judge those of m defective ones.

    `size` is (height, width) of the model's input; `alpha` is what `calibrate` takes.
    """
    found = calibrate_maps(good, preset, size, alpha)
    score = Scorer(found.fusion, found.score_fusion, good.level_sizes, size)
    return Behaviour(
        found.fusion,
        found.score_fusion,
        found.calibration,
        np.asarray(found.scores),
        np.asarray(score(spoiled).score, np.float64),
    )


def compare_precisions(before: Behaviour, after: Behaviour, margins: Margins) -> PrecisionComparison:
    """What moved between two models that saw the same images."""
    n = len(before.good)
    fell = before.auroc - after.auroc
    rejects = after.false_rejects - before.false_rejects
    allowed = max(1, int(margins.false_rejects * n))
    move = float(np.abs(after.positions - before.positions).max())
    flips = int(((before.positions > 1) != (after.positions > 1)).sum())
    half = max(REJECT_RATE, smallest_alpha(n // 2))
    rows = (
        Row(
            "image AUROC, pseudo-defects",
            f"{before.auroc:.4f}",
            f"{after.auroc:.4f}",
            f"-{margins.auroc:g}",
            fell <= margins.auroc,
            f"it tells good photos from synthetic defects less well, by {fell:.4f} of image AUROC where "
            f"{margins.auroc:g} is allowed",
            f"auroc={_above(fell, 0.005)}",
        ),
        Row(
            f"false rejects at {half:.3g}",
            f"{before.false_rejects} of {n}",
            f"{after.false_rejects} of {n}",
            f"±{allowed}",
            abs(rejects) <= allowed,
            f"it rejects {after.false_rejects} of {n} good photos where FP32 rejects {before.false_rejects}, and a "
            f"difference of {allowed} is allowed",
            f"false_rejects={_above(abs(rejects) / n, 0.01)}",
        ),
        Row(
            "largest move of a good score",
            "",
            f"{move:.3f}",
            f"{margins.verdict:g}",
            move <= margins.verdict,
            f"the score of a good photo moves by {move:.0%} of the way from a typical score to the threshold for "
            f"{UNIT_RATE:.0%}, where {margins.verdict:.0%} is allowed, so photos near the threshold may get the other "
            "verdict",
            f"verdict={_above(move, 0.05)}",
        ),
        Row("verdicts on good that change", "", f"{flips} of {n}", None),
        Row("pseudo-defects found", f"{before.found:.3f}", f"{after.found:.3f}", None),
        Row("threshold", f"{before.calibration.threshold:.4g}", f"{after.calibration.threshold:.4g}", None),
    )
    change = {
        "auroc": round(-fell, 5),
        "false_rejects": rejects / n,
        "score_shift": round(move, 4),
        "recall": round(after.found - before.found, 4),
    }
    return PrecisionComparison(n, len(before.spoiled), rows, change)


def _above(value: float, step: float) -> str:
    """The next multiple of `step` that is no less than `value`, and a little more than it."""
    return f"{math.ceil(value / step + 0.01) * step:.10g}"


def checked_margins(pairs: Mapping[str, str]) -> Margins:
    """{"auroc": "0.01"} as Margins. Raises UsageError for another name, and for what is no share from 0 up."""
    values = {}
    for name, text in pairs.items():
        if name not in Margins.__dataclass_fields__:
            names = ", ".join(Margins.__dataclass_fields__)
            raise UsageError(f"`margins` has no {name!r}, only {names}.")
        try:
            values[name] = float(text)
        except ValueError:
            values[name] = float("nan")
        if not 0 <= values[name] < float("inf"):
            raise UsageError(f"`margins` {name} must be a finite number from 0 up, not {text!r}.")
    return Margins(**values)
