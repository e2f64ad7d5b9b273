"""A mask that is kept in the model at its export, and kept to wherever the model judges."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from workplace import Workplace, command_line

from rstpm_edge.detector import Detector
from rstpm_edge.training.evaluation.predict import predict


@pytest.mark.usefixtures("quick")
def test_export_keeps_a_mask(workplace: Workplace, parts: Path, tmp_path: Path) -> None:
    drawn = np.zeros((128, 128), np.uint8)
    drawn[:, 64:] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), drawn)
    model = tmp_path / "masked.onnx"
    result = command_line("export", workplace.run, "-o", model, "--mask", tmp_path / "mask.png")
    assert result.exit_code == 0, result.stderr
    masked, plain = Detector(model), Detector(workplace.model)
    assert masked.info.mask is not None
    assert masked.info.profile == plain.info.profile
    assert masked.info.profile is not None
    assert masked.info.profile.sizes == ((128, 128),)
    assert masked.threshold == plain.threshold

    # What `evaluate` measures is what the detector says.
    predictions = predict(parts, model)
    scored = predictions.scorer(masked.info.fusion, masked.info.score_fusion)
    for i, image in enumerate(predictions.images):
        one, other = predictions.result(i, scored(i)), masked(image.path)
        assert (one.score, one.position, one.is_anomalous) == (other.score, other.position, other.is_anomalous)
        assert one.score <= plain(image.path).score
        assert other.position[0] >= 63
        np.testing.assert_array_equal(one.model_map, other.model_map)


def test_export_refuses_what_is_no_mask_of_the_photos(workplace: Workplace, parts: Path, tmp_path: Path) -> None:
    photo = next((parts / "train" / "good").iterdir())
    cv2.imwrite(str(tmp_path / "wide.png"), np.full((64, 128), 255, np.uint8))
    for mask, message in {photo: "no mask but a picture", tmp_path / "wide.png": "fits no photo of 128×128"}.items():
        result = command_line("export", workplace.run, "-o", tmp_path / "masked.onnx", "--mask", mask)
        assert result.exit_code == 2
        assert message in result.stderr
        assert not (tmp_path / "masked.onnx").exists()
