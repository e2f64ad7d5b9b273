"""The report of all products: whole, safe to open, worst first, with what each needs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from fleet_results import MEASURED, result, without_model
from html_document import Document

from rstpm_edge.training.fleet_train.report import write_fleet_report
from rstpm_edge.training.fleet_train.result import Need

NASTY = "<script>alert(1)</script>\u202e"


@pytest.fixture
def written(tmp_path: Path) -> Path:
    worse = dataclasses.replace(MEASURED, found=0.2, false_rejects=0.4, keeps_promise=False)
    results = [
        result("bolt"),
        result("nut", measured=worse, needs=(Need("look", f"odd {NASTY}"), Need("photos", "12 good photos"))),
        result("cap", measured=None, needs=()),
        without_model("pin", f"it holds {NASTY}"),
    ]
    write_fleet_report(tmp_path, results, 3)
    return tmp_path


def test_the_page_is_whole_and_worst_first(written: Path) -> None:
    document = Document((written / "fleet.html").read_text())
    assert document.problems == []
    names = [one.text for one in document.all("th", scope="row")]
    assert names == ["pin", "nut", "cap", "bolt"]
    links = {one.attributes["href"] for one in document.all("a")}
    assert {"nut/report.html", "bolt/report.html", "bolt/audit.jpg", "#audit", "#look", "#photos"} <= links
    assert "cap/report.html" not in links
    ids = {one.attributes.get("id") for one in document.elements}
    assert {link.removeprefix("#") for link in links if link and link.startswith("#")} <= ids


def test_names_and_reasons_are_no_markup(written: Path) -> None:
    content = (written / "fleet.html").read_text()
    assert "<script>alert" not in content
    assert "\u202e" not in content
    document = Document(content)
    assert len(document.all("script")) == 1
    policy = next(
        one.attributes["content"] for one in document.all("meta", **{"http-equiv": "Content-Security-Policy"})
    )
    assert policy is not None
    assert "default-src 'none'" in policy


def test_the_json_holds_all_of_it(written: Path) -> None:
    content = json.loads((written / "fleet.json").read_text())
    assert content["waiting"] == 3
    assert [one["name"] for one in content["products"]] == ["pin", "nut", "cap", "bolt"]
    assert content["products"][0]["failure"] == f"it holds {NASTY}"
    assert content["products"][1]["found"] == 0.2
    assert content["products"][3]["needs"] == [{"kind": "audit", "why": "2 of the good photos look suspicious"}]


def test_a_report_of_nothing(tmp_path: Path) -> None:
    write_fleet_report(tmp_path, [], 2)
    assert Document((tmp_path / "fleet.html").read_text()).problems == []
