"""The conformal threshold and the p-value."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstpm_edge.calibration import Calibration, calibrate, conformal_threshold, smallest_alpha, typed
from rstpm_edge.errors import UsageError

scores = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)
alphas = st.floats(0.001, 0.999)


def test_the_threshold_of_99_images_at_one_percent_is_their_highest_score() -> None:
    assert calibrate(range(99)).threshold == 98
    assert calibrate(range(199)).threshold == 197  # ceil(200 * 0.99) = 198th smallest


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


def test_alpha_is_one_percent_or_the_smallest_that_the_images_allow() -> None:
    assert calibrate(range(500)).alpha == 0.01
    assert calibrate(range(99)).alpha == 0.01
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
    assert next(iter(calibration.thresholds)) == calibration.alpha
    for alpha, threshold in calibration.thresholds.items():
        assert calibration.threshold_for(float(typed(alpha))) <= threshold
        assert threshold <= calibration.threshold
