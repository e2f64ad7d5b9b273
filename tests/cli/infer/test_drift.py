"""`rstpm-edge infer --drift`, as a user types it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bundles import ModelFactory

from rstpm_edge.calibration import calibrate
from rstpm_edge.cli.infer.drift_watch import INTERVAL, DriftWatch
from rstpm_edge.drift import begin
from rstpm_edge.errors import OutputError
from rstpm_edge.outputs.chain_check import check_chain
from rstpm_edge.outputs.drift_file import load_drift

USUAL, UNUSUAL = range(22), (19, 20)  # how far from mid-grey: p-values from 1 to 0.02, and of 0.07 and 0.11


def take_photos(folder: Path, *parts: tuple[int, Any]) -> Path:
    """Flat photos: so many of each part, each at one of its distances from mid-grey."""
    folder.mkdir()
    values = random.Random(0)
    for number, far in enumerate(value for count, of in parts for value in values.choices(of, k=count)):
        cv2.imwrite(str(folder / f"{number:04}.png"), np.full((64, 64, 3), 127 + far, np.uint8))
    return folder


def told(errors: str) -> list[str]:
    return [line for line in errors.splitlines() if line.startswith("Drift")]


def drifts(output: str) -> list[str]:
    return [json.loads(line)["drift"] for line in output.splitlines()]


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    return take_photos(tmp_path / "changed", (30, USUAL), (40, UNUSUAL))


def test_another_scene_is_told_once(run: Any, changed: Path) -> None:
    result = run("infer", changed, "--drift", "1%", "--json")
    assert result.exit_code == 0
    known = drifts(result.stdout)
    at = known.index("scene changed")
    assert 30 < at < 60
    assert set(known[:at]) == {"stable"}
    assert set(known[at:]) == {"scene changed"}
    (line,) = told(result.stderr)
    assert line.startswith(f"Drift, after {at + 1} images: the scene changed, since photos of all kinds score ")
    assert line.endswith("(A false alarm has a probability of at most 1% in a whole run.)")
    summary = run("infer", changed, "--drift", "1%").stdout.splitlines()[-1]
    assert summary.endswith(f"; drift: scene changed since image {at + 1}")


def test_more_defects_are_told_as_such(run: Any, tmp_path: Path) -> None:
    photos = take_photos(tmp_path / "line", (60, USUAL), (60, (*USUAL, *[90] * 10)))
    result = run("infer", photos, "--drift", "0.01")
    assert result.exit_code == 1
    (line,) = told(result.stderr)
    assert "more photos are anomalous than before" in line
    assert "; drift: more defects since image " in result.stdout


def test_nothing_changes(run: Any, tmp_path: Path) -> None:
    photos = take_photos(tmp_path / "line", (120, USUAL))
    result = run("infer", photos, "--drift", "0.1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.endswith("; drift: stable\n")
    plain = run("infer", photos, "--json")
    assert all("drift" not in json.loads(line) for line in plain.stdout.splitlines())
    assert "drift" not in run("infer", photos).stdout


def test_it_goes_on_after_a_restart(run: Any, changed: Path, tmp_path: Path) -> None:
    files, state = sorted(changed.iterdir()), tmp_path / "drift.json"
    whole = drifts(run("infer", *files, "--drift", "1%", "--json").stdout)
    parts: list[str] = []
    for part in (files[:20], files[20:37], files[37:]):
        parts += drifts(run("infer", *part, "--drift", "1%", "--drift-state", state, "--json").stdout)
    assert parts == whole
    again = run("infer", files[0], "--drift", "1%", "--drift-state", state)
    at = whole.index("scene changed") + 1
    assert told(again.stderr) == [
        f"Drift: {state} says since image {at}: the scene changed, since photos of all kinds score otherwise than they "
        "did. Remove that file when the cause is, to begin anew."
    ]
    assert json.loads(state.read_text())["alarm_at"] == at


def test_an_image_that_cannot_be_judged_is_none_of_it(run: Any, changed: Path, tmp_path: Path) -> None:
    (changed / "0000.png").write_text("this is text")
    state = tmp_path / "drift.json"
    assert run("infer", changed, "--drift", "1%", "--drift-state", state).exit_code == 3
    assert sum(json.loads(state.read_text())["counts"]) == 69


def test_an_alarm_stands_in_the_audit_log(run: Any, changed: Path, tmp_path: Path) -> None:
    log, state = tmp_path / "log.jsonl", tmp_path / "drift.json"
    for _ in range(2):
        run("infer", changed, "--drift", "1%", "--drift-state", state, "--audit-log", log)
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [entry["event"] for entry in entries] == ["start", "drift", "stop", "start", "drift", "stop"]
    assert entries[0]["typed"]["drift"] == 0.01
    first, second = entries[1], entries[4]
    assert (first["drift"], first["false_alarm_rate"]) == ("scene changed", 0.01)
    assert first["images"] == first["alarm_at"] == second["alarm_at"]
    assert second["images"] == 70
    assert check_chain(log, None).faults == []


def test_bad_uses(run: Any, photos: Path, tmp_path: Path, model_factory: ModelFactory) -> None:
    state, of_another = tmp_path / "drift.json", model_factory("other.onnx", preset="another")
    mask = tmp_path / "mask.png"
    cv2.imwrite(str(mask), np.full((64, 64), 255, np.uint8))
    assert run("infer", photos, "--drift", "1%", "--drift-state", state).exit_code == 1
    before = state.read_bytes()
    torn = tmp_path / "torn.json"
    torn.write_bytes(before[:100])
    for arguments, message in [
        (["--drift", "0"], "A false-alarm rate lies between 0 and 1, but this is 0."),
        (["--drift", "much"], "--drift is a rate, such as 0.05 or 5%, not 'much'."),
        (["--drift-state", state], "--drift-state goes with --drift RATE only."),
        (["--drift", "1%", "--drift-state", tmp_path / "a.png"], "--drift-state does not write a picture"),
        (["--drift", "1%", "--drift-state", tmp_path / "no" / "a"], "there is no folder"),
        (["--drift", "1%", "--drift-state", tmp_path], "Is a directory"),
        (["--drift", "1%", "--drift-state", state, "--csv", state], "--csv and --drift-state must be different files."),
        (["--drift", "2%", "--drift-state", state], "was begun with --drift 0.01, not 0.02"),
        (["--drift", "1%", "--drift-state", torn], "is damaged (it is no JSON): give another --drift-state, or remove"),
        (["--drift", "1%", "--drift-state", state, "--model", of_another], "is of another model: give another "),
        (["--drift", "1%", "--mask", mask], "which were judged without a mask and with the model's own ROI"),
        (["--drift", "1%", "--roi", "0,0,32,32"], "which were judged without a mask and with the model's own ROI"),
    ]:
        result = run("infer", photos, *arguments)
        assert result.exit_code == (5 if message == "there is no folder" else 2), arguments
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1
        assert message in result.stderr
        assert result.stdout == ""
    assert state.read_bytes() == before
    assert run("infer", photos, "--drift", "1%", "--mask", "full").exit_code == 1


def test_the_state_is_written_at_intervals_and_with_an_alarm(tmp_path: Path) -> None:
    now, path, first = [0.0], tmp_path / "drift.json", begin(calibrate(range(40)), 0.01)
    said: list[Any] = []
    with DriftWatch(first, said.append, (path, "5" * 64), now=lambda: now[0]) as watch:
        assert not path.exists()

        def kept() -> int:
            return load_drift(path, first, "5" * 64).images

        watch.take(1.0)
        assert not path.exists()
        now[0] = INTERVAL
        watch.take(1.0)
        assert kept() == 2
        watch.take(1.0)
        assert kept() == 2
        images = 3
        while watch.take(3 / 41) == "stable":
            images += 1
        assert kept() == images + 1
        watch.take(1.0)
    assert kept() == images + 2
    assert [fields["drift"] for fields in said] == ["stable", "scene changed"]


def test_drift_goes_back_as_far_as_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of two new models that come without an image between them, the one before both judges after a rollback."""
    path, first = tmp_path / "drift.json", begin(calibrate(range(40)), 0.01)
    with DriftWatch(first, lambda fields: None, (path, "1" * 64)) as watch:
        watch.take(1.0)
        watch.begin_anew(first, "2" * 64)
        watch.begin_anew(first, "3" * 64)
        watch.go_back()
        assert load_drift(path, first, "1" * 64).images == 1
        watch.begin_anew(first, "4" * 64)
        watch.take(1.0)
        watch.begin_anew(first, "5" * 64)
        watch.go_back()
        assert load_drift(path, first, "4" * 64).images == 1


def test_a_state_that_cannot_be_written_ends_no_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now, folder, first = [0.0], tmp_path / "folder", begin(calibrate(range(40)), 0.01)
    folder.mkdir()
    keep = folder / "drift.json", "5" * 64

    def later(watch: DriftWatch) -> None:
        now[0] += INTERVAL
        watch.take(1.0)

    with DriftWatch(first, lambda fields: None, keep, keep_going=True, now=lambda: now[0]) as watch:
        folder.rmdir()
        later(watch)
        later(watch)
        assert watch.lost == 2
        assert watch.note() == "drift: stable, 2 states not written"
        folder.mkdir()
        later(watch)
    trouble, better = capsys.readouterr().err.splitlines()
    assert trouble == f"Cannot write {keep[0]}: No such file or directory. Judging goes on without."
    assert better == f"{keep[0]} can be written again."
    folder.joinpath("drift.json").unlink()
    folder.rmdir()
    with (
        pytest.raises(OutputError, match="Cannot write"),
        DriftWatch(first, lambda fields: None, keep, now=lambda: now[0]) as watch,
    ):
        watch.take(1.0)
