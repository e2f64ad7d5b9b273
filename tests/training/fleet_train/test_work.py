"""The work on one product: done once for each content, gone on with after a death, never twice."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bundles import make_bundle, write_model
from small_training import CPU, same_results, short_stages, teach

from rstpm_edge import Detector
from rstpm_edge.progress import Progress
from rstpm_edge.training.audit.held_out import calibrate_again, look
from rstpm_edge.training.fleet_train import work as work_module
from rstpm_edge.training.fleet_train.product import Product
from rstpm_edge.training.fleet_train.result import ProductResult
from rstpm_edge.training.fleet_train.status import ProductStatus
from rstpm_edge.training.fleet_train.teller import Teller
from rstpm_edge.training.fleet_train.work import Task, work
from rstpm_edge.training.learning.checkpoint import load_checkpoint, save_checkpoint
from rstpm_edge.training.learning.options import TrainingOptions

OPTIONS = TrainingOptions(epochs=3, size=(64, 64))


@pytest.fixture(autouse=True)
def short(finished: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A tiny model is exported for all but `finished`: that takes most of the time here."""

    def export(run: Path, output: Path) -> None:
        write_model(output, make_bundle())

    monkeypatch.setattr(work_module, "export", export)
    with short_stages():
        yield


def done(data: Path, out: Path, options: TrainingOptions = OPTIONS) -> tuple[ProductResult, set[str]]:
    """The result, and the stages that were told of."""
    told: list[ProductStatus] = []
    task = Task(Product("nut", data, options), out, CPU, 1, None)
    result = work(task, Teller("nut", told.append))
    return result, {one.stage for one in told}


def run_of(out: Path) -> Path:
    (run,) = (out / "nut").glob("run-*")
    return run


@pytest.fixture(scope="module")
def finished(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ProductResult, set[str]]:
    out = tmp_path_factory.mktemp("finished")
    with short_stages():
        return out, *done(parts, out)


@pytest.fixture
def copy(finished: tuple[Path, ProductResult, set[str]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished[0], tmp_path / "models"))


def test_all_stages_of_a_product(finished: tuple[Path, ProductResult, set[str]]) -> None:
    out, result, stages = finished
    assert result.failure is None
    assert {"audit", "students", "calibration", "export", "testing"} <= stages
    assert result.trained is not None
    assert (result.trained.photos, result.trained.epochs, result.trained.size) == (12, 3, (64, 64))
    assert result.measured is not None
    assert result.measured.images == 10
    assert result.audited is not None
    assert {need.kind for need in result.needs} >= {"photos"}
    assert set(result.seconds) == {"audit", "training", "export", "testing"}
    with Detector(out / "nut.onnx") as detector:
        assert detector.sha256 == result.model_sha256
    assert {path.name for path in out.iterdir()} == {"nut", "nut.onnx"}
    assert {path.name for path in (out / "nut").iterdir()} >= {
        "audit.json",
        "model.json",
        "product.json",
        "report.html",
    }


def test_nothing_is_repeated(parts: Path, copy: Path, finished: tuple[Path, ProductResult, set[str]]) -> None:
    (copy / "nut" / "product.json").unlink()  # as a worker leaves it that is killed at the very end
    result, stages = done(parts, copy)
    assert stages == {"testing"}
    assert result.measured == finished[1].measured
    assert result.model_sha256 == finished[1].model_sha256


def test_a_model_that_is_gone_is_exported_again(
    parts: Path, copy: Path, finished: tuple[Path, ProductResult, set[str]]
) -> None:
    (copy / "nut.onnx").unlink()
    result, stages = done(parts, copy)
    assert stages == {"export", "testing"}
    assert (copy / "nut.onnx").is_file()
    assert result.trained is not None
    assert result.trained.threshold == finished[1].trained.threshold  # type: ignore[union-attr]


def test_another_calibration_is_exported_without_a_training(parts: Path, copy: Path) -> None:
    held = look(run_of(copy))
    calibrate_again(held, [held.candidates[0].name])
    result, stages = done(parts, copy)
    assert stages == {"export", "testing"}
    assert result.trained is not None
    with Detector(copy / "nut.onnx") as detector:
        assert detector.sha256 == result.model_sha256


def test_other_photos_are_learned_from_anew(parts: Path, copy: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(parts, tmp_path / "nut"))
    shutil.rmtree(data / "test")
    (data / "train" / "good" / "000.png").unlink()
    before = run_of(copy)
    result, stages = done(data, copy)
    assert {"audit", "students", "export"} <= stages
    assert "testing" not in stages
    assert result.measured is None
    assert result.trained is not None
    assert result.trained.photos == 11
    assert run_of(copy) != before  # of the older one nothing is left


def test_a_worker_that_dies_is_gone_on_from(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of its three epochs, the one that was whole is not trained again; the result is that of one training."""
    train = work_module.train

    def dies(*arguments: Any, report: Any, **keywords: Any) -> Path:
        def stop(progress: Progress) -> None:
            if progress.stage == "students" and progress.epoch == 2:
                raise KeyboardInterrupt
            report(progress)

        return train(*arguments, report=stop, **keywords)

    monkeypatch.setattr(work_module, "train", dies)
    with pytest.raises(KeyboardInterrupt):
        done(parts, tmp_path)
    epochs: list[int] = []
    resume = work_module.resume

    def goes_on(*arguments: Any, report: Any, **keywords: Any) -> Path:
        def note(progress: Progress) -> None:
            if progress.epoch is not None:
                epochs.append(progress.epoch)
            report(progress)

        return resume(*arguments, report=note, **keywords)

    monkeypatch.setattr(work_module, "resume", goes_on)
    monkeypatch.setattr(work_module, "train", None)
    result, stages = done(parts, tmp_path)
    assert result.failure is None
    assert "audit" not in stages
    assert epochs == [2, 3]
    same_results(run_of(tmp_path), teach(parts, tmp_path / "whole"))


def test_a_damaged_run_is_trained_again(parts: Path, copy: Path) -> None:
    checkpoint = load_checkpoint(run_of(copy))
    assert checkpoint
    save_checkpoint(run_of(copy), replace(checkpoint, losses=checkpoint.losses[:1]))  # that of an epoch before
    assert work_module._state_of(run_of(copy), parts) == "none"
    (run_of(copy) / "checkpoint.safetensors").write_bytes(b"damaged")
    result, stages = done(parts, copy)
    assert result.failure is None
    assert "students" in stages


def test_a_run_is_gone_on_with_however_the_path_of_its_photos_is_written(parts: Path, copy: Path) -> None:
    run = run_of(copy)
    (run / "summary.json").unlink()
    (copy / "link").symlink_to(parts)
    for data in (parts, parts / "train" / "..", Path(os.path.relpath(parts)), copy / "link"):
        assert work_module._state_of(run, Product("nut", data, OPTIONS).anywhere().data) == "begun"
    for data in (parts / "train", parts / "missing"):
        assert work_module._state_of(run, data) == "none"


@pytest.mark.parametrize(("sessions", "below"), [(None, False), ("folder", True), ("^(.)", False)])
def test_what_is_learned_from_is_audited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sessions: str | None, below: bool
) -> None:
    asked: list[bool] = []

    def audit(data: Path, *, below: bool, **keywords: object) -> None:
        asked.append(below)
        raise ZeroDivisionError

    monkeypatch.setattr(work_module, "audit", audit)
    for number in range(5):
        folder = tmp_path / "nut" / (f"day{number % 2}" if below else "")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").touch()
    done(tmp_path / "nut", tmp_path / "models", replace(OPTIONS, sessions=sessions))
    assert asked == [below]


@pytest.mark.parametrize(
    ("photos", "says"),
    [
        (0, r"holds 0 image(s); training needs at least 5 good ones"),
        (3, r"holds 3 image(s); training needs at least 5 good ones"),
        (8, r"8 of 8 images cannot be read; mend or remove them"),
    ],
)
def test_bad_photos_fail_alone(photos: int, says: str, tmp_path: Path) -> None:
    data = tmp_path / "nut"
    data.mkdir()
    for number in range(photos):
        (data / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    result, _ = done(data, tmp_path / "models")
    assert result.failure is not None
    assert says in result.failure
    assert result.peak_bytes
    assert not (tmp_path / "models" / "nut.onnx").exists()


def test_labels_that_cannot_be_used_cost_no_model(parts: Path, tmp_path: Path) -> None:
    data = tmp_path / "nut"
    shutil.copytree(parts / "train", data / "train")
    (data / "test" / "good").mkdir(parents=True)
    cv2.imwrite(str(data / "test" / "good" / "1.png"), np.zeros((128, 128, 3), np.uint8))
    result, _ = done(data, tmp_path / "models", TrainingOptions(epochs=1, size=(64, 64)))
    assert result.failure is None
    assert result.measured is None
    assert any("must hold both good and defective images" in need.why for need in result.needs)


def test_an_error_of_ours_ends_one_product_only(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **keywords: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(work_module, "audit", broken)
    result, _ = done(parts, tmp_path)
    assert result.failure == "ZeroDivisionError: division by zero"
