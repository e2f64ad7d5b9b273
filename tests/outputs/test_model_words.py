"""What is said of a model, in `info` and in a report."""

from __future__ import annotations

from rstpm_edge.outputs.model_words import score_terms


def test_a_score_is_the_sum_of_what_weighs() -> None:
    assert score_terms(None, None, 0.0) == ["the highest value of the anomaly map"]
    assert score_terms("errors", None, 0.0) == ["the highest value of the fused score maps, of errors"]
    assert score_terms("angles", (1.0, 1.0), 0.25) == [
        "the highest value of the fused score maps, of angles",
        "the highest cell of the coarsest level, of residuals",
        "0.25 of the highest value of the anomaly map",
    ]
    assert score_terms("errors", [0.0, 0.0, 1.0, 0.0], 0.0)[1:] == ["the highest cell of the coarsest level, of angles"]
