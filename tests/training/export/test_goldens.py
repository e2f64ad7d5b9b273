"""Photos that `export` keeps in a model file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bundles import ModelFactory
from limits import good_photo, make_profile, make_validity
from numpy.typing import NDArray
from workplace import Workplace, command_line

from rstpm_edge.calibration import Calibration
from rstpm_edge.detector import Detector
from rstpm_edge.engine.session import open_session
from rstpm_edge.errors import ImageError, UsageError
from rstpm_edge.golden_check import replay
from rstpm_edge.image.stored_mask import pack
from rstpm_edge.model.goldens import parse_goldens
from rstpm_edge.training.export.goldens import add_goldens, read_goldens

Image = NDArray[np.uint8]


def photo(path: Path, image: NDArray[Any]) -> Path:
    cv2.imwrite(str(path), image)
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"fused": True},
        {"precision": "int8", "saturation_free": True},
        {"roi": (60, 20, 80, 60)},
        {"resize": "letterbox"},
        {"mask": pack(12, 16, b"\xff\xff" * 8 + bytes(8))},  # the upper two thirds of the photo
    ],
)
def test_what_is_added_is_what_a_detector_says(
    changes: Any, model_factory: ModelFactory, tmp_path: Path, good: Image, bad: Image
) -> None:
    model = model_factory(**changes)
    files = [photo(tmp_path / "good.png", good), photo(tmp_path / "bad.png", bad)]
    bundle = Detector(model).info
    model.write_bytes(add_goldens(model.read_bytes(), bundle, read_goldens(files)))
    found = replay(open_session(model, with_goldens=True))
    assert [one.name for one in found.results] == ["good.png", "bad.png"]
    assert found.score_difference == 0
    assert found.map_difference < 1e-3
    detector = Detector(model, verify=True)
    assert [detector(path).is_anomalous for path in files] == [False, True]
    assert detector.info == bundle


@pytest.mark.parametrize("name", ["part 9.41.00\u202fAM.png", "Kopie\u00a01.png", os.fsdecode(b"geh\xe4use.png")])
def test_any_name_of_a_photo(name: str, model_factory: ModelFactory, tmp_path: Path, good: Image) -> None:
    model = model_factory()
    images = read_goldens([photo(tmp_path / "good.png", good).rename(tmp_path / name)])
    model.write_bytes(add_goldens(model.read_bytes(), Detector(model).info, images))
    Detector(model, verify=True)


def test_too_many(tmp_path: Path, good: Image) -> None:
    file = photo(tmp_path / "good.png", good)
    assert len(read_goldens([file] * 8)) == 8
    with pytest.raises(UsageError, match="takes up to 8 goldens, but here are 9"):
        read_goldens([file] * 9)


def test_too_much(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (2000, 2100, 3), np.uint8)
    file = photo(tmp_path / "noise.png", noise)
    read_goldens([file])
    with pytest.raises(UsageError, match=r"take \d+\.\d MB as PNG, and 24 MB is the most: give fewer"):
        read_goldens([file, file])


def test_what_is_no_photo(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"Cannot read .*none\.png: No such file"):
        read_goldens([tmp_path / "none.png"])
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(ImageError, match=r"Cannot read .*text\.png"):
        read_goldens([tmp_path / "text.png"])


def test_a_photo_that_the_model_does_not_judge(model_factory: ModelFactory, tmp_path: Path, good: Image) -> None:
    model = model_factory(roi=(100, 100, 400, 400))
    images = read_goldens([photo(tmp_path / "small.png", good)])
    with pytest.raises(UsageError, match=r"small\.png cannot be a golden, since the model does not judge it: "):
        add_goldens(model.read_bytes(), Detector(model).info, images)


def test_a_photo_that_says_nothing_of_its_part(model_factory: ModelFactory, tmp_path: Path) -> None:
    model = model_factory(profile=make_profile(), validity=make_validity())
    images = read_goldens([photo(tmp_path / "good.png", good_photo()), photo(tmp_path / "dark.png", good_photo() // 4)])
    bundle = Detector(model).info
    model.write_bytes(add_goldens(model.read_bytes(), bundle, images[:1]))
    Detector(model, verify=True)
    with pytest.raises(UsageError, match=r"dark\.png cannot be a golden, since it is INVALID \(underexposed: its mean"):
        add_goldens(model.read_bytes(), bundle, images[1:])


def test_a_photo_at_the_threshold(model_factory: ModelFactory, tmp_path: Path) -> None:
    model = model_factory(calibration=Calibration(0.02, tuple(i / 100 for i in range(1, 100))))
    flat = np.full((64, 64, 3), 127, np.uint8)
    flat += np.uint8(21)  # which scores 6 * 21 / 128, or 0.984
    images = read_goldens([photo(tmp_path / "near.png", flat)])
    with pytest.raises(UsageError, match=r"near\.png cannot be a golden: its score .* is so near the threshold 0\.98"):
        add_goldens(model.read_bytes(), Detector(model).info, images)


@pytest.mark.parametrize(("precision", "refused"), [("fp32", False), ("int8", True)])
def test_fewer_bits_need_a_larger_margin(
    precision: str, refused: bool, model_factory: ModelFactory, tmp_path: Path
) -> None:
    model = model_factory(precision=precision, saturation_free=True)
    images = read_goldens([photo(tmp_path / "near.png", np.full((64, 64, 3), 127 + 23, np.uint8))])  # scores 1.08
    if refused:
        with pytest.raises(UsageError, match="is so near the threshold"):
            add_goldens(model.read_bytes(), Detector(model).info, images)
    else:
        add_goldens(model.read_bytes(), Detector(model).info, images)


@pytest.mark.usefixtures("quick")
def test_export_keeps_photos(workplace: Workplace, parts: Path, tmp_path: Path) -> None:
    chosen = [sorted((parts / "test" / kind).iterdir())[0] for kind in ("good", "scratch")]
    model = tmp_path / "model.onnx"
    options = [option for path in chosen for option in ("--golden", path)]
    result = command_line("export", workplace.run, "-o", model, *options)
    assert result.exit_code == 0, result.stderr
    verified = command_line("verify", model)
    assert verified.exit_code == 0, verified.stderr
    assert "2 goldens with cpu in f32" in verified.stdout
    goldens = parse_goldens(open_session(model, with_goldens=True).goldens or "")
    assert [one.is_anomalous for one in goldens] == [Detector(workplace.model)(path).is_anomalous for path in chosen]
    refused = command_line("export", workplace.run, "-o", tmp_path / "other.onnx", *(["--golden", chosen[0]] * 9))
    assert refused.exit_code == 2
    assert "takes up to 8 goldens" in refused.stderr
    assert not (tmp_path / "other.onnx").exists()
