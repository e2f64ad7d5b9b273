"""The scatter of scores within parts."""

from __future__ import annotations

import math

import pytest
from reference_parts import part

from rstpm_edge.msa.repeatability import pooled_deviation, repeatability


def test_by_hand() -> None:
    # Squares about the means: 2 of 2 degrees of freedom, and 5 of 3.
    assert pooled_deviation([(1, 2, 3), (10, 11, 12, 13), (7,)]) == pytest.approx(math.sqrt(7 / 5))
    assert pooled_deviation([(1,), ()]) is None


def test_the_share_of_the_margin_is_of_good_parts_alone() -> None:
    parts = [
        part("good", "nnn", (1, 2, 3)),
        part("good", "nnni", (2, 2, 2, 99)),  # the invalid photo has no part in it
        part("bad", "aaa", (20, 40, 60)),
    ]
    found = repeatability(parts, threshold=12)
    assert found.good == pytest.approx(math.sqrt(2 / 4))
    assert found.bad == pytest.approx(20)
    assert found.borderline is None
    assert found.pooled == pytest.approx(math.sqrt(802 / 6))
    assert (found.median_good, found.margin) == (2, 10)
    assert found.used == pytest.approx(3 * math.sqrt(0.5) / 10)


def test_no_share_of_a_margin_that_is_not_positive() -> None:
    assert repeatability([part("good", "aaa", (1, 2, 3)), part("bad", "aaa", (4, 5, 6))], threshold=2).used is None
