"""`rstpm-edge recalibrate`, and what `info` tells afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from confirmed import write_confirmed
from keys import make_pair

from rstpm_edge import Detector
from rstpm_edge.model.signing import sign_model

DISTANCES = [3, 5, 7, 9, 11, 13, 14, 15, 17, 18, 19, 20, 21, 22, 23]


@pytest.fixture
def confirmed(tmp_path: Path) -> Path:
    write_confirmed(tmp_path / "confirmed", DISTANCES)
    return tmp_path / "confirmed"


def test_what_it_says_and_writes(run: Any, model: Path, confirmed: Path) -> None:
    before = model.read_bytes()
    done = run("recalibrate", model, confirmed)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Calibrated on 15 new photos and the 99 of before; was on 99.",
        "The threshold was 0.99 and is 1.078. Of the new photos, the one before rejects 2 (13.3%), this one 0.",
        "Of good parts like these it rejects at most 1% on average, with 95% confidence at most 2.59%. "
        "Before: 1%, with 95% confidence at most 2.98%.",
        f"{model.with_name('model.recalibrated.onnx')}: written.",
    ]
    assert model.read_bytes() == before
    told = run("info", model.with_name("model.recalibrated.onnx"), "--json")
    (step,) = json.loads(told.stdout)["recalibrations"]
    assert (step["threshold"], step["images"], len(step["added"]), step["replaced"]) == (0.99, 99, 15, False)
    shown = run("info", model.with_name("model.recalibrated.onnx")).stdout
    assert "15 confirmed good photos added to 99; the threshold was 0.99, for at most 1%" in shown
    assert "recalibrated  " not in run("info", model).stdout


def test_in_place_and_replaced(run: Any, model: Path, confirmed: Path) -> None:
    done = run("recalibrate", model, confirmed, "--replace", "--alpha", "10%", "-o", model)
    assert done.exit_code == 0, done.stderr
    assert "Calibrated on 15 new photos; was on 99." in done.stdout
    assert "of one lot or one day, they promise nothing of another" in done.stdout
    assert Detector(model, threads=1).info.calibration.alpha == 0.1


def test_copies_and_known_photos_are_told(run: Any, model: Path, confirmed: Path) -> None:
    (confirmed / "copy.png").write_bytes((confirmed / "00.png").read_bytes())
    write_confirmed(confirmed / "more", [16], seed=70)
    said = run("recalibrate", model, confirmed).stdout
    assert "1 of 17 photos show what another of them does, and do not count." in said
    assert "1 of 17 photos were learned from or held out before, and do not count again." in said


@pytest.mark.extra
def test_a_signature_does_not_go_along(run: Any, model: Path, confirmed: Path, tmp_path: Path) -> None:
    pair = make_pair(tmp_path)
    refused = run("recalibrate", model, confirmed, "--public-key", pair.public)
    assert refused.exit_code == 2
    assert "is not signed" in refused.stderr
    sign_model(model, pair.key)
    done = run("recalibrate", model, confirmed, "--public-key", pair.public, "-o", tmp_path / "new.onnx")
    assert done.exit_code == 0, done.stderr
    assert "new.onnx is not signed: whoever releases it does that with `rstpm-edge sign " in done.stdout
    assert not (tmp_path / "new.onnx.sig").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--replace"], "promise less by an --alpha of 0.0625"),
        (["-o", "new.png"], "-o names a model file"),
        (["-o", "nowhere/new.onnx"], "nowhere"),
        (["--alpha", "0.001"], "To promise 0.1% takes 999 photos, and here are 114: give more, or promise less"),
    ],
)
def test_what_is_refused(run: Any, model: Path, confirmed: Path, arguments: list[str], said: str) -> None:
    refused = run("recalibrate", model, confirmed, *arguments)
    assert refused.exit_code == 2
    assert said in refused.stderr
    assert not model.with_name("model.recalibrated.onnx").exists()


def test_it_names_the_option_where_scores_differ(run: Any, model: Path, tmp_path: Path) -> None:
    write_confirmed(tmp_path / "higher", [21, 22, 23, 24, 25, 26] * 3)
    refused = run("recalibrate", model, tmp_path / "higher")
    assert refused.exit_code == 2
    assert "calibrate on them alone with --replace." in refused.stderr


def test_it_needs_neither_torch_nor_onnx(model: Path, confirmed: Path) -> None:
    program = (
        "import sys; [sys.modules.__setitem__(name, None) for name in ('torch', 'onnx', 'scipy')];"
        "from rstpm_edge.cli.main import main; main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", program, "recalibrate", str(model), str(confirmed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
