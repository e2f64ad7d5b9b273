"""Whether new good photos score as those do that a model was calibrated on: without that, both are not one sample.

Two tests, exact or nearly so, and no package for them: the Wilcoxon-Mann-Whitney test for scores that lie higher or
lower as a whole (Mann and Whitney, 1947), and for what the threshold is about, the number of new photos above it, whose
distribution is negative hypergeometric where the two are exchangeable.
"""

import math
from collections.abc import Sequence

import numpy as np

PLAINLY = 0.01  # p-value of the two tests together, below which new photos are not added to the old ones


def other_scores_p_value(before: Sequence[float], threshold: float, added: Sequence[float]) -> float:
    """How often exchangeable photos differ as much from those of `before`, in (0, 1]: twice the smaller p-value.

    `threshold` is the one that was set by those.
    """
    above = sum(score > threshold for score in added)
    allowed = sum(score > threshold for score in before)
    tests = (rank_sum_p_value(before, added), exceeding_p_value(len(before), allowed, len(added), above))
    return min(1.0, 2 * min(tests))


def rank_sum_p_value(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided, of the Wilcoxon-Mann-Whitney test, by its normal approximation with ties; 1 where all are equal."""
    n, m = len(first), len(second)
    _, inverse, counts = np.unique(np.concatenate([first, second]), return_inverse=True, return_counts=True)
    middle_rank = np.cumsum(counts) - (counts - 1) / 2
    statistic = float(middle_rank[inverse[n:]].sum()) - m * (n + m + 1) / 2
    ties = float((counts.astype(np.float64) ** 3 - counts).sum())
    variance = n * m / 12 * (n + m + 1 - ties / ((n + m) * (n + m - 1)))
    if variance <= 0:
        return 1.0
    return math.erfc(max(abs(statistic) - 0.5, 0.0) / math.sqrt(2 * variance))


def exceeding_p_value(old: int, old_above: int, new: int, new_above: int) -> float:
    """How often `new_above` or more of so many `new` photos score above the one of `old` photos that `old_above` of
    them are above, where all are exchangeable.

    Of all orders in which old and new may come, it counts those in which the new ones that are above number k: those
    above in any order with the `old_above`, and the others in any order with the rest.
    """

    def ways(k: int) -> float:
        return _log_choose(k + old_above, k) + _log_choose(new - k + old - old_above - 1, new - k)

    whole = _log_choose(old + new, new)
    return min(1.0, sum(math.exp(ways(k) - whole) for k in range(new_above, new + 1)))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
