"""Evaluation: every figure is what the files and the detector give."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from brute_force import brute_force_aupro, pooled
from bundles import ModelFactory
from labelled import add_masks, write_labelled
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
from workplace import Workplace, command_line

from rstpm_edge import Detector
from rstpm_edge.calibration import Calibration, clopper_pearson
from rstpm_edge.engine.session import open_session
from rstpm_edge.image.decode import read_image
from rstpm_edge.image.preprocess import to_input
from rstpm_edge.model.metadata import Fusion, ScoreFusion
from rstpm_edge.model.session_rates import SessionRates
from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.postprocess.reference import score as reference
from rstpm_edge.training.evaluation.evaluate import evaluate
from rstpm_edge.training.evaluation.evaluation import Evaluation, JudgedImage
from rstpm_edge.training.evaluation.metrics import aupro

IMAGE = {"image_auroc", "image_ap", "image_f1"}
PIXEL = {"pixel_auroc", "pixel_ap", "aupro_30", "aupro_05"}


@pytest.fixture(scope="module")
def evaluation(workplace: Workplace, parts: Path) -> Evaluation:
    return evaluate(parts, workplace.model, InferenceOptions(threads=1))


def test_the_promised_keys(evaluation: Evaluation) -> None:
    found: Any = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    assert set(found) == {
        *("both", "stpm", "recon", "maps", "by_kind", "kinds", "verdicts", "false_rejects", "recall"),
        *("threshold", "alpha", "rate_with_confidence", "operating_points", "images", "invalid"),
    }
    assert set(found["maps"]) == {f"{pair}_{stride}" for pair in ("stpm", "recon") for stride in (8, 16, 32)}
    every = (found["both"], found["stpm"], found["recon"], *found["maps"].values(), *found["by_kind"].values())
    for metrics in every:
        assert set(metrics) == IMAGE | PIXEL
        assert all(0 <= value <= 1 for value in metrics.values())
    assert found["kinds"] == {kind: metrics["image_auroc"] for kind, metrics in found["by_kind"].items()}
    for verdicts in (*found["verdicts"].values(), found["recall"], *(p["recall"] for p in found["operating_points"])):
        assert set(verdicts) == {"images", "anomalous", "rate", "interval"}
        assert verdicts["interval"][0] <= verdicts["rate"] <= verdicts["interval"][1]
    assert found["false_rejects"] == found["verdicts"]["good"]
    for image in found["images"]:
        assert set(image) == {"name", "kind", "score", "p_value", "is_anomalous", "invalid_reason"}
    assert found["invalid"] == dict.fromkeys(found["verdicts"], 0)


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


def read_masks(parts: Path, paths: list[Path], shape: tuple[int, int] = (128, 128)) -> list[Any]:
    masks = []
    for path in paths:
        file = parts / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
        mask = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) if path.parent.name != "good" else np.zeros(shape)
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
        masks, maps = read_masks(parts, [paths[i] for i in chosen]), [results[i].anomaly_map for i in chosen]
        want = by_hand([labels[i] for i in chosen], [scores[i] for i in chosen], masks, maps)
        assert vars(evaluation.by_kind[kind]) == pytest.approx(want, abs=1e-6)
    assert set(evaluation.kinds) == kinds - {"good"}

    assert len(evaluation.images) == len(paths)
    judged = {image.name: image for image in evaluation.images}
    for path, result in zip(paths, results, strict=True):
        image = judged[str(path.relative_to(parts))]
        assert (image.kind, image.is_anomalous) == (path.parent.name, result.is_anomalous)
        assert (image.score, image.p_value) == (pytest.approx(result.score, rel=1e-5), result.p_value)


def test_pairs_and_maps_alone(evaluation: Evaluation, workplace: Workplace, parts: Path) -> None:
    session = open_session(workplace.model, threads=1)
    fusion, score_fusion = session.bundle.fusion, session.bundle.score_fusion
    assert score_fusion is not None
    paths = sorted((parts / "test").rglob("*.png"))
    inputs = np.stack([to_input(read_image(path), (64, 96), "stretch")[0] for path in paths])
    maps, masks = session.run(inputs), read_masks(parts, paths)
    labels = [path.parent.name != "good" for path in paths]

    def alone(kept: set[int], fusion: Fusion, score_fusion: ScoreFusion | None) -> dict[str, float]:
        def only(fusion: Fusion) -> Fusion:
            return replace(
                fusion, weights=tuple(w if i in kept else 0.0 for i, w in enumerate(fusion.weights)), head=None
            )

        if score_fusion is not None and (coarse := score_fusion.coarse) is not None:
            weights = tuple(w if (2, 5)[i % 2] in kept else 0.0 for i, w in enumerate(coarse.weights))
            coarse = replace(coarse, weights=weights)
            score_fusion = replace(score_fusion, fusion=only(score_fusion.fusion), coarse=coarse)
        fused, scores = reference(maps, replace(session.bundle, fusion=only(fusion), score_fusion=score_fusion))
        at_image = [cv2.resize(one.astype(np.float32), (128, 128), interpolation=cv2.INTER_LINEAR) for one in fused]
        return by_hand(labels, scores, masks, at_image)

    assert fusion.mode == "normalized"
    assert vars(evaluation.stpm) == pytest.approx(alone({0, 1, 2}, fusion, score_fusion), abs=1e-3)
    assert vars(evaluation.recon) == pytest.approx(alone({3, 4, 5}, fusion, score_fusion), abs=1e-3)
    plain = Fusion(smoothing_sigma=fusion.smoothing_sigma)
    for i, (name, metrics) in enumerate(evaluation.maps.items()):
        assert name == session.bundle.map_names[i]
        assert vars(metrics) == pytest.approx(alone({i}, plain, None), abs=1e-3)


def test_pixel_metrics_of_all_and_of_each_kind_equal_brute_force(model: Path, tmp_path: Path) -> None:
    data = write_labelled(tmp_path / "data", {"good": 2, "scratch": 2, "spot": 3}, size=(20, 26))
    found = evaluate(data, model)
    detector = Detector(model, threads=1)
    paths = sorted((data / "test").rglob("*.png"))
    maps = {path: detector(path).anomaly_map for path in paths}
    masks = dict(zip(paths, read_masks(data, paths, (20, 26)), strict=True))
    rows = {kind: (found.by_kind[kind], {"good", kind}) for kind in ("scratch", "spot")}
    for metrics, kinds in (*rows.values(), (found.both, {"good", "scratch", "spot"})):
        chosen = [path for path in paths if path.parent.name in kinds]
        arrays = [masks[path] for path in chosen], [maps[path] for path in chosen]
        assert metrics.aupro_30 == pytest.approx(brute_force_aupro(*arrays, 0.3), abs=1e-6)
        assert metrics.aupro_05 == pytest.approx(brute_force_aupro(*arrays, 0.05), abs=1e-6)
        assert metrics.pixel_auroc == pytest.approx(roc_auc_score(pooled(arrays[0]), pooled(arrays[1])), abs=1e-6)
    assert 0.05 < found.both.aupro_05 < 0.95  # type: ignore[operator]  # the case says something
    assert found.by_kind["scratch"] != found.by_kind["spot"]


def test_where_sessions_differ_no_rate_holds_with_confidence(model_factory: ModelFactory, tmp_path: Path) -> None:
    rates = SessionRates(13, 3, True, 0.03, 0.09, 0.05, 0.001, 0.25)
    data = write_labelled(tmp_path / "data", {"good": 2, "spot": 2})
    found = evaluate(data, model_factory(training={"sessions": asdict(rates)}))
    told = found.to_json()
    assert told["rate_with_confidence"] is None
    assert [point.rate_with_confidence for point in found.operating_points] == [None] * 5


def test_operating_points_are_counts_at_thresholds_of_the_calibration(model: Path, tmp_path: Path) -> None:
    data = write_labelled(tmp_path / "data", {"good": 8, "scratch": 4, "spot": 5})
    found = evaluate(data, model)
    calibration = Detector(model).info.calibration
    scores = {image.name: image.score for image in found.images}
    good = [score for name, score in scores.items() if "good" in name]
    bad = [score for name, score in scores.items() if "good" not in name]
    assert [point.alpha for point in found.operating_points] == [0.01, 0.02, 0.05, 0.1, 0.2]
    confident = [calibration.rate_with_confidence(alpha) for alpha in (0.01, 0.02, 0.05, 0.1, 0.2)]
    assert [point.rate_with_confidence for point in found.operating_points] == confident
    assert found.rate_with_confidence == confident[0]
    # The calibration scores are 0.01, 0.02, … 0.99.
    assert [round(point.threshold, 9) for point in found.operating_points] == [0.99, 0.98, 0.95, 0.9, 0.8]
    for point in found.operating_points:
        counts = point.false_rejects.images, point.false_rejects.anomalous
        assert counts == (8, sum(score > point.threshold for score in good))
        assert (point.recall.images, point.recall.anomalous) == (9, sum(score > point.threshold for score in bad))
    assert (found.false_rejects, found.recall) == (
        found.operating_points[0].false_rejects,
        found.operating_points[0].recall,
    )
    assert 0 < found.recall.anomalous < 9


def test_only_rates_that_the_calibration_allows_are_operating_points(model_factory: ModelFactory, spots: Path) -> None:
    found = evaluate(spots, model_factory(calibration=Calibration(0.07, tuple(i / 30 for i in range(30)))))
    assert [point.alpha for point in found.operating_points] == [0.05, 0.07, 0.1, 0.2]
    assert found.alpha == 0.07


def test_scores_meet_the_threshold_in_double_precision_as_the_detectors_do(
    model: Path, model_factory: ModelFactory, spots: Path
) -> None:
    def judged(model: Path) -> JudgedImage:
        (image,) = (image for image in evaluate(spots, model).images if image.name == "test/good/1.png")
        return image

    barely = judged(model).score * (1 - 1e-12)  # the same number in single precision
    assert np.float32(barely) == judged(model).score
    other = model_factory("other.onnx", calibration=Calibration(0.5, (barely,)))
    assert Detector(other, threads=1)(spots / "test" / "good" / "1.png").is_anomalous
    assert judged(other).is_anomalous
    assert evaluate(spots, other).verdicts["good"].anomalous == 2  # this one, and the one that is brighter


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


def test_a_paper_fusion_measures_its_pairs_by_the_product(model_factory: ModelFactory, spots: Path) -> None:
    found = evaluate(spots, model_factory(fusion=Fusion("paper"), calibration=Calibration(0.5, (0.5,))))
    assert (found.both.image_auroc, found.stpm.image_auroc, found.recon.image_auroc) == (1, 1, 1)


def test_invalid_photos_count_by_their_scores(parts: Path, workplace: Workplace, tmp_path: Path) -> None:
    data = Path(shutil.copytree(parts, tmp_path / "parts"))
    before = evaluate(data, workplace.model, InferenceOptions(threads=1))
    dark = sorted((data / "test" / "good").iterdir())[0]
    cv2.imwrite(str(dark), np.zeros_like(cv2.imread(str(dark))))
    found = evaluate(data, workplace.model, InferenceOptions(threads=1))
    assert found.invalid == {**before.invalid, "good": 1}
    (invalid,) = (image for image in found.images if image.invalid_reason)
    assert invalid.name == f"test/good/{dark.name}"
    assert str(invalid.invalid_reason).startswith("underexposed")
    score = next(image.score for image in before.images if image.name == invalid.name)
    assert (invalid.score, found.both) != (score, before.both)
    result = command_line("evaluate", data, "--model", workplace.model, "--report", tmp_path / "report.html")
    defects, good = found.recall.images, found.verdicts["good"].images
    assert f"INVALID: 1 of {good} good and 0 of {defects} defective images: here they count by" in result.stdout
    assert f"1 of {good + defects} test images; it counts by score" in (tmp_path / "report.html").read_text()
