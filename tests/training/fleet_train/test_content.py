"""What is done is known by content: photos, options, version; not by time, and not by place."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from rstpm_edge.errors import DatasetError, WeightsError
from rstpm_edge.training.fleet_train.content import CALIBRATION, Content, PhotosOf, Places, Seen, content_of, look
from rstpm_edge.training.fleet_train.product import Product
from rstpm_edge.training.fleet_train.result import ProductResult, save
from rstpm_edge.training.learning import content, recalibration
from rstpm_edge.training.learning.options import TrainingOptions

OPTIONS = TrainingOptions(size=(64, 64), epochs=2)


def of(data: Path, options: TrainingOptions = OPTIONS) -> Content:
    return content_of(Product("nut", data, options).photos())


@pytest.fixture
def data(parts: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(parts, tmp_path / "nut"))


def test_a_copy_elsewhere_and_later_has_the_same_content(data: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(data, tmp_path / "moved"))
    for path in copy.rglob("*.png"):
        os.utime(path, (1, 1))
    assert of(copy) == of(data)


def test_what_is_learned_from_and_what_is_tested_on_differ_alone(data: Path) -> None:
    before = of(data)
    mask = next((data / "ground_truth").rglob("*.png"))
    cv2.imwrite(str(mask), 255 - cv2.imread(str(mask)))
    relabelled = of(data)
    assert relabelled.learned == before.learned
    assert relabelled.labelled != before.labelled
    photo = data / "train" / "good" / "000.png"
    photo.rename(photo.with_name("zzz.png"))
    renamed = of(data)
    assert renamed.learned != before.learned
    assert renamed.labelled == relabelled.labelled
    shutil.rmtree(data / "test")
    assert of(data).labelled is None


@pytest.mark.parametrize(
    "changes", [{"seed": 1}, {"epochs": 3}, {"size": (96, 64)}, {"augment": "flip"}, {"alpha": 0.2}]
)
def test_other_options_are_other_content(data: Path, changes: dict[str, object]) -> None:
    assert of(data, dataclasses.replace(OPTIONS, **changes)).learned != of(data).learned  # type: ignore[arg-type]


def test_another_version_is_other_content(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = of(data)
    monkeypatch.setattr(content, "__version__", "9.9")
    assert of(data).learned != before.learned


def test_weights_count_by_what_they_hold(data: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.pth", tmp_path / "b.pth"
    first.write_bytes(b"weights")
    second.write_bytes(b"weights")
    options = [dataclasses.replace(OPTIONS, weights={OPTIONS.preset.teacher1: str(one)}) for one in (first, second)]
    assert of(data, options[0]) == of(data, options[1]) != of(data)
    second.unlink()
    with pytest.raises(WeightsError, match=r"^Cannot read the weights .*b\.pth: No such file"):
        of(data, options[1])


def test_a_later_calibration_asks_for_another_model(tmp_path: Path) -> None:
    assert CALIBRATION == recalibration.FILE
    places, content = Places(tmp_path, "nut"), Content("a" * 64, None, 10)
    before = places.model_key(content)
    places.run(content).mkdir(parents=True)
    (places.run(content) / CALIBRATION).write_text("{}")
    assert places.model_key(content) != before


def test_looking_finds_what_is_done(data: Path, tmp_path: Path) -> None:
    photos = Product("nut", data, OPTIONS).photos()
    out = tmp_path / "models"
    seen = look(photos, out)
    assert isinstance(seen, Seen)
    assert seen.done is None
    assert set(seen.sizes) == {(128, 128)}
    places = Places(out, "nut")
    places.folder.mkdir(parents=True)
    places.model.write_bytes(b"model")
    result = ProductResult("nut", str(data), model_sha256=hashlib.sha256(b"model").hexdigest())
    save(places.folder / "product.json", places.result_key(seen.content), result.to_json(), out)
    found = look(photos, out)
    assert isinstance(found, Seen)
    assert found.done == result
    places.model.write_bytes(b"another model")
    again = look(photos, out)
    assert isinstance(again, Seen)
    assert again.done is None
    places.model.write_bytes(b"model")
    cv2.imwrite(str(data / "train" / "good" / "one_more.png"), np.zeros((128, 128, 3), np.uint8))
    more = look(photos, out)
    assert isinstance(more, Seen)
    assert more.done is None


def test_a_product_without_photos_fails_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "nut").mkdir()
    photos = PhotosOf("nut", tmp_path / "nut", False, None, "")
    with pytest.raises(DatasetError):
        content_of(photos)
    found = look(photos, tmp_path)
    assert isinstance(found, ProductResult)
    assert found.failure is not None
    assert "holds 0 image(s); training needs at least 5 good ones" in found.failure


def test_looking_loads_no_torch() -> None:
    code = "import sys, rstpm_edge.training.fleet_train.content, rstpm_edge.training.fleet_train.status as s; "
    code += "print({'torch', 'sklearn', 'timm'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
