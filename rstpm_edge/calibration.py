"""From scores of good images that were not trained on to a threshold with a guarantee.

Split conformal prediction (Vovk et al., "Algorithmic Learning in a Random World", 2005): when a new good
image is exchangeable with the n held-out ones, its score exceeds the ⌈(n + 1)(1 − α)⌉-th smallest of theirs
with probability at most α. That holds on average over calibrations. What holds for a single one, with a stated
confidence, is a tolerance limit (Wilks, "Determination of sample sizes for setting tolerance limits", 1941).
"""

import math
import statistics
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

from rstpm_edge.errors import UsageError

DEFAULT_ALPHA = 0.05  # docs/experiments.md, false-reject rate
CONFIDENCE = 0.95  # of what is said of a single calibration
USUAL_ALPHAS = (0.01, 0.02, 0.05, 0.1, 0.2)  # what else a user may think of


@dataclass(frozen=True)
class Threshold:
    """A score above which an image is called anomalous, and what it promises.

    Of good images like those of the calibration a share of at most `alpha` scores higher, on average over calibrations,
    and of at most `rate_with_confidence` for this one, with 95 % confidence. Both are None where no calibration stands
    behind the number; the latter also where the held-out sessions differ (`session_rates.rate_with_confidence`).
    """

    value: float
    alpha: float | None = None
    rate_with_confidence: float | None = None


@dataclass(frozen=True)
class Calibration:
    """Scores of the held-out good images, ascending, and the rate α of good parts that may be rejected."""

    alpha: float
    scores: tuple[float, ...]

    @property
    def threshold(self) -> float:
        """The score above which an image is called anomalous."""
        return self.threshold_for(self.alpha)

    def threshold_for(self, alpha: float) -> float:
        """The threshold for another rate. Raises UsageError for one that so many held-out images do not allow."""
        return conformal_threshold(self.scores, alpha)

    def promised(self, alpha: float | None = None) -> Threshold:
        """The threshold for `alpha` (the model's own) with its promise. Raises UsageError as `threshold_for` does."""
        alpha = self.alpha if alpha is None else alpha
        return Threshold(self.threshold_for(alpha), alpha, self.rate_with_confidence(alpha))

    @property
    def thresholds(self) -> dict[float, float]:
        """By rate, ascending: the model's own, and usual ones that so many held-out images allow."""
        usual = (alpha for alpha in USUAL_ALPHAS if alpha >= smallest_alpha(len(self.scores)))
        return {alpha: self.threshold_for(alpha) for alpha in sorted({self.alpha, *usual})}

    def rate_with_confidence(self, alpha: float | None = None, confidence: float = CONFIDENCE) -> float:
        """The share of good images, at most, above the threshold for `alpha` (the model's own), with this confidence.

        `alpha` holds on average over many calibrations; this, in 0…1, of so large a share of them.

        Raises UsageError for a rate that so many held-out images do not allow, and for a confidence outside of 0…1.
        """
        n = len(self.scores)
        return tolerance_limit(n, conformal_rank(n, self.alpha if alpha is None else alpha), confidence)

    @property
    def median(self) -> float:
        """The score of a typical good image."""
        return statistics.median(self.scores)

    def p_value(self, score: float) -> float:
        """(1 + how many held-out good images score at least as high) / (n + 1), in (0, 1]."""
        at_least = len(self.scores) - bisect_left(self.scores, score)
        return (1 + at_least) / (len(self.scores) + 1)


def calibrate(scores: Iterable[float], alpha: float | None = None) -> Calibration:
    """Calibration from held-out scores; without `alpha`, 0.05 or the smallest that their number allows.

    Raises UsageError when there are no scores, or too few of them for the α that was asked for.
    """
    ordered = tuple(sorted(float(score) for score in scores))
    if not ordered or not all(math.isfinite(score) for score in ordered):
        raise UsageError("Calibration needs finite scores of at least one held-out good image.")
    if alpha is None:
        alpha = max(DEFAULT_ALPHA, smallest_alpha(len(ordered)))
    conformal_threshold(ordered, alpha)  # raises when n is too small for alpha
    return Calibration(alpha, ordered)


def conformal_threshold(scores: tuple[float, ...], alpha: float) -> float:
    """The ⌈(n + 1)(1 − α)⌉-th smallest of the ascending `scores`.

    Raises UsageError when α is not between 0 and 1, or when n is too small for it.
    """
    return scores[conformal_rank(len(scores), alpha) - 1]


def conformal_rank(n: int, alpha: float) -> int:
    """⌈(n + 1)(1 − α)⌉, from 1 to n: which of n ascending scores is the threshold. Raises as `conformal_threshold`."""
    if not 0 < alpha < 1:
        raise UsageError(f"`alpha` must lie between 0 and 1, but is {alpha:g}.")
    # The tolerance keeps (n + 1)(1 − 1/(n + 1)), which is n, from being rounded up to n + 1.
    rank = math.ceil((n + 1) * (1 - alpha) - 1e-9)
    if rank > n:
        needed = math.ceil(1 / alpha - 1e-9) - 1
        raise UsageError(
            f"A false-reject rate of {alpha:g} needs at least {needed} held-out good images, but there are "
            f"{n}: hold more of them out of training, or take an `alpha` of at least {typed(smallest_alpha(n))}."
        )
    return max(rank, 1)


def tolerance_limit(n: int, rank: int, confidence: float) -> float:
    """The share of a population, at most, above the `rank`-th smallest (from 1) of n draws from it, with a confidence.

    The share above has the distribution Beta(n + 1 − rank, rank), whatever that of continuous scores; where scores are
    equal, it is smaller. So the limit is its quantile: the p at which at most n − rank of n draws lie above with
    probability 1 − confidence.

    Raises UsageError when the confidence is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise UsageError(f"A confidence lies between 0 and 1, but this is {confidence:g}.")
    # In logarithms: (1 − p)ⁿ of some ten thousand images is below the smallest double.
    counts = range(n - rank + 1)  # how many of n draws lie above
    ways = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in counts]
    low, high = 0.0, 1.0
    for _ in range(60):  # halvings, to below the precision of a double at 1/n
        p = (low + high) / 2
        above, below = math.log(p), math.log1p(-p)
        if sum(math.exp(way + k * above + (n - k) * below) for k, way in enumerate(ways)) > 1 - confidence:
            low = p
        else:
            high = p
    return high


def clopper_pearson(successes: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact two-sided confidence interval (low, high) of a proportion, both in 0..1.

    It covers the true proportion with probability at least `confidence`, for any number of trials. Each end is a
    tolerance limit: that the k + 1-th largest of n draws lies below a share is that at most k of n are above it.

    Raises ValueError unless 0 <= successes <= trials, trials >= 1 and 0 < confidence < 1.

    Source: Clopper and Pearson, Biometrika 26 (1934).
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(
            f"{successes} of {trials} is no proportion: it needs trials >= 1 and 0 <= successes <= trials."
        )
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, but it is {confidence}.")
    one_sided = (1 + confidence) / 2

    def upper(count: int) -> float:
        return 1.0 if count == trials else tolerance_limit(trials, trials - count, one_sided)

    return 1 - upper(trials - successes), upper(successes)


def smallest_alpha(n: int) -> float:
    """The smallest false-reject rate that n held-out images can vouch for."""
    return 1 / (n + 1)


def typed(alpha: float) -> str:
    """A rate in four digits, as a user may type it: rounded up, so that it is still one that is allowed."""
    # Rounded to nearest, 1/3 would read 0.333, and the user who types that gets the same error again.
    return f"{math.ceil(alpha * 10_000) / 10_000:g}"
