"""Effectiveness, miss and false-alarm rates and kappas of verdicts on reference parts."""

from __future__ import annotations

import random

import pytest
from reference_parts import part

from rstpm_edge.msa.agreement import (
    JudgedPart,
    Rate,
    cohens_kappa,
    effectiveness,
    false_alarm_rate,
    fleiss_kappa,
    kappa_grade,
    miss_rate,
)


def aiag(good_right: int, alarms: list[str], bad_right: int, misses: list[str]) -> list[JudgedPart]:
    """An appraiser of the manual's example: 34 good and 16 bad parts, three trials each."""
    parts = [part("good", verdicts) for verdicts in ["nnn"] * good_right + alarms]
    parts += [part("bad", verdicts) for verdicts in ["aaa"] * bad_right + misses]
    assert len(parts) == 50
    return parts


# AIAG, MSA, 4th edition, chapter III, section C: effectiveness, miss rate, false-alarm rate and kappa with the
# reference of the three appraisers, as printed.
@pytest.mark.parametrize(
    ("parts", "printed"),
    [
        (aiag(29, ["ann"] * 5, 13, ["naa"] * 3), (0.84, 0.063, 0.049, 0.88)),
        (aiag(32, ["ann"] * 2, 13, ["naa"] * 3), (0.90, 0.063, 0.020, 0.92)),
        (aiag(28, ["ann"] * 3 + ["aan"] * 3, 12, ["naa"] * 2 + ["nna"] * 2), (0.80, 0.125, 0.088, 0.77)),
    ],
)
def test_the_example_of_aiag(parts: list[JudgedPart], printed: tuple[float, float, float, float]) -> None:
    kappa = cohens_kappa(parts)
    assert kappa is not None
    found = [effectiveness(parts).share, miss_rate(parts).share, false_alarm_rate(parts).share]
    assert found == pytest.approx(printed[:3], abs=5.1e-4)
    assert kappa == pytest.approx(printed[3], abs=5e-3)
    borderline = [part("borderline", "nan"), part("borderline", "aaa")]
    assert cohens_kappa([*parts, *borderline]) == kappa
    assert effectiveness([*parts, *borderline]) == effectiveness(parts)


def test_the_interval_of_the_example() -> None:
    low, high = effectiveness(aiag(29, ["ann"] * 5, 13, ["naa"] * 3)).interval
    assert (round(low, 2), round(high, 2)) == (0.71, 0.93)  # as printed


def test_an_invalid_photo_is_not_right_and_no_judgement() -> None:
    parts = [part("good", "nni"), part("good", "ann"), part("bad", "iaa"), part("bad", "iii")]
    assert (effectiveness(parts).count, effectiveness(parts).of) == (0, 4)
    assert (miss_rate(parts).count, miss_rate(parts).of) == (0, 2)
    assert (false_alarm_rate(parts).count, false_alarm_rate(parts).of) == (1, 5)


def test_nothing_but_invalid_photos_is_unacceptable() -> None:
    rate = miss_rate([part("good", "nnn"), part("bad", "iii")])
    assert rate.share is None
    assert rate.interval == (0, 1)
    assert rate.grade == "unacceptable"
    assert not rate.is_shown


@pytest.mark.parametrize(
    ("count", "of", "grade", "is_shown"),
    [
        (0, 20, "acceptable", False),  # up to 16.8 %
        (0, 182, "acceptable", False),
        (0, 183, "acceptable", True),  # 1 − 0.025^(1/n) ≤ 2 %
        (20, 1000, "acceptable", False),
        (50, 1000, "marginal", False),
        (30, 1000, "marginal", True),
        (51, 1000, "unacceptable", False),
        (90, 1000, "unacceptable", True),
    ],
)
def test_grades_of_a_miss_rate(count: int, of: int, grade: str, is_shown: bool) -> None:
    rate = Rate(count, of, 0.02, 0.05)
    assert (rate.grade, rate.is_shown) == (grade, is_shown)


@pytest.mark.parametrize(
    ("count", "grade"), [(45, "acceptable"), (44, "marginal"), (40, "marginal"), (39, "unacceptable")]
)
def test_grades_of_an_effectiveness(count: int, grade: str) -> None:
    rate = Rate(count, 50, 0.90, 0.80, higher_is_better=True)
    assert rate.grade == grade
    assert not rate.is_shown


@pytest.mark.training
def test_cohens_kappa_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import cohen_kappa_score

    rng = random.Random(0)
    for _ in range(20):
        parts = [part("good", "nnn"), part("bad", "aaa")]
        parts += [part(rng.choice(["good", "bad"]), "".join(rng.choices("nai", k=3))) for _ in range(12)]
        right = [{"good": "normal", "bad": "anomalous"}[one.reference] for one in parts for _ in one.verdicts]
        said = [verdict for one in parts for verdict in one.verdicts]
        assert cohens_kappa(parts) == pytest.approx(cohen_kappa_score(right, said))


def test_fleiss_kappa_of_the_usual_example() -> None:
    """10 subjects, 14 raters and 5 categories, whose kappa is printed as 0.210."""
    rows = "0 0 0 0 14, 0 2 6 4 2, 0 0 3 5 6, 0 3 9 2 0, 2 2 8 1 1, "
    rows += "7 7 0 0 0, 3 2 6 3 0, 2 5 3 2 2, 6 5 2 1 0, 0 2 2 3 7"
    said = ["".join(str(i) * int(count) for i, count in enumerate(row.split())) for row in rows.split(",")]
    assert fleiss_kappa([part("borderline", one) for one in said]) == pytest.approx(0.210, abs=5e-4)


def test_fleiss_kappa_by_hand() -> None:
    # Shares 5/9 and 4/9, so that chance agrees in 41/81; agreement 1, 1 and 1/3, on average 7/9.
    parts = [part("good", "nnn"), part("bad", "aaa"), part("borderline", "nna")]
    assert fleiss_kappa(parts) == pytest.approx((7 / 9 - 41 / 81) / (1 - 41 / 81))
    assert fleiss_kappa([part("good", "nnnn"), part("bad", "aaa")]) == pytest.approx(1)


def test_kappas_that_are_not_defined() -> None:
    assert fleiss_kappa([part("good", "nnn"), part("bad", "nnn")]) is None
    assert cohens_kappa([part("good", "nnn"), part("bad", "nnn")]) == 0
    assert [kappa_grade(kappa) for kappa in (None, 0.39, 0.4, 0.75, 0.76)] == [
        "unacceptable",
        "unacceptable",
        "marginal",
        "marginal",
        "acceptable",
    ]


def test_a_verdict_that_changes() -> None:
    assert part("borderline", "nan").changes
    assert not part("bad", "nnn").changes
    assert part("borderline", "nnn").is_right is None
