"""Which scores are taken for those of held-out photos: all of these, and few of new ones, however many there are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from rstpm_edge.calibration import calibrate
from rstpm_edge.recalibration.confirmed_photos import is_held_out
from rstpm_edge.recalibration.exchangeability import other_scores_p_value


@pytest.mark.parametrize(
    ("held_out", "rounding"), [(3, 5.3e-5), (20, 1.7e-5), (60, 1.7e-5), (200, 1.7e-5), (1000, 0), (20_000, 0)]
)
def test_held_out_photos_are_known(held_out: int, rounding: float) -> None:
    draw = np.random.default_rng(held_out)
    calibration = calibrate(draw.normal(size=held_out))
    moved = draw.choice([-1, 1], held_out) * rounding * (calibration.threshold - calibration.median)
    again = (np.asarray(calibration.scores) + moved)[:2000]
    assert all(is_held_out(calibration, score) for score in again)


@pytest.mark.parametrize("held_out", [30, 200, 1000, 5000, 20_000])
def test_new_photos_stay_a_fair_sample(held_out: int) -> None:
    draw = np.random.default_rng(held_out)
    calibration, new = calibrate(draw.normal(size=held_out), 0.05), draw.normal(size=5000)
    kept = new[[not is_held_out(calibration, score) for score in new]]
    assert len(kept) > 0.96 * len(new)
    assert other_scores_p_value(calibration.scores, calibration.threshold, tuple(kept)) > 0.01
    assert norm.sf(calibrate(kept, 0.05).threshold) == pytest.approx(0.05, abs=0.01)
