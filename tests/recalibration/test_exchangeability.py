"""The two tests of whether new photos score as the old ones do, against SciPy and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rstpm_edge.calibration import calibrate
from rstpm_edge.recalibration.exchangeability import (
    PLAINLY,
    exceeding_p_value,
    other_scores_p_value,
    rank_sum_p_value,
)


@pytest.mark.training  # which brings SciPy
@pytest.mark.parametrize(("n", "m", "shift"), [(29, 17, 0.0), (29, 17, 0.7), (5, 40, -1.0), (100, 100, 0.2)])
@pytest.mark.parametrize("digits", [1, 9])
def test_the_rank_sum_is_that_of_scipy(n: int, m: int, shift: float, digits: int) -> None:
    from scipy.stats import mannwhitneyu

    random = np.random.default_rng(n + m)
    first, second = (np.round(random.normal(at, 1, count), digits).tolist() for at, count in ((0, n), (shift, m)))
    expected = mannwhitneyu(first, second, method="asymptotic").pvalue
    assert rank_sum_p_value(first, second) == pytest.approx(expected, rel=1e-9)


def test_equal_scores_differ_in_nothing() -> None:
    assert rank_sum_p_value([1.0] * 9, [1.0] * 4) == 1


def test_how_many_exceed_by_simulation() -> None:
    random, draws = np.random.default_rng(0), 20_000
    together = random.random((draws, 29 + 17))
    limit = np.sort(together[:, :29], axis=1)[:, 27]  # one of the old ones lies above
    above = (together[:, 29:] > limit[:, None]).sum(axis=1)
    for k in (0, 1, 3, 5):
        share = float((above >= k).mean())
        assert exceeding_p_value(29, 1, 17, k) == pytest.approx(share, abs=4 * math.sqrt(0.25 / draws))


@pytest.mark.parametrize("n", [19, 94])
def test_exchangeable_photos_are_refused_as_rarely_as_is_said(n: int) -> None:
    random = np.random.default_rng(1)
    refused = []
    for _ in range(2000):
        before = calibrate(random.gamma(9, size=n))
        p_value = other_scores_p_value(before.scores, before.threshold, random.gamma(9, size=40).tolist())
        refused.append(p_value < PLAINLY)
    assert np.mean(refused) < PLAINLY + 3 * math.sqrt(PLAINLY / 2000)


def test_chosen_rejects_are_told_from_a_sample() -> None:
    """Of 30 photos that were all rejected, as those that people complain of are."""
    random = np.random.default_rng(2)
    before = calibrate(random.gamma(9, size=94))
    drawn = random.gamma(9, size=2000)
    rejected = drawn[drawn > before.threshold].tolist()
    assert other_scores_p_value(before.scores, before.threshold, rejected[:30]) < 1e-9
    assert other_scores_p_value(before.scores, before.threshold, rejected[:3]) < PLAINLY
