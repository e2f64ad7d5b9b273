"""The conformal threshold and the p-value."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstpm_edge.calibration import (
    Calibration,
    calibrate,
    clopper_pearson,
    conformal_threshold,
    smallest_alpha,
    tolerance_limit,
    typed,
)
from rstpm_edge.errors import UsageError

scores = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)
alphas = st.floats(0.001, 0.999)


def test_the_threshold_of_99_images_at_one_percent_is_their_highest_score() -> None:
    assert calibrate(range(99), 0.01).threshold == 98
    assert calibrate(range(199), 0.01).threshold == 197  # ceil(200 * 0.99) = 198th smallest


@given(scores, alphas)
def test_the_rank_is_that_of_split_conformal_prediction(values: list[float], alpha: float) -> None:
    ordered = tuple(sorted(values))
    rank = math.ceil((len(ordered) + 1) * (1 - alpha) - 1e-9)
    if rank > len(ordered):
        with pytest.raises(UsageError, match="needs at least"):
            conformal_threshold(ordered, alpha)
    else:
        assert conformal_threshold(ordered, alpha) == ordered[max(rank, 1) - 1]


@given(scores, alphas)
def test_an_image_is_above_the_threshold_only_if_its_p_value_is_at_most_alpha(
    values: list[float], alpha: float
) -> None:
    calibration = Calibration(max(alpha, smallest_alpha(len(values))), tuple(sorted(values)))
    above = math.nextafter(calibration.threshold, math.inf)
    assert calibration.p_value(above) <= calibration.alpha + 1e-9


def test_good_images_are_rejected_at_most_as_often_as_promised() -> None:
    rng = np.random.default_rng(0)
    rejected = []
    for _ in range(2000):
        calibration = calibrate(rng.gamma(2, size=59), alpha=0.05)
        rejected.append((rng.gamma(2, size=50) > calibration.threshold).mean())
    assert 0.045 < np.mean(rejected) < 0.0525


def test_p_values() -> None:
    calibration = Calibration(0.2, (1.0, 2.0, 2.0, 3.0))
    assert [calibration.p_value(score) for score in (0, 1, 2, 2.5, 3, 4)] == [1, 1, 0.8, 0.4, 0.4, 0.2]
    assert calibration.median == 2


def test_alpha_is_five_percent_or_the_smallest_that_the_images_allow() -> None:
    assert calibrate(range(500)).alpha == 0.05
    assert calibrate(range(19)).alpha == 0.05
    assert calibrate(range(9)).alpha == 0.1
    assert calibrate([3.0]) == Calibration(0.5, (3.0,))


@given(st.integers(1, 3000))
def test_every_number_of_images_can_be_calibrated(n: int) -> None:
    assert calibrate(range(n), smallest_alpha(n)).threshold == n - 1


def test_too_few_images_for_the_alpha_asked_for_name_the_number_needed() -> None:
    with pytest.raises(UsageError, match=r"0\.01 needs at least 99 held-out good images, but there are 98:"):
        calibrate(range(98), 0.01)


@given(st.integers(1, 3000))
def test_the_alpha_and_the_number_that_the_message_names_do_work(n: int) -> None:
    with pytest.raises(UsageError) as caught:
        calibrate(range(n), 1e-5)
    alpha = float(re.search(r"`alpha` of at least ([0-9.e-]+)\.", str(caught.value))[1])  # type: ignore[index]
    calibrate(range(n), alpha)
    assert "at least 99999 held-out" in str(caught.value)


@pytest.mark.parametrize("alpha", [0, 1, -0.5, 2, math.nan])
def test_impossible_alphas(alpha: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        calibrate(range(99), alpha)


@pytest.mark.parametrize("values", [[], [1, math.nan], [1, math.inf]])
def test_scores_that_calibrate_nothing(values: list[float]) -> None:
    with pytest.raises(UsageError, match="finite scores of at least one"):
        calibrate(values)


@pytest.mark.parametrize("n", [1, 3, 19, 94, 99, 300])
def test_thresholds_of_usual_rates_can_be_asked_for_as_they_are_shown(n: int) -> None:
    calibration = calibrate(range(n))
    assert list(calibration.thresholds) == sorted({calibration.alpha, *calibration.thresholds})
    assert calibration.thresholds[calibration.alpha] == calibration.threshold
    for alpha, threshold in calibration.thresholds.items():
        assert calibration.threshold_for(float(typed(alpha))) <= threshold


# What holds for one calibration


@pytest.mark.parametrize(
    ("n", "percent"), [(20, 13.9), (29, 10), (59, 5), (149, 2), (299, 1), (598, 0.5)]
)  # Wilks's sizes, and the smallest usual one
def test_what_the_highest_of_n_scores_proves(n: int, percent: float) -> None:
    rate = 100 * Calibration(smallest_alpha(n), tuple(range(n))).rate_with_confidence()
    assert round(rate, 1) <= percent
    assert n == 20 or 100 * tolerance_limit(n - 1, n - 1, 0.95) > percent  # and no fewer do


@pytest.mark.training
@pytest.mark.parametrize("n", [1, 2, 20, 59, 598, 3000, 50_000])
def test_the_limit_is_the_quantile_of_a_beta_distribution(n: int) -> None:
    from scipy.stats import beta

    for place in (0, 0.5, 0.8, 0.95, 0.99, 1):
        rank = 1 + round(place * (n - 1))
        for confidence in (0.001, 0.5, 0.95, 0.999):
            quantile = beta.ppf(confidence, n + 1 - rank, rank)
            assert tolerance_limit(n, rank, confidence) == pytest.approx(quantile, rel=1e-9)


def test_19_of_20_calibrations_keep_to_the_confident_rate() -> None:
    rng = np.random.default_rng(0)
    calibrations = [calibrate(rng.uniform(size=59), 0.05) for _ in range(4000)]
    limit = calibrations[0].rate_with_confidence()
    assert 0.94 < np.mean([1 - calibration.threshold <= limit for calibration in calibrations]) < 0.96


def test_another_rate_and_another_confidence() -> None:
    calibration = calibrate(range(100))
    assert (
        calibration.rate_with_confidence() == calibration.rate_with_confidence(0.05) == pytest.approx(0.0892, abs=1e-4)
    )
    assert calibration.rate_with_confidence(0.2) == pytest.approx(0.2662, abs=1e-4)
    assert calibration.rate_with_confidence(0.2, 0.5) == pytest.approx(0.195, abs=0.01)


@pytest.mark.parametrize("wrong", [0, 1, -0.5, 2, math.nan, math.inf])
def test_impossible_confidences_and_rates(wrong: float) -> None:
    calibration = calibrate(range(99))
    with pytest.raises(UsageError, match=rf"^A confidence lies between 0 and 1, but this is {wrong:g}\.$"):
        calibration.rate_with_confidence(confidence=wrong)
    with pytest.raises(UsageError, match=rf"^`alpha` must lie between 0 and 1, but is {wrong:g}\.$"):
        calibration.rate_with_confidence(wrong)


def test_a_rate_that_the_images_do_not_allow_has_no_confidence() -> None:
    with pytest.raises(UsageError, match=r"0\.001 needs at least 999 held-out good images, but there are 99:"):
        calibrate(range(99)).rate_with_confidence(0.001)


@pytest.mark.parametrize(
    ("successes", "trials", "confidence", "low", "high"),
    [
        (0, 100, 0.95, 0.0, 0.0362),
        (100, 100, 0.95, 0.9638, 1.0),
        (5, 10, 0.95, 0.1871, 0.8129),
        (8, 10, 0.95, 0.4439, 0.9748),
        (0, 1, 0.95, 0.0, 0.975),
        (0, 10, 0.90, 0.0, 0.2589),
    ],
)
def test_clopper_pearson_gives_tabled_values(
    successes: int, trials: int, confidence: float, low: float, high: float
) -> None:
    assert clopper_pearson(successes, trials, confidence) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.training
@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(2, 500), st.floats(0.5, 0.999))
def test_clopper_pearson_leaves_half_of_the_error_in_each_tail(
    data: st.DataObject, trials: int, confidence: float
) -> None:
    from scipy.stats import binom

    successes = data.draw(st.integers(1, trials - 1))
    low, high = clopper_pearson(successes, trials, confidence)
    assert low < successes / trials < high
    assert binom.sf(successes - 1, trials, low) == pytest.approx((1 - confidence) / 2, rel=1e-6)
    assert binom.cdf(successes, trials, high) == pytest.approx((1 - confidence) / 2, rel=1e-6)


@pytest.mark.parametrize(
    ("successes", "trials", "confidence", "message"),
    [
        (0, 0, 0.95, "0 of 0 is no proportion"),
        (-1, 5, 0.95, "-1 of 5 is no proportion"),
        (6, 5, 0.95, "6 of 5 is no proportion"),
        (1, 5, 0.0, "confidence must be between 0 and 1"),
        (1, 5, 95, "confidence must be between 0 and 1, but it is 95"),
    ],
)
def test_clopper_pearson_refuses_what_is_no_proportion(
    successes: int, trials: int, confidence: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        clopper_pearson(successes, trials, confidence)
