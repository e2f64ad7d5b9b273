"""Evaluation with the options of a station: its rate, its threshold, its mask and ROI."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from labelled import write_labelled
from workplace import command_line

from rstpm_edge import Detector
from rstpm_edge.outputs.model_words import NO_PROMISE
from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.training.evaluation.evaluate import evaluate


def test_a_rate_a_threshold_and_the_model_s_own_agree(tmp_path: Path, model: Path) -> None:
    data = write_labelled(tmp_path / "data", {"good": 4, "spot": 6})
    for alpha in (0.05, 0.2):
        by_rate = evaluate(data, model, InferenceOptions(threads=1, alpha=alpha))
        detector = Detector(model, threads=1, alpha=alpha)
        assert by_rate.threshold == detector.threshold
        assert by_rate.alpha == alpha
        for image in by_rate.images:
            assert image.is_anomalous == detector(data / image.name).is_anomalous
        by_score = evaluate(data, model, InferenceOptions(threads=1, threshold=detector.threshold))
        assert by_score.alpha == pytest.approx(alpha)
        assert by_score.verdicts == by_rate.verdicts
        whatever = evaluate(data, model, InferenceOptions(threads=1))
        assert by_score.both == by_rate.both == whatever.both  # which no threshold changes
    own = next(point for point in by_rate.operating_points if point.alpha == 0.2)
    assert (own.threshold, own.recall) == (by_rate.threshold, by_rate.recall)


@pytest.mark.parametrize(("threshold", "rate"), [(-5.0, 1.0), (100.0, 0.0)])
def test_a_threshold_beyond_all_scores(tmp_path: Path, model: Path, threshold: float, rate: float) -> None:
    data = write_labelled(tmp_path / "data", {"good": 2, "spot": 2})
    found = evaluate(data, model, InferenceOptions(threads=1, threshold=threshold))
    assert found.false_rejects.rate == found.recall.rate == rate
    assert found.threshold == threshold
    (own,) = (point for point in found.operating_points if point.threshold == threshold)
    if rate:  # all of the good ones may be rejected
        assert (found.alpha, found.rate_with_confidence, own.alpha) == (None, None, None)
        assert len([point.alpha for point in found.operating_points if point.alpha]) == 5
    else:
        assert found.alpha == own.alpha == pytest.approx(0.01)
        assert found.rate_with_confidence == own.rate_with_confidence is not None


def test_of_another_part_nothing_is_promised(tmp_path: Path, model: Path) -> None:
    data = write_labelled(tmp_path / "data", {"good": 3, "spot": 5})
    found = evaluate(data, model, InferenceOptions(threads=1, roi=(0, 0, 90, 70), alpha=0.05))
    assert found.threshold == Detector(model, threads=1, roi=(0, 0, 90, 70), alpha=0.05).threshold
    (point,) = found.operating_points
    assert (found.alpha, found.rate_with_confidence, point.alpha) == (None, None, None)
    assert (point.threshold, point.recall) == (found.threshold, found.recall)


def test_a_mask_and_a_roi_are_those_of_the_detector(tmp_path: Path, model: Path) -> None:
    data = write_labelled(tmp_path / "data", {"good": 3, "spot": 5})
    picture = np.zeros((80, 100), np.uint8)
    picture[:, :60] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), picture)
    for options in ({"mask": tmp_path / "mask.png"}, {"roi": (10, 10, 60, 60)}, {"roi": None}):
        found = evaluate(data, model, InferenceOptions(threads=1, **options))  # type: ignore[arg-type]
        detector = Detector(model, threads=1, **options)  # type: ignore[arg-type]
        for image in found.images:
            assert image.score == pytest.approx(detector(data / image.name).score, abs=1e-6)


def test_the_command_takes_what_infer_takes(tmp_path: Path, model: Path) -> None:
    data = write_labelled(tmp_path / "data", {"good": 4, "spot": 6})
    cv2.imwrite(str(tmp_path / "mask.png"), np.full((80, 100), 255, np.uint8))
    report = ["--report", tmp_path / "r.html", "--json", tmp_path / "r.json"]
    five, fifty = (
        f", for at most {rate} of good parts rejected on average, with 95% confidence at most {confident}.\n"
        for rate, confident in (("5%", "9.01%"), ("50%", "58.2%"))
    )
    for options, threshold, promised in (
        (["--alpha", "5%"], 0.95, five),
        (["--alpha", "0.05", "--roi", "full", "--mask", tmp_path / "mask.png"], 0.95, five),
        (["--threshold", "0.5"], 0.5, fifty),
        (["--threshold", "0.5", "--roi", "0,0,90,70"], 0.5, f". {NO_PROMISE}"),
        (["--roi", "0,0,90,70"], 0.99, f". {NO_PROMISE}"),
    ):
        result = command_line("evaluate", data, "--model", model, *options, *report)
        assert result.exit_code == 0, result.output
        assert json.loads((tmp_path / "r.json").read_text())["threshold"] == threshold
        assert f"Threshold {threshold:g}{promised}" in result.stdout
        assert (NO_PROMISE in (tmp_path / "r.html").read_text()) == (NO_PROMISE in promised)
    for options in (
        ["--alpha", "x"],
        ["--alpha", "5%", "--threshold", "1"],
        ["--roi", "0,0,9,x"],
        ["--threshold", "nan"],
    ):
        assert command_line("evaluate", data, "--model", model, *options).exit_code == 2
