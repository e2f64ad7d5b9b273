"""The HTML report: whole, safe to open, and true to the evaluation."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bundles import ModelFactory
from html_document import Document
from labelled import NASTY, write_labelled
from workplace import command_line

from rstpm_edge.calibration import Calibration
from rstpm_edge.errors import ImageError, OutputError
from rstpm_edge.model.metadata import CoarseCells, Fusion, ScoreFusion
from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.training.evaluation.evaluate import evaluate_predictions
from rstpm_edge.training.evaluation.evaluation import Evaluation
from rstpm_edge.training.evaluation.predict import Predictions, predict
from rstpm_edge.training.report.html import MAX_BYTES, render_report, write_report
from rstpm_edge.training.report.pictures import Painter
from rstpm_edge.training.report.tables import configuration, counted, percent

KINDS = {"good": 6, "spot": 5, NASTY: 4}


def decoded(uri: str | None) -> np.ndarray[Any, Any]:
    """The pixels of a data URI."""
    assert uri is not None
    kind, _, content = uri.partition(";base64,")
    assert kind in ("data:image/jpeg", "data:image/png")
    image = cv2.imdecode(np.frombuffer(base64.b64decode(content, validate=True), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


@pytest.fixture
def predictions(tmp_path: Path, model: Path) -> Predictions:
    return predict(write_labelled(tmp_path / "data", KINDS), model, InferenceOptions(threads=1))


@pytest.fixture
def evaluation(predictions: Predictions) -> Evaluation:
    return evaluate_predictions(predictions)


@pytest.fixture
def content(predictions: Predictions, evaluation: Evaluation) -> str:
    return render_report(predictions, evaluation)


@pytest.fixture
def document(content: str) -> Document:
    return Document(content)


# A document that browsers take


def test_the_document_is_well_formed(content: str, document: Document) -> None:
    assert content.startswith('<!doctype html>\n<html lang="en">')
    assert document.problems == []
    ids = [element.attributes["id"] for element in document.elements if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    targets = [element.attributes["href"] for element in document.all("a")]
    assert targets
    assert {str(target).removeprefix("#") for target in targets} <= set(ids)
    for element in document.elements:
        for name in ("aria-labelledby", "for"):
            assert element.attributes.get(name) in (*ids, None)
    assert document.one("meta", name="viewport").attributes["content"] == "width=device-width, initial-scale=1"


def test_nothing_comes_from_outside(content: str, document: Document) -> None:
    for element in document.elements:
        for name, value in element.attributes.items():
            assert name not in ("srcset", "action", "data", "poster", "background", "style")
            assert not name.startswith("on")
            if name in ("src", "href") or name.endswith(":href"):
                assert str(value).startswith(("data:", "#"))
    markup = re.sub(r'src="data:[^"]*"', "", content)
    assert not re.search(r"https?:|//[a-z]|url\(|@import|fetch\(|XMLHttpRequest|eval\(", markup)
    assert {element.tag for element in document.elements} & {"iframe", "object", "embed", "base"} == set()


def test_the_policy_allows_the_inline_style_and_script_alone(document: Document) -> None:
    policy = document.all("meta")[1].attributes
    assert policy["http-equiv"] == "Content-Security-Policy"
    rules = dict(rule.strip().split(" ", 1) for rule in str(policy["content"]).split(";"))

    def hashed(tag: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(document.one(tag).text.encode()).digest()).decode()}'"

    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": hashed("style"),
        "script-src": hashed("script"),
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_every_picture_decodes_and_says_what_it_is(document: Document, predictions: Predictions) -> None:
    pictures = document.all("img")
    detailed, thumbnails = 12, 15
    assert len(pictures) == detailed * 8 + 8 + thumbnails  # no ground truth for the four good ones
    for picture in pictures:
        image = decoded(picture.attributes["src"])
        assert (str(image.shape[1]), str(image.shape[0])) == (picture.attributes["width"], picture.attributes["height"])
        assert "test/" in str(picture.attributes["alt"])
    for chart in document.all("svg"):
        assert chart.attributes.get("aria-label") or chart.attributes.get("aria-hidden") == "true"


def test_names_of_the_users_are_text(content: str, document: Document) -> None:
    assert NASTY not in content
    assert not document.all("b")
    assert document.one("h3", id="kind-title-1").text.startswith(NASTY)  # kinds are sorted: < comes before s
    assert NASTY in [option.text for option in document.all("option")]
    assert f"test/{NASTY}/0.png" in [item.attributes["data-name"] for item in document.all("li")]
    assert NASTY in [text.text for text in document.all("text")]


def test_names_in_the_model_file_are_text(model_factory: ModelFactory, tmp_path: Path) -> None:
    nasty = "<script>alert(1)</script>"
    model = model_factory(preset=nasty, training={nasty: {"deep": nasty, "number": 1.5}, "list": [1, "<i>"]})
    predictions = predict(write_labelled(tmp_path / nasty.replace("/", ""), {"good": 2, "spot": 1}), model)
    content = render_report(predictions, evaluate_predictions(predictions))
    assert "<script>alert" not in content
    assert "<i>" not in content
    document = Document(content)
    assert document.problems == []
    terms = dict(zip([e.text for e in document.all("dt")], [e.text for e in document.all("dd")], strict=True))
    assert terms["Preset"] == nasty
    assert terms[f"Training: {nasty}, deep"] == nasty
    assert terms[f"Training: {nasty}, number"] == "1.5"
    assert terms["Training: list"] == "[1, '<i>']"


def test_a_name_that_is_no_text(tmp_path: Path, model: Path) -> None:
    data = write_labelled(tmp_path / "data", {"good": 2, "spot": 1})
    os.rename(data / "test" / "good" / "0.png", os.fsencode(data / "test" / "good") + b"/\xff\x01.png")
    predictions = predict(data, model)
    write_report(tmp_path / "report.html", predictions, evaluate_predictions(predictions))
    document = Document((tmp_path / "report.html").read_text("utf-8"))
    assert "test/good/?\x01.png" in [item.attributes["data-name"] for item in document.all("li")]


# What it says


def test_the_figures_are_those_of_the_evaluation(document: Document, evaluation: Evaluation) -> None:
    rejects, recall = evaluation.false_rejects, evaluation.recall
    assert (rejects.images, recall.images) == (6, 9)
    assert 0 < recall.anomalous < 9  # the case says something
    cards = [" ".join(card.text.split()) for card in document.all("div", **{"class": "card"})]
    low, high = recall.interval
    assert cards[1] == (
        f"Defects found (recall) {percent(recall.rate)} {recall.anomalous} of 9 defective images called anomalous. "
        f"95 % interval {percent(low)[:-2]} to {percent(high)}"
    )
    assert cards[2].startswith(f"Image AUROC {evaluation.both.image_auroc:.3f}")
    assert cards[3].startswith(f"Pixel AUROC {evaluation.both.pixel_auroc:.3f}")

    matrix = document.table("summary")[:2]
    assert matrix == [
        ["6 good", str(6 - rejects.anomalous), counted(rejects.anomalous, "false reject")],
        ["9 defective", f"{9 - recall.anomalous} missed", str(recall.anomalous)],
    ]
    metrics = document.table("metrics")
    assert [row[0] for row in metrics[:3]] == ["Both pairs", "STPM pair alone", "Reconstruction pair alone"]
    assert [row[0] for row in metrics[3:]] == [f"Map {name}" for name in evaluation.maps]
    every = (evaluation.both, evaluation.stpm, evaluation.recon, *evaluation.maps.values())
    for row, want in zip(metrics, every, strict=True):
        assert row[1:] == [f"{value:.3f}" for value in vars(want).values()]
    *kinds, total = document.table("kinds")
    assert [row[0] for row in kinds] == [NASTY, "spot"]
    for row in kinds:
        verdicts, metrics_of_kind = evaluation.verdicts[row[0]], evaluation.by_kind[row[0]]
        low, high = verdicts.interval
        assert row[1:5] == [
            str(verdicts.images),
            str(verdicts.anomalous),
            percent(verdicts.rate),
            f"{percent(low)[:-2]} to {percent(high)}",
        ]
        names = ("image_auroc", "pixel_auroc", "aupro_30", "aupro_05")
        assert row[5:] == [f"{getattr(metrics_of_kind, name):.3f}" for name in names]
    assert total[:4] == ["all defects", "9", str(recall.anomalous), percent(recall.rate)]


def test_the_facts_are_those_of_the_model_and_the_machine(document: Document, predictions: Predictions) -> None:
    terms = dict(zip([e.text for e in document.all("dt")], [e.text for e in document.all("dd")], strict=True))
    assert terms["SHA-256"] == hashlib.sha256(predictions.model.read_bytes()).hexdigest()
    assert terms["Preset"] == "test"
    assert terms["Input"] == "64 × 64 pixels, resize policy “stretch”"
    assert terms["Teacher 1"] == "first, licence Apache-2.0"
    assert terms["Weights of teacher 2"] == f"tests; SHA-256 {'1' * 64}"
    assert terms["Training: epochs"] == "3"
    assert terms["Fusion"] == "normalized"
    assert terms["Threshold"].startswith("0.99 ")
    assert terms["Images"] == f"6 good, 4 {NASTY}, 5 spot"
    assert terms["Python"] == predictions.environment.python
    assert terms["Fusion kernel"] == predictions.environment.kernel


def test_the_gallery_shows_every_image_worst_first(document: Document, evaluation: Evaluation) -> None:
    items = document.all("li")
    by_name = {image.name: image for image in evaluation.images}
    assert {str(item.attributes["data-name"]) for item in items} == set(by_name)
    outcomes = [str(item.attributes["data-outcome"]) for item in items]
    for item, outcome in zip(items, outcomes, strict=True):
        image = by_name[str(item.attributes["data-name"])]
        assert (outcome, float(str(item.attributes["data-score"]))) == (image.outcome, image.score)
        options = [option for option in document.all("option") if option.text == image.kind]
        assert item.attributes["data-kind"] == options[0].attributes["value"]
    wrong = sum(outcome != "right" for outcome in outcomes)
    assert wrong > 0
    assert "right" not in outcomes[:wrong]
    note = document.one("section", id="gallery").text
    assert f"All 15 test images: 0 of 0 false rejects, {wrong} of {counted(wrong, 'missed defect')}" in note


def test_the_overlay_and_the_maps_show_where_the_defect_is(predictions: Predictions) -> None:
    brightest = max(range(15), key=lambda i: float(predictions.outputs.anomaly_maps.stpm[0][i].max()))
    mask = predictions.masks[brightest]
    assert mask is not None
    views = Painter(predictions).views(brightest)
    photo, overlay = decoded(views.photo.uri).astype(int), decoded(views.overlay.uri).astype(int)
    inside = cv2.resize(mask.astype(np.uint8), photo.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
    core = cv2.erode(inside.astype(np.uint8), np.ones((25, 25))) > 0
    far = cv2.dilate(inside.astype(np.uint8), np.ones((45, 45))) == 0
    change = np.abs(overlay - photo).max(axis=2)
    assert np.median(change[core]) > 40
    assert np.median(change[far]) < 5
    assert views.truth is not None
    dimmed = np.abs(decoded(views.truth.uri).astype(int) - photo).max(axis=2)
    assert np.median(dimmed[core]) < 5
    assert np.median(dimmed[far]) > 40
    for picture in views.maps:
        yellow = decoded(picture.uri)[..., 1]  # of the heat map's green, the bright end has most
        where = cv2.resize(mask.astype(np.uint8), yellow.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
        assert yellow[where].mean() > 3 * yellow[~where].mean()


# Without masks, with many kinds, with little room


def test_without_masks_there_is_no_ground_truth(tmp_path: Path, model: Path) -> None:
    import shutil

    data = write_labelled(tmp_path / "data", {"good": 2, "spot": 2})
    shutil.rmtree(data / "ground_truth")
    predictions = predict(data, model)
    document = Document(render_report(predictions, evaluate_predictions(predictions)))
    assert document.problems == []
    assert all(row[4:] == ["–"] * 4 for row in document.table("metrics"))
    assert not [picture for picture in document.all("img") if "Ground truth" in str(picture.attributes["alt"])]
    assert "None" not in document.one("main").text
    assert "nan" not in document.one("main").text.lower()


def test_what_has_no_room_is_left_out_and_said(predictions: Predictions, evaluation: Evaluation) -> None:
    sizes, shown = [], []
    for room in (250_000, 350_000, 1_000_000):
        content = render_report(predictions, evaluation, max_bytes=room)
        document = Document(content)
        assert document.problems == []
        sizes.append(len(content.encode()))
        assert sizes[-1] <= room
        items = document.all("li")
        shown.append(len(items))
        if len(items) < 15:
            assert (
                f"{len(items)} of 15 test images, the others are left out" in document.one("section", id="gallery").text
            )
        outcomes = [item.attributes["data-outcome"] for item in items]
        missed = sum(image.outcome == "missed" for image in evaluation.images)
        assert outcomes.count("missed") == min(len(items), missed)  # these come first
    assert shown == sorted(shown)
    assert shown[0] < 15 == shown[-1]
    empty = Document(render_report(predictions, evaluation, max_bytes=1))
    assert empty.problems == []
    assert not empty.all("img")
    assert empty.one("body").text.count("No image of this kind is shown") == 3


def test_the_report_of_many_large_photos_keeps_to_its_size(tmp_path: Path, model: Path) -> None:
    name = "&" * 60  # each of them takes five bytes
    data = write_labelled(tmp_path / "data", {"good": 1, **{f"{name}{i}": 1 for i in range(30)}}, size=(64, 64))
    noise = np.random.default_rng(0).integers(0, 255, (400, 400, 3), np.uint8)  # which JPEG cannot make small
    for path in (data / "test").rglob("*.png"):
        cv2.imwrite(str(path), noise)
        mask = data / "ground_truth" / path.parent.name / "0_mask.png"
        if mask.exists():
            cv2.imwrite(str(mask), np.tri(400, dtype=np.uint8) * 255)
    predictions = predict(data, model)
    content = render_report(predictions, evaluate_predictions(predictions), max_bytes=2_000_000)
    assert 1_000_000 < len(content.encode()) <= 2_000_000
    document = Document(content)
    assert document.problems == []
    chart = next(
        chart for chart in document.all("svg") if chart.attributes.get("aria-label") == "Histograms of the scores"
    )
    assert "all defects" in chart.text  # one row for all of them
    assert MAX_BYTES == 8_000_000


@pytest.mark.parametrize("size", [(1, 300), (300, 1), (3, 3), (1200, 900)])
def test_photos_of_any_shape(size: tuple[int, int], tmp_path: Path, model_factory: ModelFactory) -> None:
    data = tmp_path / "data"
    for kind, value in {"good": 127, "dark": 30}.items():
        (data / "test" / kind).mkdir(parents=True)
        cv2.imwrite(str(data / "test" / kind / "0.png"), np.full((*size, 3), value, np.uint8))
    (data / "ground_truth" / "dark").mkdir(parents=True)
    cv2.imwrite(str(data / "ground_truth" / "dark" / "0.png"), np.full(size, 255, np.uint8))
    predictions = predict(data, model_factory(resize="letterbox"))
    document = Document(render_report(predictions, evaluate_predictions(predictions)))
    for picture in document.all("img"):
        assert decoded(picture.attributes["src"]).size > 0


def test_the_papers_fusion_has_no_statistics(model_factory: ModelFactory, tmp_path: Path) -> None:
    model = model_factory(fusion=Fusion("paper"), calibration=Calibration(0.5, (0.5,)))
    predictions = predict(write_labelled(tmp_path / "data", {"good": 2, "spot": 2}), model)
    document = Document(render_report(predictions, evaluate_predictions(predictions)))
    terms = [element.text for element in document.all("dt")]
    assert "Fusion" in terms
    assert "Mean of each map" not in terms


@pytest.mark.parametrize(
    ("weights", "terms"), [((0.0, 0.0, 1.0, 1.0), ["angles"]), ((1.0, 1.0, 1.0, 1.0), ["residuals", "angles"])]
)
def test_the_terms_of_the_score_are_those_that_weigh(
    model_factory: ModelFactory, tmp_path: Path, weights: tuple[float, ...], terms: list[str]
) -> None:
    score = ScoreFusion(Fusion(), 0.5, CoarseCells((0.0,) * 4, (1.0,) * 4, weights), kind="errors")
    predictions = predict(write_labelled(tmp_path / "data", {"good": 1, "spot": 1}), model_factory(score_fusion=score))
    shown = dict(configuration(predictions))["Score"].split(" + ")
    assert shown[0] == "the highest value of the fused score maps, of errors"  # in the words of `info`
    assert shown[1:] == [*(f"the highest cell of the coarsest level, of {kind}" for kind in terms), "0.5"]


def test_a_model_of_a_part_of_the_photo_shows_that_part(model_factory: ModelFactory, tmp_path: Path) -> None:
    data = write_labelled(tmp_path / "data", {"good": 2, "spot": 2}, size=(80, 100))
    predictions = predict(data, model_factory(roi=(10, 20, 80, 40)))
    document = Document(render_report(predictions, evaluate_predictions(predictions)))
    terms = dict(zip([e.text for e in document.all("dt")], [e.text for e in document.all("dd")], strict=True))
    assert terms["Judged part"] == "x 10, y 20, 80 × 40 pixels of each photo"
    photo = next(p for p in document.all("img") if str(p.attributes["alt"]).startswith("Photo "))
    assert decoded(photo.attributes["src"]).shape[:2] == (170, 340)  # the part's shape, not the photo's


def test_a_photo_that_is_gone_is_one_sentence(predictions: Predictions, evaluation: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "data" / "test" / "good" / "0.png").unlink()
    with pytest.raises(ImageError, match=r"0\.png: No such file"):
        render_report(predictions, evaluation)


# The command


def test_the_command_writes_the_report(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = write_labelled(tmp_path / "data", KINDS)
    result = command_line("evaluate", data, "--model", model, "--report", "r.html", "--json", "r.json")
    assert result.exit_code == 0
    assert Document((tmp_path / "r.html").read_text("utf-8")).one("h1").text == "data"
    assert {path.name for path in tmp_path.iterdir()} == {"data", "model.onnx", "r.html", "r.json"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--report", "missing/r.html"], "Cannot write missing/r.html: there is no folder missing."),
        (["--report", "data"], "Cannot write data: it is a folder."),
        (["--json", "data"], "Cannot write data: it is a folder."),
        (
            ["--report", "model.onnx"],
            "model.onnx is named twice: the model, --json and --report must be different files.",
        ),
        (["--json", "r", "--report", "./r"], "r is named twice"),
        (["--json", "photo.png"], "--json does not write a picture: give it a name other than photo.png."),
        (["--report", "photo.JPG"], "--report does not write a picture: give it a name other than photo.JPG."),
    ],
)
def test_a_report_that_cannot_be_written_is_refused_before_the_work(
    options: list[str], says: str, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_labelled(tmp_path / "data", {"good": 1, "spot": 1})
    before = model.read_bytes()
    result = command_line("evaluate", "data", "--model", "model.onnx", *options)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"Error: {says}")  # and no progress bar before it
    assert model.read_bytes() == before


def test_a_full_disk_leaves_the_old_report_and_the_table(tmp_path: Path, model: Path) -> None:
    data = write_labelled(tmp_path / "data", {"good": 2, "spot": 2})
    report = tmp_path / "r.html"
    report.write_text("old")
    with pytest.MonkeyPatch.context() as patch:

        def full(*_: object) -> None:
            raise OutputError(f"Cannot write {report}: No space left on device.")

        patch.setattr("rstpm_edge.training.report.html.write_bytes", full)
        result = command_line("evaluate", data, "--model", model, "--report", report)
    assert result.exit_code == 2
    assert "image_auroc" in result.stdout
    assert result.stderr.splitlines()[-1] == f"Error: Cannot write {report}: No space left on device."
    assert report.read_text() == "old"
