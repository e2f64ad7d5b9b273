"""Evaluation: every figure is what the files and the detector give, and nothing is made up where masks are missing."""

from __future__ import annotations

import json
import os
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from brute_force import brute_force_aupro, pooled
from bundles import ModelFactory
from click.testing import CliRunner
from labelled import write_labelled
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
from workplace import Workplace, command_line

from rstpm_edge import Detector
from rstpm_edge.calibration import Calibration
from rstpm_edge.cli.main import main
from rstpm_edge.engine.session import open_session
from rstpm_edge.errors import DatasetError, ModelError
from rstpm_edge.image.decode import read_image
from rstpm_edge.image.preprocess import to_input
from rstpm_edge.model.metadata import Fusion, ScoreFusion
from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.postprocess.reference import score as reference
from rstpm_edge.training.data.images import test_images as labelled_images
from rstpm_edge.training.evaluation import evaluate as evaluating
from rstpm_edge.training.evaluation.evaluate import Evaluation, JudgedImage, evaluate
from rstpm_edge.training.evaluation.metrics import aupro, clopper_pearson
from rstpm_edge.training.evaluation.pixel_curves import rank_pixels
from rstpm_edge.training.evaluation.predict import predict

IMAGE = {"image_auroc", "image_ap", "image_f1"}
PIXEL = {"pixel_auroc", "pixel_ap", "aupro_30", "aupro_05"}


@pytest.fixture(scope="module")
def evaluation(workplace: Workplace, parts: Path) -> Evaluation:
    return evaluate(parts, workplace.model, InferenceOptions(threads=1))


def test_the_promised_keys(evaluation: Evaluation) -> None:
    found: Any = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    assert set(found) == {
        *("both", "stpm", "recon", "maps", "by_kind", "kinds", "verdicts", "false_rejects", "recall"),
        *("threshold", "alpha", "operating_points", "images"),
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
        assert set(image) == {"name", "kind", "score", "p_value", "is_anomalous"}


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

        score_fusion = score_fusion and replace(score_fusion, fusion=only(score_fusion.fusion))
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


# A tiny model, whose score is how far a picture is from grey


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


def test_operating_points_are_counts_at_thresholds_of_the_calibration(model: Path, tmp_path: Path) -> None:
    data = write_labelled(tmp_path / "data", {"good": 8, "scratch": 4, "spot": 5})
    found = evaluate(data, model)
    scores = {image.name: image.score for image in found.images}
    good = [score for name, score in scores.items() if "good" in name]
    bad = [score for name, score in scores.items() if "good" not in name]
    assert [point.alpha for point in found.operating_points] == [0.01, 0.02, 0.05, 0.1, 0.2]
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


def test_too_little_memory_is_one_sentence(model: Path, spots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluating, "available_memory", lambda: 1000)
    with pytest.raises(DatasetError, match=r"^Pixel metrics of these [0-9,]+ pixels need 0\.0 GiB of memory, and 0\.0"):
        evaluate(spots, model)


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


# As a station runs


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
    assert found.alpha == pytest.approx(0.99 if rate else 0.01)


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


def test_pixels_outside_of_a_mask_count_neither_way() -> None:
    random = np.random.default_rng(0)
    outline, inside = np.zeros((20, 30), bool), np.zeros((20, 30), bool)
    outline[3:9, 5:20], inside[:, :12] = True, True
    anomaly = random.random((20, 30), np.float32)
    masked = rank_pixels([outline], [anomaly], [inside])
    cut = rank_pixels([outline[:, :12]], [np.ascontiguousarray(anomaly[:, :12])])
    for name in ("good", "defective", "share"):
        np.testing.assert_array_equal(np.sort(getattr(masked, name)), np.sort(getattr(cut, name)))


def run_evaluate(*arguments: object) -> Any:
    return command_line("evaluate", *arguments)


def test_the_command_takes_what_infer_takes(tmp_path: Path, model: Path) -> None:
    data = write_labelled(tmp_path / "data", {"good": 4, "spot": 6})
    cv2.imwrite(str(tmp_path / "mask.png"), np.full((80, 100), 255, np.uint8))
    report = ["--report", tmp_path / "r.html", "--json", tmp_path / "r.json"]
    for options, threshold in (
        (["--alpha", "5%"], 0.95),
        (["--alpha", "0.05", "--roi", "full", "--mask", tmp_path / "mask.png"], 0.95),
        (["--threshold", "0.5", "--roi", "0,0,90,70"], 0.5),
    ):
        result = run_evaluate(data, "--model", model, *options, *report)
        assert result.exit_code == 0, result.output
        assert json.loads((tmp_path / "r.json").read_text())["threshold"] == threshold
        assert f"Threshold {threshold:g}, for at most " in result.stdout
        assert "<html" in (tmp_path / "r.html").read_text()
    for options in (
        ["--alpha", "x"],
        ["--alpha", "5%", "--threshold", "1"],
        ["--roi", "0,0,9,x"],
        ["--threshold", "nan"],
    ):
        assert run_evaluate(data, "--model", model, *options).exit_code == 2


def test_missing_masks_of_all_kinds_are_named_at_once(tmp_path: Path, model: Path) -> None:
    data = write_labelled(tmp_path / "data", {"good": 3, "dent": 8, "spot": 3})
    for kind, numbers in {"dent": range(1, 8), "spot": [2]}.items():
        for number in numbers:
            (data / "ground_truth" / kind / f"{number}_mask.png").unlink()
    result = run_evaluate(data, "--model", model)
    assert result.exit_code == 2
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert all(f"{number}.png" in error for number in range(1, 8))
    assert f"{data}/ground_truth/spot has no mask for 2.png" in error
    assert error.endswith("--skip-unmasked.")

    result = run_evaluate(data, "--model", model, "--skip-unmasked", "--json", tmp_path / "r.json")
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
