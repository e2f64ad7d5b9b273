"""Whether images still come from where the model was calibrated: a test that may look after each image.

A conformal test martingale (Vovk et al., "Retrain or not retrain: conformal test martingales for change-point
detection", arXiv 2102.10439). Capital is bet on each image. As long as they are exchangeable with the held-out ones, no
bet gains on average, so the capital ever grows 1/r-fold with a probability of at most r (Ville's inequality).

P-values by the same n held-out images are not independent: an odd calibration shows in all of them. So a p-value counts
only as one of n + 1 cells, those between the held-out scores, and each image joins the reference of the next ones: the
next one falls into a cell that holds c images with a probability of (1 + c) / (n + 1 + all images). That is exact, for
any n and any run where no two scores are equal, and bets are made against it. Nothing is drawn at random.

Capitals tell what changed. Images in the highest cells, which the model's own threshold calls anomalous, are bet on
by how often they come: more defects. The others are bet on by their ranks among themselves, which no defect that is
found moves: another scene. So is what changes the brightness of images, among those of the held-out ones, where these
are known: another light may move no score, until it is too late. Each has its share of the false-alarm rate.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from rstpm_edge.calibration import Calibration, conformal_rank
from rstpm_edge.errors import UsageError

Drift: TypeAlias = Literal["stable", "more defects", "scene changed"]
STATES: tuple[Drift, ...] = ("stable", "more defects", "scene changed")
Cause: TypeAlias = Literal["scores", "light"]
CAUSES: tuple[Cause, ...] = ("scores", "light")

# docs/experiments.md, drift
SLOPES = (-0.9, -0.45, 0.45, 0.9)  # of bets 1 + slope · (2p − 1): scores are higher, or lower, than they were
ODDS = (2.0, 4.0, 16.0)  # by how much an anomalous image becomes more likely
HAZARD, HAZARD_START = 0.5, 20.0  # a share HAZARD / (t + HAZARD_START) of what is left is bet on a change at image t
# After an alarm by the share of anomalous images: so many of these, before so many normal ones, are another scene. So
# are fewer, where the bets on normal ones brought so many times what they began with. All else are defects.
NEARLY_ALL, NORMAL, FOLD = 15, 10, 3.0


@dataclass(frozen=True)
class DriftState:
    """All that the test remembers; `update` gives the next one, and `begin` the first.

    false_alarm_rate: the probability, at most, of an alarm in a run of any length in which nothing changes.
    tail: how many of the cells count as anomalous. counts: images by cell; cell i has those that i held-out images
        score at least as high as, 0…n.
    scene, defects: natural logarithms of what is not bet yet, and of what is on each bet; of 1 in all at the start.
    waited: anomalous and normal images since the share of anomalous ones gave an alarm; None before that.
    drift: what is known. alarm_at: the number of the image, from 1, after which it was known; None while it is
        "stable". cause: what told that the scene changed; None where it is not told.
    light_counts: images by cell of their brightness, as `counts`; empty where it is not watched. light: what is on
        bets on it.
    """

    false_alarm_rate: float
    tail: int
    counts: tuple[int, ...]
    scene: tuple[float, ...] = (0.0, *(-math.inf for _ in SLOPES))
    defects: tuple[float, ...] = (0.0, *(-math.inf for _ in ODDS))
    waited: tuple[int, int] | None = None
    drift: Drift = "stable"
    alarm_at: int | None = None
    cause: Cause | None = None
    light_counts: tuple[int, ...] = ()
    light: tuple[float, ...] = (0.0, *(-math.inf for _ in SLOPES))

    @property
    def images(self) -> int:
        """How many were taken."""
        return sum(self.counts)

    def update(self, p_value: float, light_p_value: float | None = None) -> "DriftState":
        """The state after one more image, of the p-values that `Result` has for it. Without the second, nothing is said
        of its light.

        "stable" may become "more defects", and both may become "scene changed", which stays.

        Raises UsageError for a p-value that no image has by so many held-out ones.
        """
        cell = _cell(p_value, self.counts)
        counts, tail = self.counts, self.tail
        found, normal = tail + sum(counts[:tail]), len(counts) - tail + sum(counts[tail:])
        share = found / (found + normal)  # the probability that the next one is anomalous
        anomalous, scene = cell < tail, self.scene
        defects = _bet(self.defects, self.images, [_gain(odds, share, anomalous) for odds in ODDS])
        if not anomalous:
            scene = _bet_on_rank(scene, counts[tail:], cell - tail)
        light, light_counts = self.light, self.light_counts
        if light_counts and light_p_value is not None:
            of_light = _cell(light_p_value, light_counts)
            light, light_counts = _bet_on_rank(light, light_counts, of_light), _counted(light_counts, of_light)
        counts = _counted(counts, cell)
        after = replace(self, counts=counts, scene=scene, defects=defects, light=light, light_counts=light_counts)
        return after._decided(anomalous)

    def _decided(self, anomalous: bool) -> "DriftState":
        if self.drift == "scene changed":
            return self
        # Each of the two, or three, has its share of the rate.
        limit = math.log((3 if self.light_counts else 2) / self.false_alarm_rate)
        if _log_sum(self.scene) >= limit:
            return replace(self, drift="scene changed", alarm_at=self.images, cause="scores")
        if _log_sum(self.light) >= limit:
            return replace(self, drift="scene changed", alarm_at=self.images, cause="light")
        if self.drift == "more defects":
            return self
        if self.waited is None:
            return replace(self, waited=(0, 0)) if _log_sum(self.defects) >= limit else self
        waited = (self.waited[0] + anomalous, self.waited[1] + (not anomalous))
        if waited[0] < NEARLY_ALL and waited[1] < NORMAL:
            return replace(self, waited=waited)
        # Where hardly an image is normal, there are none left that could look as before.
        scene = waited[0] >= NEARLY_ALL or _log_sum(self.scene) >= math.log(FOLD)
        drift: Drift = "scene changed" if scene else "more defects"
        return replace(self, waited=waited, drift=drift, alarm_at=self.images, cause="scores" if scene else None)


def begin(calibration: Calibration, false_alarm_rate: float, *, light: int = 0) -> DriftState:
    """The state before the first image, for images that are judged by this calibration.

    false_alarm_rate: above 0, below 1. light: by how many held-out images `Result.light_p_value` is found, those of
    `Validity.light`; with 0, light is not watched. Raises UsageError.
    """
    if not 0 < false_alarm_rate < 1:
        raise UsageError(f"A false-alarm rate lies between 0 and 1, but this is {false_alarm_rate:g}.")
    n = len(calibration.scores)
    tail = n + 1 - conformal_rank(n, calibration.alpha)
    return DriftState(false_alarm_rate, tail, (0,) * (n + 1), light_counts=(0,) * (light + 1) if light else ())


def _cell(p_value: float, counts: tuple[int, ...]) -> int:
    cells = len(counts)
    if not 0 < p_value <= 1 or abs(p_value * cells - round(p_value * cells)) > 1e-6:
        raise UsageError(f"A p-value by {cells - 1} held-out images is a multiple of 1/{cells}, not {p_value:g}.")
    return round(p_value * cells) - 1


def _counted(counts: tuple[int, ...], cell: int) -> tuple[int, ...]:
    return (*counts[:cell], counts[cell] + 1, *counts[cell + 1 :])


def _bet_on_rank(capital: tuple[float, ...], counts: tuple[int, ...], cell: int) -> tuple[float, ...]:
    """What bets on the rank of an image in this cell make of a capital, before it is counted."""
    # In the middle of what the cell may have, since these bets are straight: nothing but the mean counts.
    p = (cell + sum(counts[:cell]) + (1 + counts[cell]) / 2) / (len(counts) + sum(counts))
    return _bet(capital, sum(counts), [1 + slope * (2 * p - 1) for slope in SLOPES])


def _gain(odds: float, share: float, anomalous: bool) -> float:
    """What a bet that anomalous images are more likely than their `share`, by these odds, makes of 1."""
    likelier = odds * share / (1 - share + odds * share)
    return likelier / share if anomalous else (1 - likelier) / (1 - share)


def _bet(capital: tuple[float, ...], t: int, gains: Sequence[float]) -> tuple[float, ...]:
    """Put some of what is not bet yet on the bets, evenly, and settle them: when it changes is not known before."""
    hazard = HAZARD / (t + HAZARD_START)
    left, *on = capital
    new = left + math.log(hazard / len(gains))
    grown = (_log_sum((old, new)) + math.log(gain) for old, gain in zip(on, gains, strict=True))
    return left + math.log1p(-hazard), *grown


def _log_sum(logarithms: Sequence[float]) -> float:
    """The logarithm of the sum of what these are logarithms of."""
    largest = max(logarithms)
    return largest + math.log(sum(math.exp(one - largest) for one in logarithms))
