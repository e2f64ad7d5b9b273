"""`tools/cross_conformal.py` judges as its four ways say."""

from __future__ import annotations

import cross_conformal
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from rstpm_edge.calibration import conformal_threshold


def judged(rows: int = 5, *, alike: bool = False) -> cross_conformal.Judged:
    random = np.random.default_rng(0)

    def others(count: int, shift: float) -> cross_conformal.Scores:
        scores = random.gamma(9, size=(1 if alike else rows, count)) + shift
        return np.repeat(scores, rows // len(scores), axis=0)

    own = random.gamma(9, size=100)
    return cross_conformal.Judged(own, np.arange(100) % rows, others(400, 0), others(80, 0), others(60, 6))


def test_models_that_are_one_judge_as_one_calibrated_on_all_photos() -> None:
    found = judged(alike=True)
    for alpha in (0.05, 0.1, 0.2):
        one = found.aside[0] > conformal_threshold(tuple(sorted(found.own)), alpha)
        assert (cross_conformal.rejected_by_all(found, found.aside, alpha) == one).all()
        assert (cross_conformal.rejected_by_pooled(found, found.aside, alpha) == one).all()


def test_each_photo_is_compared_by_the_model_that_has_not_seen_it() -> None:
    found = judged()
    at_least = [
        sum(own >= found.aside[fold, i] for own, fold in zip(found.own, found.fold, strict=True))
        for i in range(found.aside.shape[1])
    ]
    assert cross_conformal.cv_p_values(found, found.aside) == pytest.approx((np.array(at_least) + 1) / 101)


def test_a_model_has_the_threshold_of_its_own_photos() -> None:
    found = judged()
    rejected = cross_conformal.rejected_by_split(found, found.aside, 0.05)
    for k in range(5):
        assert (rejected[k] == (found.aside[k] > found.own[found.fold == k].max())).all()


def test_the_table_tells_every_way_at_every_rate() -> None:
    found = judged()
    lines = cross_conformal.table(found, [0.05, 0.2]).splitlines()
    assert [line.split(" | ")[1] for line in lines[2:10]] == ["split", "pooled", "CV+", "added"] * 2
    labels = [0] * 80 + [1] * 60
    alone = [roc_auc_score(labels, [*found.good[k], *found.defective[k]]) for k in range(5)]
    assert lines[-1].startswith(f"Image AUROC of a model {np.mean(alone):.3f}, of the mean score of all 0.")
