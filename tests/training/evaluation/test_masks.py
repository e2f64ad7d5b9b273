"""Masks of defects: what is measured where some or all are missing, and which are refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from bundles import ModelFactory
from labelled import add_masks, write_labelled
from workplace import command_line

from rstpm_edge.errors import DatasetError
from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.training.evaluation.evaluate import evaluate
from rstpm_edge.training.evaluation.pixel_curves import rank_pixels

PIXEL = {"pixel_auroc", "pixel_ap", "aupro_30", "aupro_05"}


def test_without_masks_there_are_no_pixel_metrics(model: Path, spots: Path, tmp_path: Path) -> None:
    result = command_line("evaluate", spots, "--model", model, "--json", tmp_path / "f.json")
    assert result.exit_code == 0
    found = json.loads((tmp_path / "f.json").read_text())
    for metrics in (found["both"], found["stpm"], found["recon"], *found["maps"].values()):
        assert {key for key, value in metrics.items() if value is None} == PIXEL
        assert metrics["image_auroc"] == 1
    assert "–" in result.stdout
    assert "nan" not in result.stdout.lower()


def test_a_kind_without_masks_takes_the_pixel_metrics_from_all_but_the_others(model: Path, spots: Path) -> None:
    add_masks(spots)
    complete = evaluate(spots, model)
    shutil.rmtree(spots / "ground_truth" / "dark")
    found = evaluate(spots, model)
    assert found.both.pixel_auroc is found.stpm.aupro_05 is found.by_kind["dark"].pixel_ap is None
    assert found.by_kind["spot"] == complete.by_kind["spot"]
    assert found.by_kind["spot"].aupro_30 is not None


def test_masks_of_ones_instead_of_white_are_refused(model: Path, spots: Path) -> None:
    add_masks(spots)
    for path in (spots / "ground_truth" / "dark").iterdir():
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert mask is not None
        cv2.imwrite(str(path), mask // 255)
    with pytest.raises(DatasetError, match=r"No mask in .*dark marks a pixel: defects must be white, above 127"):
        evaluate(spots, model)


@pytest.mark.filterwarnings("error")
def test_a_mask_that_is_cut_off(model: Path, spots: Path) -> None:
    add_masks(spots)
    path = spots / "ground_truth" / "dark" / "0.png"
    content = path.read_bytes()
    for name, data in (("0.png", content[: len(content) // 2]), ("0.png", b"")):
        path.with_name(name).write_bytes(data)
        with pytest.raises(DatasetError, match=r"^The mask of .* Cannot read .*dark/0\.png: the file is "):
            evaluate(spots, model)


def test_a_mask_whose_name_is_no_text(model: Path, spots: Path) -> None:
    add_masks(spots)
    for folder in ("ground_truth", "test"):
        (spots / folder / "dark").rename(Path(os.fsdecode(os.fsencode(spots / folder) + b"/d\xff")))
    assert evaluate(spots, model).both.pixel_auroc is not None


def test_one_empty_mask_among_others_is_taken(model: Path, spots: Path) -> None:
    add_masks(spots)
    path = spots / "ground_truth" / "dark" / "0.png"
    cv2.imwrite(str(path), np.zeros((80, 100), np.uint8))
    assert evaluate(spots, model).by_kind["dark"].pixel_auroc is not None


def test_a_kind_whose_defects_lie_outside_of_the_roi(model_factory: ModelFactory, spots: Path) -> None:
    add_masks(spots)
    for path in (spots / "ground_truth" / "dark").iterdir():
        mask = np.zeros((80, 100), np.uint8)
        mask[:4, :4] = 255
        cv2.imwrite(str(path), mask)
    found = evaluate(spots, model_factory(roi=(10, 10, 80, 60)))
    assert found.by_kind["dark"].pixel_auroc is None
    assert found.by_kind["dark"].image_auroc is not None
    assert found.both.pixel_auroc is not None


def test_pixels_outside_of_a_mask_count_neither_way() -> None:
    random = np.random.default_rng(0)
    outline, inside = np.zeros((20, 30), bool), np.zeros((20, 30), bool)
    outline[3:9, 5:20], inside[:, :12] = True, True
    anomaly = random.random((20, 30), np.float32)
    masked = rank_pixels([outline], [anomaly], [inside])
    cut = rank_pixels([outline[:, :12]], [np.ascontiguousarray(anomaly[:, :12])])
    for name in ("good", "defective", "share"):
        np.testing.assert_array_equal(np.sort(getattr(masked, name)), np.sort(getattr(cut, name)))


def test_missing_masks_of_all_kinds_are_named_at_once(tmp_path: Path, model: Path) -> None:
    data = write_labelled(tmp_path / "data", {"good": 3, "dent": 8, "spot": 3})
    for kind, numbers in {"dent": range(1, 8), "spot": [2]}.items():
        for number in numbers:
            (data / "ground_truth" / kind / f"{number}_mask.png").unlink()
    result = command_line("evaluate", data, "--model", model)
    assert result.exit_code == 2
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert all(f"{number}.png" in error for number in range(1, 8))
    assert f"{data}/ground_truth/spot has no mask for 2.png" in error
    assert error.endswith("--skip-unmasked.")

    result = command_line("evaluate", data, "--model", model, "--skip-unmasked", "--json", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    assert "8 defective images lack masks and have no part in the pixel metrics." in result.stdout
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["verdicts"]["dent"]["images"] == 8  # they count as images
    assert found["recall"]["images"] == 11
    fewer = tmp_path / "fewer"
    shutil.copytree(data, fewer)
    for kind, numbers in {"dent": range(1, 8), "spot": [2]}.items():
        for number in numbers:
            (fewer / "test" / kind / f"{number}.png").unlink()
    expected = evaluate(fewer, model, InferenceOptions(threads=1)).to_json()["both"]
    for name in PIXEL:
        assert found["both"][name] == pytest.approx(expected[name])  # type: ignore[index]
