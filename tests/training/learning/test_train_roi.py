"""A ROI from training to verdicts."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import onnx
import pytest
from onnx import helper
from small_training import short_stages
from workplace import command_line, document

from rstpm_edge import Detector
from rstpm_edge.image.decode import read_image
from rstpm_edge.image.listing import find_images
from rstpm_edge.model.metadata import METADATA_KEY

OPTIONS = ["--epochs", "1", "--size", "64", "--holdout", "0.25", "--device", "cpu"]


@pytest.fixture
def cropped(parts: Path, tmp_path: Path) -> Path:
    """The same parts, of which somebody else has cut out the part that matters."""
    for path in find_images(parts):
        image = read_image(path, channels="bgr")[20:100, 10:110]
        target = tmp_path / "cropped" / path.relative_to(parts).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target), image)
    return tmp_path / "cropped"


def without_roi(model: Path, copy: Path) -> Path:
    """The same model, but of whole photos."""
    content = onnx.load(model)
    fields = json.loads(content.metadata_props[0].value)
    assert fields["roi"] == [10, 20, 100, 80]
    fields["roi"] = None
    helper.set_model_props(content, {METADATA_KEY: json.dumps(fields)})
    onnx.save(content, copy)
    return copy


def test_a_roi_is_learned_recorded_and_kept_to(
    parts: Path, cropped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RSTPM_EDGE_MODEL", raising=False)
    with short_stages():
        assert command_line("train", parts, *OPTIONS, "--roi", "10,20,100,80").exit_code == 0
    assert command_line("export").exit_code == 0
    (run,) = Path("runs").iterdir()
    assert document(run / "config.json")["roi"] == [10, 20, 100, 80]
    assert json.loads(command_line("info", "--json").stdout)["roi"] == [10, 20, 100, 80]
    assert "x 10, y 20, 100 x 80 pixels of each photo" in command_line("info").stdout

    # The scores of the held-out parts come from the same pixels in training and at run time.
    detector = Detector("model.onnx")
    held_out = [parts / "train" / "good" / name for name, *_ in document(run / "config.json")["holdout"]]
    scores = sorted(result.score for result in detector.predict_batch(held_out))
    assert scores == pytest.approx(document(run / "summary.json")["calibration"]["scores"], rel=0.02)
    whole = sorted(Detector("model.onnx", roi=None)(path).score for path in held_out)
    assert whole != pytest.approx(scores, rel=0.02)

    figures = []
    for data, model in ((parts, Path("model.onnx")), (cropped, without_roi(Path("model.onnx"), Path("cropped.onnx")))):
        assert command_line("evaluate", data, "--model", model, "--json", "figures.json").exit_code == 0
        figures.append(document(Path("figures.json")))
    assert figures[0] == figures[1]
    assert command_line("verify", *held_out).exit_code == 0


def test_a_roi_that_no_photo_has(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for roi, message in [
        ("10,20,300,80", "The ROI 10,20,300,80 reaches beyond "),
        ("10,20", "--roi is x,y,width,height in pixels of the photo, such as 100,50,640,480, not '10,20'."),
    ]:
        result = command_line("train", parts, *OPTIONS, "--roi", roi)
        assert result.exit_code == 2
        assert message in result.stderr
        assert "Traceback" not in result.stderr
    assert not Path("runs").exists()
