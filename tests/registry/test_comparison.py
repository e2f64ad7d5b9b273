"""What is said of two models on the same images."""

from __future__ import annotations

import pytest

from rstpm_edge.registry import comparison
from rstpm_edge.registry.comparison import Comparison, Judgement


def judged(verdict: str, relative: float | None) -> Judgement:
    return Judgement(verdict, 0.0, relative, 0.5, "a" * 64)


def test_counts_and_differences() -> None:
    found = Comparison()
    found.take(judged("normal", 0.1), judged("normal", 0.3), 10, 20)
    found.take(judged("anomalous", 1.5), judged("normal", 0.9), 12, 22)
    found.take(judged("normal", 0.9), judged("anomalous", 1.0), 14, 24)
    found.take(judged("invalid", None), judged("anomalous", 2.0), 16, 26)
    found.skipped, found.failed = 3, 1
    fields = found.fields()
    assert (fields["compared"], fields["same_verdict"]) == (4, 1)
    assert (fields["only_live_rejects"], fields["only_shadow_rejects"]) == (1, 1)
    assert fields["median_difference"] == pytest.approx(0.2)
    assert fields["largest_difference"] == pytest.approx(0.6)
    assert (fields["live_ms"], fields["shadow_ms"]) == (13, 23)
    assert found.summary() == (
        "4 of 8 images compared, 1 failed; 3 verdicts differ (75.00%): 1 that live alone rejects, 1 that shadow alone "
        "does; scores differ by 0.2 in the median and 0.6 at most, as shares of the way from a typical score to the "
        "threshold; 13 ms live, 23 ms in shadow on one thread"
    )


def test_nothing_to_compare() -> None:
    found = Comparison(skipped=2)
    assert found.summary() == "no image compared, 2 skipped, 0 failed"
    assert found.fields()["median_difference"] is found.fields()["live_ms"] is None


def test_memory_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "KEPT", 5)
    found = Comparison()
    for i in range(20):
        found.take(judged("normal", 0.0), judged("normal", float(i)), 1, 1)
    assert found.differences == [15, 16, 17, 18, 19]
    assert (found.compared, found.largest) == (20, 19)
