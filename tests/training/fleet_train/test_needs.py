"""What a product should get from people before it is relied on."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from fleet_results import MEASURED

from rstpm_edge.calibration import Calibration
from rstpm_edge.model.metadata import Fusion
from rstpm_edge.training.fleet_train.needs import needs_of
from rstpm_edge.training.fleet_train.result import Audited, Need
from rstpm_edge.training.learning.run_summary import Summary

SCORES = tuple(1 + i / 100 for i in range(40))
# One that learned all there is, on enough photos; the two highest scores are alike.
DONE = Summary(
    epochs=60,
    minutes=3.0,
    losses=((1.0, 1.0),) * 60,
    fusion=Fusion(),
    calibration=Calibration(0.05, SCORES),
    teacher_sha256=("", ""),
    highest=(("a.png", 1.39), ("b.png", 1.38), ("c.png", 1.37)),
    synthetic_scores=(2.0,) * 9 + (0.0,),
)


def found(**changes: Any) -> tuple[Need, ...]:
    given: dict[str, Any] = {
        "audited": Audited(0, 0),
        "photos": 200,
        "summary": DONE,
        "measured": MEASURED,
        "problem": None,
    }
    return needs_of(**{**given, **changes})


def test_nothing_is_needed() -> None:
    assert found() == ()
    assert found(measured=None) == ()


@pytest.mark.parametrize(
    ("changes", "kind", "why"),
    [
        ({"photos": 12}, "photos", "12 good photos; 100 or more are to be trusted"),
        (
            {"summary": dataclasses.replace(DONE, calibration=Calibration(0.1, SCORES))},
            "photos",
            "40 held-out photos allow a rate of 10%",
        ),
        ({"audited": Audited(3, 0)}, "audit", "3 of the good photos look suspicious"),
        (
            {"audited": Audited(0, 0, "there are 6")},
            "audit",
            "the photos were not compared with each other: there are 6",
        ),
        (
            {"summary": dataclasses.replace(DONE, highest=(("a.png", 1.38), ("b.png", 1.22), ("c.png", 1.21)))},
            "look",
            "the held-out photo a.png alone sets the threshold",
        ),
        (
            {"summary": dataclasses.replace(DONE, losses=((2.0, 2.0), (1.0, 1.0)))},
            "look",
            "the training is not done: its loss still fell by 50.0% an epoch",
        ),
        ({"problem": "no good ones"}, "look", "the test photos were not judged: no good ones"),
        (
            {"measured": dataclasses.replace(MEASURED, keeps_promise=False, false_rejects=0.4)},
            "look",
            "40% of the good test photos are rejected, more than was promised",
        ),
        (
            {"measured": dataclasses.replace(MEASURED, image_auroc=0.712)},
            "look",
            "image AUROC is 0.712: many defects look like good parts to it",
        ),
        (
            {"measured": None, "summary": dataclasses.replace(DONE, synthetic_scores=(0.0,) * 3 + (2.0,))},
            "look",
            "25% of the synthetic defects are found at the threshold",
        ),
    ],
)
def test_what_is_needed(changes: dict[str, Any], kind: Any, why: str) -> None:
    assert found(**changes) == (Need(kind, why),)
