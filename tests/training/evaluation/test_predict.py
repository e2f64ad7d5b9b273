"""What the detector says of a whole data set, one photo at a time."""

from __future__ import annotations

import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bundles import ModelFactory
from click.testing import CliRunner
from labelled import add_masks, write_labelled

from rstpm_edge import Detector
from rstpm_edge.cli.main import main
from rstpm_edge.errors import DatasetError, ModelError
from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.training.data.images import test_images as labelled_images
from rstpm_edge.training.evaluation import evaluate as evaluating
from rstpm_edge.training.evaluation.evaluate import evaluate
from rstpm_edge.training.evaluation.pixel_curves import rank_pixels
from rstpm_edge.training.evaluation.predict import predict


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_predictions_hold_what_the_detector_says(model_factory: ModelFactory, spots: Path, resize: str) -> None:
    model = model_factory(resize=resize)
    predictions = predict(spots, model, InferenceOptions(threads=1))
    score = predictions.scorer(predictions.bundle.fusion, predictions.bundle.score_fusion)
    detector = Detector(model, threads=1)
    for i, image in enumerate(predictions.images):
        got, want = predictions.result(i, score(i)), detector(image.path)
        np.testing.assert_allclose(got.model_map, want.model_map, atol=1e-6)
        assert got.score == pytest.approx(want.score, rel=1e-6)
        assert {**vars(got), "model_map": 0, "score": 0} == {**vars(want), "model_map": 0, "score": 0}
    assert sum(bool(predictions.result(i, score(i)).regions) for i in range(6)) >= 2


def test_no_more_than_one_photo_is_held(model: Path, tmp_path: Path) -> None:
    side, images = 600, 12
    data = write_labelled(tmp_path / "data", {"good": images // 2, "spot": images // 2}, size=(side, side))
    small = np.zeros((side, side), np.uint8)  # since a defective pixel takes far more
    small[100:120, 100:120] = 255
    for path in (data / "ground_truth" / "spot").iterdir():
        cv2.imwrite(str(path), small)
    evaluate(data, model)  # what is loaded once is not counted
    tracemalloc.start()
    try:
        evaluate(data, model)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    pixels = side * side
    # A mask (one byte) and a rank (four) for each pixel of all of them, and room to work on one photo or map.
    assert peak < 5 * images * pixels + 28 * pixels


def test_too_little_memory_is_one_sentence(model: Path, spots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluating, "available_memory", lambda: 1000)
    with pytest.raises(DatasetError, match=r"^Pixel metrics of these [0-9,]+ pixels need 0\.0 GiB of memory, and 0\.0"):
        evaluate(spots, model)


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_maps_are_compared_at_the_images_own_size(
    model_factory: ModelFactory, spots: Path, resize: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_masks(spots)
    model = model_factory(resize=resize)
    seen: list[Any] = []

    def spy(masks: Any, maps: Any) -> Any:
        listed = list(maps)
        seen.extend(listed)
        return rank_pixels(masks, listed)

    monkeypatch.setattr(evaluating, "rank_pixels", spy)
    found = evaluate(spots, model)
    detector = Detector(model, threads=1)
    assert len(found.images) == 6
    for image, got in zip(found.images, seen, strict=False):  # the first row is that of both pairs
        np.testing.assert_allclose(got, detector(spots / image.name).anomaly_map, atol=1e-5)


def test_progress_is_reported(model: Path, spots: Path) -> None:
    seen: list[tuple[int, int]] = []
    evaluate(spots, model, report=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 6) for done in range(1, 7)]


def test_data_that_cannot_be_evaluated(model: Path, spots: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="missing is missing"):
        evaluate(tmp_path / "missing", model)
    with pytest.raises(DatasetError, match="has no test folder"):
        evaluate(tmp_path, model)
    add_masks(spots)
    cv2.imwrite(str(spots / "ground_truth" / "spot" / "0.png"), np.zeros((10, 10), np.uint8))
    with pytest.raises(DatasetError, match="measures 10×10 pixels; it must be an image of 100×80 pixels"):
        evaluate(spots, model)
    shutil.rmtree(spots / "test" / "good")
    with pytest.raises(DatasetError, match="must hold both good and defective images"):
        evaluate(spots, model)


def test_images_that_are_named_one_by_one(model: Path, spots: Path) -> None:
    add_masks(spots)
    images = labelled_images(spots)
    assert evaluate(spots, model, images=images) == evaluate(spots, model)
    without = [image for image in images if image.kind != "dark"]
    assert list(evaluate(spots, model, images=without).kinds) == ["spot"]
    with pytest.raises(DatasetError, match="needs both good and defective images"):
        evaluate(spots, model, images=[image for image in images if image.is_defective])


def test_a_model_that_is_not_there(spots: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        evaluate(spots, tmp_path / "none.onnx")
    result = CliRunner().invoke(main, ["evaluate", str(spots), "--model", str(tmp_path / "none.onnx")])
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("Error: ")
