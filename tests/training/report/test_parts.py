"""What the report is made of: which images it shows, its charts and its words."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from html_document import Document
from labelled import write_labelled

from rstpm_edge.calibration import Calibration
from rstpm_edge.model.session_rates import SessionRates
from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.training.evaluation.evaluate import evaluate
from rstpm_edge.training.evaluation.evaluation import JudgedImage, Verdicts
from rstpm_edge.training.report.charts import _place_label, roc_chart, score_chart
from rstpm_edge.training.report.selection import ends, fitting, gallery_order, worst_first
from rstpm_edge.training.report.tables import chance_of_rejects, counted, percent, promise

# Selection


def judged(kind: str, score: float, name: str = "") -> JudgedImage:
    return JudgedImage(name or f"{kind}/{score}", kind, score, 0.5, score > 10)


IMAGES = [judged("good", s) for s in (1, 12, 5, 11, 2)] + [judged("a", s) for s in (3, 20, 9, 15)] + [judged("b", 30)]


def test_the_worst_are_those_on_the_wrong_side() -> None:
    names = [IMAGES[i].name for i in worst_first(IMAGES, 10)]
    assert names == ["a/3", "good/12", "good/11", "a/9", "good/5", "a/15", "good/2", "good/1", "a/20", "b/30"]


def test_worst_and_best_of_each_kind_and_none_twice() -> None:
    picks = ends(IMAGES, worst_first(IMAGES, 10))
    listed = {(IMAGES[pick.index].name, pick.place, pick.rank) for pick in picks}
    assert listed == {
        ("good/12", "worst", 0), ("good/11", "worst", 1), ("good/1", "best", 0), ("good/2", "best", 1),
        ("a/3", "worst", 0), ("a/9", "worst", 1), ("a/20", "best", 0), ("a/15", "best", 1),
        ("b/30", "worst", 0),
    }  # fmt: skip
    assert len(picks) == len({pick.index for pick in picks})
    three = [judged("good", s) for s in (1, 2, 3)]
    assert [(p.index, p.place) for p in ends(three, worst_first(three, 10))] == [
        (2, "worst"),
        (1, "worst"),
        (0, "best"),
    ]


def test_the_gallery_gives_room_to_what_is_wrong_and_then_to_each_kind() -> None:
    images = IMAGES + [judged("good", s / 100) for s in range(50)]
    order = [images[i] for i in gallery_order(images, worst_first(images, 10))]
    assert [image.name for image in order[:4]] == ["good/12", "good/11", "a/3", "a/9"]
    assert sorted(image.kind for image in order[4:7]) == ["a", "b", "good"]
    assert sorted(image.name for image in order) == sorted(image.name for image in images)
    good = [image.score for image in order[4:] if image.kind == "good"]
    assert good != sorted(good)
    assert good != sorted(good, reverse=True)


def test_nothing_is_drawn_after_what_has_no_room() -> None:
    drawn: list[int] = []

    def draw() -> Any:
        for item in (3, 4, 5, 1):
            drawn.append(item)
            yield item

    assert list(fitting(draw(), lambda item: item, 8)) == [3, 4]
    assert drawn == [3, 4, 5]


# Charts


def test_the_roc_curve_runs_through_the_models_threshold(tmp_path: Path, model: Path) -> None:
    evaluation = evaluate(write_labelled(tmp_path / "data", {"good": 6, "spot": 9}), model, InferenceOptions(threads=1))
    own = next(p for p in evaluation.operating_points if p.alpha == evaluation.alpha)
    document = Document(roc_chart(evaluation.images, own, evaluation.operating_points))
    assert document.problems == []
    corners = [tuple(map(float, c.split(","))) for c in str(document.one("polyline").attributes["points"]).split()]
    left, top, right, bottom = 58, 14, 388, 344
    assert corners[0] == (left, bottom)
    assert corners[-1] == (right, top)
    xs, ys = zip(*corners, strict=True)
    assert list(xs) == sorted(xs)
    assert list(ys) == sorted(ys, reverse=True)
    circle = document.one("circle", **{"class": "point own"}).attributes
    x, y = float(str(circle["cx"])), float(str(circle["cy"]))
    assert (x - left) / 330 == pytest.approx(evaluation.false_rejects.rate, abs=1e-3)
    assert (bottom - y) / 330 == pytest.approx(evaluation.recall.rate, abs=1e-3)
    area = sum((x1 - x0) * (2 * bottom - y0 - y1) / 2 for (x0, y0), (x1, y1) in pairwise(corners))
    assert area / 330**2 == pytest.approx(evaluation.both.image_auroc, abs=2e-3)


def test_each_bar_lies_on_its_side_of_the_threshold() -> None:
    rng = np.random.default_rng(0)
    scores = {
        "good": np.append(rng.normal(5, 2, 400), [10.0, 10.0, 10.5]),
        "spot": np.append(rng.normal(11, 4, 300), 1e6),
    }
    document = Document(score_chart(scores, 10.0))
    assert document.problems == []
    line = float(str(document.one("line", **{"class": "threshold"}).attributes["x1"]))
    counts: dict[tuple[str, bool], int] = {}
    for bar in document.all("rect"):
        right = float(str(bar.attributes["x"])) > line
        assert right or float(str(bar.attributes["x"])) + float(str(bar.attributes["width"])) < line
        count, _, images = bar.text.partition(" of ")
        kind = "good" if images == "403" else "spot"
        assert bar.attributes["class"] == ("bar wrong" if right == (kind == "good") else "bar right")
        counts[kind, right] = counts.get((kind, right), 0) + int(count)
    for kind, values in scores.items():
        assert counts[kind, True] == (values > 10).sum()  # a score equal to the threshold is normal
        assert counts[kind, False] == (values <= 10).sum()


@pytest.mark.parametrize("threshold", [-5.0, 0.0, 3.0, 1e9])
@pytest.mark.parametrize("values", [[3.0], [3.0, 3.0, 3.0], [-1e-9, 1e-9], [0.0, 1e12], [-4.0, -3.0, 1.0]])
def test_a_chart_of_any_scores(values: list[float], threshold: float) -> None:
    document = Document(score_chart({"good": np.array(values), "spot": np.array(values)}, threshold))
    assert sum(int(bar.text.partition(" ")[0]) for bar in document.all("rect")) == 2 * len(values)
    for bar in document.all("rect"):
        x, width = float(str(bar.attributes["x"])), float(str(bar.attributes["width"]))
        assert 120 <= x <= x + width <= 761
    line = float(str(document.one("line", **{"class": "threshold"}).attributes["x1"]))
    assert 120 <= line <= 760
    assert 3 <= len([text for text in document.all("text") if text.attributes["class"] == "tick middle"]) <= 12


def test_a_narrow_chart_has_room_for_its_letters() -> None:
    scores = {"good": np.arange(30.0), "a long name of a kind": np.arange(20.0, 50.0)}
    wide, narrow = (Document(score_chart(scores, 25.0, narrow=narrow)) for narrow in (False, True))
    assert [chart.one("svg").attributes["class"] for chart in (wide, narrow)] == ["chart wide", "chart narrow"]
    assert str(narrow.one("svg").attributes["viewbox"]).split()[2] == "360"
    ticks = [text for text in narrow.all("text") if text.attributes["class"] == "tick middle"]
    places = [float(str(tick.attributes["x"])) for tick in ticks]
    assert min(after - before for before, after in pairwise(places)) > 25
    assert all(96 <= float(str(bar.attributes["x"])) <= 316 for bar in narrow.all("rect"))
    assert sum(int(bar.text.partition(" ")[0]) for bar in narrow.all("rect")) == 60
    assert "a long nam…" in narrow.one("svg").text
    (label,) = (text for text in narrow.all("text") if text.text.startswith("threshold"))
    assert label.attributes["class"] == "label strong end"  # the word "images" stands to its right


@pytest.mark.parametrize(("rate", "found"), [(0.0, 0.5), (0.02, 0.9), (0.5, 1.0), (0.9, 1.0), (1.0, 1.0)])
def test_the_label_covers_no_point_and_no_curve(rate: float, found: float) -> None:
    plot = (58.0, 14.0, 388.0, 344.0)
    point = (58 + 330 * rate, 344 - 330 * found)
    curve = [(58.0, point[1] + (344 - point[1]) * i / 50) for i in range(51)]
    curve += [(58 + (point[0] - 58) * i / 50, point[1]) for i in range(51)]
    curve += [(point[0] + (388 - point[0]) * i / 50, point[1] + (14 - point[1]) * i / 50) for i in range(51)]
    x, y, kind = _place_label(point, [point, *curve], plot)
    left = x - 68 if kind.endswith("end") else x
    assert plot[0] <= left <= left + 68 <= plot[2]
    assert plot[1] <= y - 13 <= y <= plot[3]
    assert not [(a, b) for a, b in curve if left < a < left + 68 and y - 13 < b < y]


# Words


@pytest.mark.parametrize(
    ("number", "every", "said"),
    [
        (0, False, "0 false rejects"),
        (1, False, "1 false reject"),
        (2, False, "2 false rejects"),
        (1, True, "the one false reject"),
        (3, True, "all 3 false rejects"),
    ],
)
def test_one_is_not_many(number: int, every: bool, said: str) -> None:
    assert counted(number, "false reject", every=every) == said


def test_chance_of_rejects_is_that_of_a_simulation() -> None:
    rng = np.random.default_rng(0)
    n, m, alpha, observed = 40, 30, 0.1, 6
    hits = 0
    for _ in range(4000):
        scores = rng.normal(size=n + m)
        calibration = Calibration(alpha, tuple(sorted(scores[:n].tolist())))
        hits += int((scores[n:] > calibration.threshold).sum() >= observed)
    calibration = Calibration(alpha, tuple(float(i) for i in range(n)))
    chance = chance_of_rejects(Verdicts(m, observed), calibration)
    assert chance == pytest.approx(hits / 4000, abs=4 * np.sqrt(chance * (1 - chance) / 4000))
    assert chance_of_rejects(Verdicts(m, 0), calibration) == 1


def test_the_promise_is_called_broken_only_by_what_chance_cannot_explain() -> None:
    calibration = Calibration(0.01, tuple(float(i) for i in range(99)))
    assert promise(Verdicts(100, 0), calibration).is_kept
    rates = SessionRates(13, 3, True, 0.03, 0.09, 0.05, 0.12, 0.25)
    assert "withheld for a session never seen" in promise(Verdicts(100, 0), calibration, rates).text
    differing = promise(Verdicts(100, 0), calibration, replace(rates, p_value=0.001)).text
    assert "on average; with 95 % confidence none is known, since sessions differ. " in differing
    assert promise(Verdicts(100, 3), calibration).is_kept  # above 1 %, but well possible
    broken = promise(Verdicts(100, 20), calibration)
    assert not broken.is_kept
    assert "more often than chance explains" in broken.text
    assert "at most 1 % on average; with 95 % confidence this model's is at most 2.98 %." in broken.text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"), (1.0, "100 %"), (0.9999, "> 99.9 %"), (0.00001, "< 0.01 %"), (0.0104166, "1.04 %"),
        (0.05, "5 %"), (0.3585, "35.9 %"), (0.99, "99 %"),
    ],
)  # fmt: skip
def test_shares_in_words(share: float, text: str) -> None:
    assert percent(share) == text
