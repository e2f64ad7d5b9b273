"""`rstpm-edge msa`."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bundles import ModelFactory
from html_document import Document
from limits import make_profile, make_validity
from reference_parts import shot, write_parts

GOOD, BAD = [127, 128, 129], [250, 251, 252]


def parts_of(good: int, bad: int) -> dict[str, list[int]]:
    return {f"good/g{i}": GOOD for i in range(good)} | {f"bad/b{i}": BAD for i in range(bad)}


def test_an_acceptable_station(run: Any, model: Path, tmp_path: Path) -> None:
    data = write_parts(tmp_path / "study", {**parts_of(3, 2), "borderline/edge": [140, 160, 140]})
    result = run("msa", data, "--json", tmp_path / "msa.json", "--html", tmp_path / "msa.html")
    assert result.exit_code == 0, result.stderr
    assert "effectiveness (Effektivität)           5 of 5   100.0 %" in result.stdout
    assert "The verdict on borderline/edge changes: normal, anomalous, normal." in result.stdout
    assert "Acceptable by the limits of AIAG. Too few judgements to show the grade of effectiveness" in result.stdout
    found = json.loads((tmp_path / "msa.json").read_text())
    assert (found["grade"], found["is_shown"], found["changing"]) == ("acceptable", False, ["borderline/edge"])
    assert (found["miss_rate"]["count"], found["miss_rate"]["of"]) == (0, 6)
    assert (found["false_alarm_rate"]["count"], found["false_alarm_rate"]["of"]) == (0, 9)
    assert found["cohens_kappa"] == 1
    assert found["fleiss_kappa"] < 1
    assert found["station"]["model_sha256"] == sha256(model.read_bytes()).hexdigest()
    assert 0.01 < found["repeatability"]["median_good"] < 0.2  # of the tiny model: 0.047, and some noise
    judgement = found["parts"][0]["judgements"][0]
    assert judgement["sha256"] == sha256(Path(judgement["photo"]).read_bytes()).hexdigest()
    page = Document((tmp_path / "msa.html").read_text())
    assert not page.problems
    assert not page.all("script")
    assert page.one("p", **{"class": "verdict acceptable"}).text.startswith("Acceptable")


def test_misses_and_false_alarms(run: Any, tmp_path: Path) -> None:
    data = write_parts(tmp_path / "study", {**parts_of(7, 3), "good/g": [127, 200, 127], "bad/b": [127, 250, 127]})
    result = run("msa", data, "--json", tmp_path / "msa.json")
    assert result.exit_code == 1, result.stderr
    found = json.loads((tmp_path / "msa.json").read_text())
    assert (found["effectiveness"]["count"], found["effectiveness"]["of"]) == (10, 12)
    assert (found["miss_rate"]["count"], found["miss_rate"]["of"]) == (2, 12)
    assert (found["false_alarm_rate"]["count"], found["false_alarm_rate"]["of"]) == (1, 24)
    assert "Unacceptable by the limits of AIAG: miss rate." in result.stdout


def test_the_threshold_of_the_station_is_studied(run: Any, tmp_path: Path) -> None:
    data = write_parts(tmp_path / "study", parts_of(2, 2))
    result = run("msa", data, "--threshold", "50")
    assert result.exit_code == 1, result.stderr
    assert "6 of 6" in result.stdout  # all bad parts are missed


def test_invalid_photos_are_counted_apart(run: Any, model_factory: ModelFactory, tmp_path: Path) -> None:
    model = model_factory("strict.onnx", profile=make_profile(), validity=make_validity(contrast=0, detail=-99))
    data = write_parts(tmp_path / "study", {"good/g": [127, 20, 128], "bad/b": [170, 171, 172]}, size=(64, 64))
    cv2.imwrite(str(data / "bad" / "b" / "0.png"), shot(170, np.random.default_rng(9), (64, 128)))
    result = run("msa", data, "--model", model, "--json", tmp_path / "msa.json", "--html", tmp_path / "msa.html")
    assert result.exit_code == 1, result.stderr
    found = json.loads((tmp_path / "msa.json").read_text())
    good, bad = ([one["verdict"] for one in part["judgements"]] for part in found["parts"])
    assert (good, bad) == (["normal", "invalid", "normal"], ["invalid", "anomalous", "anomalous"])
    assert found["invalid"] == 2
    assert [found[name]["of"] for name in ("effectiveness", "miss_rate", "false_alarm_rate")] == [2, 2, 2]
    assert found["effectiveness"]["count"] == 0
    assert found["parts"][1]["judgements"][0]["score"] is None
    page = (tmp_path / "msa.html").read_text()
    assert "underexposed: its mean grey level is 20" in page
    assert "measures 128×64 pixels" in page


def test_names_are_escaped(run: Any, tmp_path: Path) -> None:
    name = "<script>a & b"
    data = write_parts(
        tmp_path / "a$body <i>", {**parts_of(1, 1), f"good/{name}": [127, 200, 127], "bad/x\x1b[2J": BAD}
    )
    result = run("msa", data, "--html", tmp_path / "msa.html")
    assert result.exit_code == 1, result.stderr
    page = Document((tmp_path / "msa.html").read_text())
    assert not page.all("script")
    assert name in [element.text for element in page.all("th")]
    assert "\x1b" not in page.elements[0].text + result.stdout


@pytest.mark.parametrize(
    ("photo", "why"),
    [
        ("copy", "are the same file: a replay is no repeat"),
        ("text", r"0.png"),
        ("missing", "has 2 photos, but needs 3"),
    ],
)
def test_what_ends_a_study(run: Any, tmp_path: Path, photo: str, why: str) -> None:
    data = write_parts(tmp_path / "study", parts_of(2, 2))
    spoilt = data / "bad" / "b1" / "0.png"
    spoilt.unlink()
    if photo != "missing":
        spoilt.write_bytes((data / "bad" / "b1" / "1.png").read_bytes() if photo == "copy" else b"text")
    older = tmp_path / "msa.html"
    older.write_text("older")
    result = run("msa", data, "--html", older, "--json", tmp_path / "msa.json")
    assert result.exit_code == 2
    assert why in result.stderr
    assert result.stdout == ""
    assert older.read_text() == "older"
    assert not (tmp_path / "msa.json").exists()


def test_outputs_are_refused_before_the_work(run: Any, model: Path, tmp_path: Path) -> None:
    data, key = write_parts(tmp_path / "study", parts_of(1, 1)), tmp_path / "release.pub"
    key.write_text("a key")
    for arguments, why in [
        (("--html", tmp_path / "a", "--json", tmp_path / "a"), "is named twice"),
        (("--json", model), "is named twice"),
        (("--json", key, "--public-key", key), "is named twice"),
        (("--html", key, "--mask", key), "is named twice"),
        (("--html", tmp_path / "a.png"), "does not write a picture"),
        (("--html", tmp_path / "none" / "a.html"), "there is no folder"),
    ]:
        result = run("msa", data, *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert why in result.stderr
