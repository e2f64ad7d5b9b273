"""Evaluation: every figure is what the files and the detector give, and nothing is made up where masks are missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bundles import ModelFactory
from click.testing import CliRunner
from rstpm_edge.training.evaluate import Evaluation, evaluate
from rstpm_edge.training.metrics import aupro, clopper_pearson
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
from workplace import Workplace, command_line

from rstpm_edge import Detector
from rstpm_edge.bundle import Fusion
from rstpm_edge.calibration import Calibration
from rstpm_edge.cli import main
from rstpm_edge.errors import DatasetError, ModelError
from rstpm_edge.fusion_reference import fuse
from rstpm_edge.image import read_image, to_input
from rstpm_edge.session import open_session

IMAGE = {"image_auroc", "image_ap", "image_f1"}
PIXEL = {"pixel_auroc", "pixel_ap", "aupro_30", "aupro_05"}


@pytest.fixture(scope="module")
def evaluation(workplace: Workplace, parts: Path) -> Evaluation:
    return evaluate(parts, workplace.model, threads=1)


def test_the_promised_keys(evaluation: Evaluation) -> None:
    found: Any = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    assert set(found) == {"both", "stpm", "recon", "maps", "kinds", "verdicts", "threshold"}
    assert set(found["maps"]) == {f"{pair}_{stride}" for pair in ("stpm", "recon") for stride in (8, 16, 32)}
    for metrics in (found["both"], found["stpm"], found["recon"], *found["maps"].values()):
        assert set(metrics) == IMAGE | PIXEL
        assert all(0 <= value <= 1 for value in metrics.values())


def by_hand(labels: Any, scores: Any, masks: list[Any], maps: list[Any]) -> dict[str, float]:
    """The metrics by scikit-learn, straight from their definitions."""
    precision, recall, _ = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    pixels = np.concatenate([mask.ravel() for mask in masks]), np.concatenate([m.ravel() for m in maps])
    return {
        "image_auroc": roc_auc_score(labels, scores),
        "image_ap": average_precision_score(labels, scores),
        "image_f1": f1.max(),
        "pixel_auroc": roc_auc_score(*pixels),
        "pixel_ap": average_precision_score(*pixels),
        "aupro_30": aupro(masks, maps),
        "aupro_05": aupro(masks, maps, fpr_limit=0.05),
    }


def read_masks(parts: Path, paths: list[Path]) -> list[Any]:
    masks = []
    for path in paths:
        file = parts / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
        mask = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) if path.parent.name != "good" else np.zeros((128, 128))
        assert mask is not None
        masks.append(mask > 127)
    return masks


def test_both_is_what_the_detector_gives(evaluation: Evaluation, workplace: Workplace, parts: Path) -> None:
    detector = Detector(workplace.model, threads=1)
    paths = sorted((parts / "test").rglob("*.png"))
    results = [detector(path) for path in paths]
    labels = [path.parent.name != "good" for path in paths]
    assert results[0].anomaly_map.shape == (128, 128)
    scores = [result.score for result in results]
    want = by_hand(labels, scores, read_masks(parts, paths), [result.anomaly_map for result in results])
    assert vars(evaluation.both) == pytest.approx(want, abs=1e-6)

    assert evaluation.threshold == detector.threshold
    kinds = {path.parent.name for path in paths}
    assert list(evaluation.verdicts) == ["good", *sorted(kinds - {"good"})]
    for kind, verdicts in evaluation.verdicts.items():
        of_kind = [result for result, path in zip(results, paths, strict=True) if path.parent.name == kind]
        assert (verdicts.images, verdicts.anomalous) == (len(of_kind), sum(r.is_anomalous for r in of_kind))
        assert verdicts.rate == verdicts.anomalous / verdicts.images
        assert verdicts.interval == clopper_pearson(verdicts.anomalous, verdicts.images)
    for kind, auroc in evaluation.kinds.items():
        chosen = [i for i, path in enumerate(paths) if path.parent.name in ("good", kind)]
        assert auroc == pytest.approx(roc_auc_score([labels[i] for i in chosen], [scores[i] for i in chosen]))
    assert set(evaluation.kinds) == kinds - {"good"}


def test_pairs_and_maps_alone(evaluation: Evaluation, workplace: Workplace, parts: Path) -> None:
    session = open_session(workplace.model, threads=1)
    fusion = session.bundle.fusion
    paths = sorted((parts / "test").rglob("*.png"))
    inputs = np.stack([to_input(read_image(path), (64, 96), "stretch")[0] for path in paths])
    maps, masks = session.run(inputs), read_masks(parts, paths)
    labels = [path.parent.name != "good" for path in paths]

    def alone(kept: set[int], fusion: Fusion) -> dict[str, float]:
        weights = [w if i in kept else 0.0 for i, w in enumerate(fusion.weights)]
        fused, scores, _ = fuse(
            maps,
            (64, 96),
            mean=fusion.mean,
            std=fusion.std,
            weights=weights,
            smoothing_sigma=fusion.smoothing_sigma,
        )
        at_image = [cv2.resize(one.astype(np.float32), (128, 128), interpolation=cv2.INTER_LINEAR) for one in fused]
        return by_hand(labels, scores, masks, at_image)

    assert fusion.mode == "normalized"
    assert vars(evaluation.stpm) == pytest.approx(alone({0, 1, 2}, fusion), abs=1e-3)
    assert vars(evaluation.recon) == pytest.approx(alone({3, 4, 5}, fusion), abs=1e-3)
    plain = Fusion(smoothing_sigma=fusion.smoothing_sigma)
    for i, (name, metrics) in enumerate(evaluation.maps.items()):
        assert name == session.bundle.map_names[i]
        assert vars(metrics) == pytest.approx(alone({i}, plain), abs=1e-3)


# A tiny model, whose score is how far a picture is from grey


@pytest.fixture
def spots(tmp_path: Path) -> Path:
    """Grey pictures that are good, darker ones that are not ("dark"), and white spots ("spot"); no masks."""
    levels = {"good": (127, 130, 133), "dark": (60, 90), "spot": (255,)}
    for kind, values in levels.items():
        (tmp_path / "data" / "test" / kind).mkdir(parents=True)
        for i, value in enumerate(values):
            image = np.full((80, 100, 3), 127 if kind == "spot" else value, np.uint8)
            if kind == "spot":
                image[20:50, 30:70] = value
            cv2.imwrite(str(tmp_path / "data" / "test" / kind / f"{i}.png"), image)
    return tmp_path / "data"


def add_masks(data: Path) -> None:
    for kind in ("dark", "spot"):
        (data / "ground_truth" / kind).mkdir(parents=True)
        for path in (data / "test" / kind).iterdir():
            image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            assert image is not None
            cv2.imwrite(str(data / "ground_truth" / kind / path.name), (image != 127).astype(np.uint8) * 255)


def test_a_perfect_model(model: Path, spots: Path) -> None:
    add_masks(spots)
    found = evaluate(spots, model)
    for metrics in (found.both, found.stpm, found.recon, *found.maps.values()):
        assert (metrics.image_auroc, metrics.image_ap, metrics.image_f1) == (1, 1, 1)
    assert found.both.pixel_auroc is not None
    assert found.both.pixel_auroc > 0.98
    assert found.kinds == {"dark": 1.0, "spot": 1.0}
    assert {kind: (v.images, v.anomalous) for kind, v in found.verdicts.items()} == {
        "good": (3, 0),
        "dark": (2, 2),
        "spot": (1, 1),
    }


def test_without_masks_there_are_no_pixel_metrics(model: Path, spots: Path, tmp_path: Path) -> None:
    result = command_line("evaluate", spots, "--model", model, "--json", tmp_path / "f.json")
    assert result.exit_code == 0
    found = json.loads((tmp_path / "f.json").read_text())
    for metrics in (found["both"], found["stpm"], found["recon"], *found["maps"].values()):
        assert {key for key, value in metrics.items() if value is None} == PIXEL
        assert metrics["image_auroc"] == 1
    assert "–" in result.stdout
    assert "nan" not in result.stdout.lower()


def test_a_paper_fusion_measures_its_pairs_by_the_product(model_factory: ModelFactory, spots: Path) -> None:
    found = evaluate(spots, model_factory(fusion=Fusion("paper"), calibration=Calibration(0.5, (0.5,))))
    assert (found.both.image_auroc, found.stpm.image_auroc, found.recon.image_auroc) == (1, 1, 1)


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_maps_are_compared_at_the_images_own_size(
    model_factory: ModelFactory, spots: Path, resize: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_masks(spots)
    model = model_factory(resize=resize)
    seen: list[Any] = []
    from rstpm_edge.training import evaluate as module

    original = module.pixel_metrics
    monkeypatch.setattr(module, "pixel_metrics", lambda masks, maps: seen.append(maps) or original(masks, maps))  # type: ignore[func-returns-value]
    evaluate(spots, model)
    paths = [image.path for image in module.test_images(spots)]
    detector = Detector(model, threads=1)
    for path, got in zip(paths, seen[0], strict=True):
        np.testing.assert_allclose(got, detector(path).anomaly_map, atol=1e-5)


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


def test_a_model_that_is_not_there(spots: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        evaluate(spots, tmp_path / "none.onnx")
    result = CliRunner().invoke(main, ["evaluate", str(spots), "--model", str(tmp_path / "none.onnx")])
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("Error: ")
