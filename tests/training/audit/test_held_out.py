"""A person looks at the highest held-out photos, and the calibration is found without confirmed defects."""

from __future__ import annotations

import fcntl
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import Result
from traced import traced_already
from workplace import Workplace, command_line, document

from rstpm_edge import Detector
from rstpm_edge.calibration import Calibration
from rstpm_edge.errors import TrainingError
from rstpm_edge.training.audit import held_out
from rstpm_edge.training.audit.held_out import HeldOut, calibrate_again, look, take_back
from rstpm_edge.training.audit.held_out_sheet import draw_held_out
from rstpm_edge.training.export import export as exporting
from rstpm_edge.training.learning.novelty import with_held_out
from rstpm_edge.training.learning.recalibration import load_steps, save_again
from rstpm_edge.training.learning.run_config import load_config, save_config
from rstpm_edge.training.learning.run_summary import load_summary


def sentence(result: Result) -> str:
    assert result.exit_code == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert "Traceback" not in result.stderr
    return line.removeprefix("Error: ")


@pytest.fixture
def run(workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a finished run: nine photos were learned from, three held out."""
    folder = tmp_path / "runs" / "first"
    shutil.copytree(workplace.run, folder)
    monkeypatch.chdir(tmp_path)
    return Path("runs/first")


@pytest.fixture
def held(run: Path) -> HeldOut:
    return look(run)


# As a user types it


def test_the_highest_are_shown_and_nothing_changes(run: Path) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    result = command_line("calibrate", run)
    assert result.exit_code == 0, result.stderr
    head, *lines = result.stdout.splitlines()
    assert head.split() == ["rank", "score", "photo"]
    summary, config = load_summary(run), load_config(run)
    names = [line.split()[2] for line in lines[:3]]
    assert names == [name for name, _ in summary.highest]
    assert set(names) == {photo.name for photo in config.holdout}
    assert lines[0].endswith("sets the threshold")
    assert all(line.endswith("below the threshold") for line in lines[1:3])
    assert lines[3].startswith(
        "calibrate.jpg shows them. If one shows a defect, calibrate without it: rstpm-edge calibrate runs/first "
    )
    picture = cv2.imread("calibrate.jpg")
    assert picture is not None
    assert picture.std() > 20
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_a_confirmed_defect_is_dropped_exported_and_taken_back(
    run: Path, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_trained = load_summary(run)
    name = as_trained.highest[0][0]
    result = command_line("calibrate", run, "--defective", name)
    assert result.exit_code == 0, result.stderr
    first, second, third, painted, last = result.stdout.splitlines()
    assert first.startswith(f"1 of 3 held-out photos are dropped as defective: {name}. ")
    summary = load_summary(run)
    assert second == (
        f"The threshold was {as_trained.calibration.threshold:.4g} and is {summary.calibration.threshold:.4g}: a good "
        "part is rejected with probability at most 33.3% on average, with 95% confidence at most 77.6%."
    )
    assert third == "The 2 photos that are left allow no smaller rate."
    assert painted.startswith("Of synthetic defects in held-out photos it finds ")
    assert last == f"Next: rstpm-edge export {run}. To take it back: rstpm-edge calibrate {run} --reset"
    assert summary.defective == (name,)
    assert len(summary.calibration.scores) == 2
    assert name not in dict(summary.highest)
    assert load_summary(run, as_trained=True) == as_trained
    (step,) = load_steps(run)
    assert step.defective == (name,)
    assert step.threshold == summary.calibration.threshold
    assert step.time.startswith("20")
    assert step.time.endswith("+00:00")

    again = command_line("calibrate", run, "--defective", name)
    assert again.stdout.startswith("Nothing changes: it is so already.\n1 of 3 held-out ")
    assert load_summary(run) == summary
    assert load_steps(run) == (step,)
    shown = command_line("calibrate", run).stdout.splitlines()
    assert shown[1].endswith("sets the threshold; dropped as defective")  # the order is that of the training

    monkeypatch.setattr(exporting, "to_onnx", traced_already(workplace.model))  # only the calibration is another
    assert command_line("export", run).exit_code == 0
    info = Detector("model.onnx").info
    assert info.calibration == summary.calibration
    assert info.fusion == summary.fusion
    assert info.training["dropped_as_defective"] == [name]
    assert info.training["holdout"] == 2

    taken_back = command_line("calibrate", run, "--reset")
    assert taken_back.stdout.startswith("The calibration of the training holds again: threshold ")
    assert load_summary(run) == as_trained
    assert [step.defective for step in load_steps(run)] == [(name,), ()]
    assert command_line("calibrate", run, "--reset").stdout.startswith("Nothing was dropped: threshold ")
    assert len(load_steps(run)) == 2


def test_photos_that_have_moved_are_found(run: Path, tmp_path: Path) -> None:
    config = load_config(run)
    moved = tmp_path / "elsewhere"
    shutil.copytree(config.data, moved)
    save_config(run, replace(config, data=str(tmp_path / "gone")))
    assert command_line("calibrate", run, "--data", moved).exit_code == 0
    said = sentence(command_line("calibrate", run, "--defective", config.holdout[0].name))
    gone = tmp_path / "gone"
    assert said == (
        f"The run's photos are needed, and there is no folder {gone}: put them back, or say where they are with --data "
        "FOLDER."
    )
    (moved / "train" / "good" / config.holdout[0].name).unlink()
    said = sentence(command_line("calibrate", run, "--data", moved))
    assert said.endswith("is missing since the run began; say where the run's photos are with --data FOLDER.")


# What is dropped, and what is not


def test_a_defect_does_not_decide_what_is_invalid(held: HeldOut) -> None:
    """The limit of novelty is found again, as if the photo had never been held out."""
    as_trained, embedding = held.as_trained, held.outputs.embedding
    assert as_trained.novelty is not None
    assert as_trained.novelty_of_learned is not None
    assert embedding is not None
    row = [photo.name for photo in held.config.holdout].index(held.candidates[0].name)
    far = embedding.copy()
    far[row] += 5.0
    # As if the training had seen it so.
    as_trained = replace(
        as_trained, novelty=with_held_out(replace(as_trained.novelty, limit=as_trained.novelty_of_learned), far)
    )
    held = replace(held, as_trained=as_trained, outputs=replace(held.outputs, embedding=far))
    found = calibrate_again(held, [held.candidates[0].name])
    assert as_trained.novelty is not None
    assert found.novelty is not None
    assert found.novelty.limit < 0.5 * as_trained.novelty.limit
    assert found.novelty.vectors == as_trained.novelty.vectors
    assert load_summary(held.run).novelty == found.novelty
    take_back(held.run)
    before = replace(held, as_trained=replace(as_trained, novelty_of_learned=None))  # a run that does not say it
    assert calibrate_again(before, [held.candidates[1].name]).novelty == as_trained.novelty


def test_one_more_is_dropped_beside_those_before(held: HeldOut) -> None:
    first, second, _ = (one.name for one in held.candidates)
    found = calibrate_again(held, [second])
    assert found.defective == (second,)
    # Two of three would be gone: the photos are no set of good ones.
    with pytest.raises(
        Exception, match=r"^2 of 3 held-out photos would be defective: .* Sort them, and train again\.$"
    ):
        calibrate_again(look(held.run), [first])
    assert load_summary(held.run).defective == (second,)


def test_the_sheet_shows_where_a_photo_is_unusual(held: HeldOut) -> None:
    sheet = draw_held_out(held)
    one = held.candidates[0]
    assert one.anomaly_map.shape == held.config.size
    assert sheet.dtype == np.uint8
    assert sheet.shape[2] == 3
    colours = np.abs(sheet.astype(int) - sheet[..., :1]).max()
    assert colours > 60


@pytest.mark.parametrize(
    ("which", "options", "says"),
    [
        ("x.png", [], "x.png is no photo of this run; those held out are 0"),
        ("learned", [], "NAME was learned from, not held out: if it shows a defect, take it out of the folder and "),
        (
            "lowest",
            ["--most", 1],
            "NAME is held out, but none of the 1 highest, which are to be looked at; --most N shows more. A photo ",
        ),
        ("x.png", ["--reset"], "Give either --reset, or --defective NAME and --sessions."),
        (None, ["--reset", "--most", 3], "--most does nothing beside --reset: leave it out."),
        (None, ["--reset", "--data", "."], "--data does nothing beside --reset: leave it out."),
        ("x.png", ["-o", "sheet.jpg"], "--output does nothing beside --defective and --sessions: leave it out."),
        (None, ["-o", "sheet.txt"], "-o names a picture, .jpg, .jpeg or .png, not sheet.txt."),
        (None, ["-o", "missing/sheet.jpg"], "Cannot write missing/sheet.jpg: there is no folder missing."),
        (
            None,
            ["--data", "missing"],
            "The run's photos are needed, and there is no folder missing: put them back, or ",
        ),
    ],
)
def test_mistakes(run: Path, which: str | None, options: list[str], says: str) -> None:
    config, summary = load_config(run), load_summary(run)
    names = {"learned": config.train[0].name, "lowest": summary.highest[-1][0]}
    name = names.get(which, which) if which else None
    before = {path.name for path in run.iterdir()}
    result = command_line("calibrate", run, *(["--defective", name] if name else []), *options)
    assert sentence(result).startswith(says.replace("NAME", str(name), 1) if which in names else says)
    assert {path.name for path in run.iterdir()} == before


def test_the_sheet_does_not_lie_among_the_photos(run: Path) -> None:
    folder = Path(load_config(run).data) / "train" / "good"
    said = sentence(command_line("calibrate", run, "-o", folder / "sheet.jpg"))
    assert said.endswith("would lie among the photos and be learned from; name another place with -o.")


def test_runs_that_cannot_be_calibrated(run: Path) -> None:
    assert sentence(command_line("calibrate", "missing")).startswith("The run missing is not there: name the folder")
    (run / "summary.json").rename(run / "other.json")
    assert sentence(command_line("calibrate", run)).startswith("The run runs/first has not finished; go on with ")
    assert sentence(command_line("calibrate")).startswith("There is no finished run in ./runs: ")


@pytest.mark.parametrize(
    ("content", "commands"),
    [
        ("[]", ["export", "calibrate"]),
        ("{", ["export", "calibrate"]),
        ('{"schema_version": 2}', ["export", "calibrate"]),
        ('{"schema_version": 2, "summary": {}, "history": 3}', ["calibrate"]),  # an export has no use for it
    ],
)
def test_a_damaged_calibration_is_told(run: Path, content: str, commands: list[str]) -> None:
    (run / "calibration.json").write_text(content)
    for command in commands:
        said = sentence(command_line(command, run))
        assert said.startswith("runs/first/calibration.json is damaged")
        assert said.endswith("; remove it, and calibrate again.")
    assert not Path("model.onnx").exists()


def test_a_calibration_of_a_newer_schema_is_told(run: Path) -> None:
    command_line("calibrate", run, "--defective", load_summary(run).highest[0][0])
    content = document(run / "calibration.json")
    (run / "calibration.json").write_text(json.dumps({**content, "schema_version": 99, "needs": "9.0"}))
    with pytest.raises(TrainingError, match=r"it needs rstpm-edge ≥ 9\.0"):
        load_summary(run)


def test_two_people_who_decide_at_once_both_count(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have seen the run as it was; while one keeps the decision, the other has to wait."""
    first, second = look(run), look(run)
    waits = []

    def save_then_tell(*arguments: Any, **keywords: Any) -> None:
        with (run / "calibration.lock").open("r+") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        waits.append(arguments)
        save_again(*arguments, **keywords)

    monkeypatch.setattr(held_out, "save_again", save_then_tell)
    name, rule = first.candidates[0].name, r"0(0|1)[0-9]\.png"
    calibrate_again(first, [name])
    found = calibrate_again(second, sessions=rule)
    assert (found.defective, found.session_rule) == ((name,), rule)
    assert load_summary(run) == found
    assert [(step.defective, step.sessions) for step in load_steps(run)] == [((name,), None), ((name,), rule)]
    assert held_out.take_back(run)
    assert len(waits) == 3
    with (run / "calibration.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_commands_that_are_advised_can_be_typed(run: Path) -> None:
    spaced = run.rename("runs/my part")
    assert "rstpm-edge calibrate 'runs/my part' --defective NAME" in command_line("calibrate", spaced).stdout
    said = command_line("calibrate", spaced, "--defective", load_summary(spaced).highest[0][0]).stdout
    assert "Next: rstpm-edge export 'runs/my part'. To take it back: rstpm-edge calibrate 'runs/my part' --r" in said
    assert "Next: rstpm-edge export 'runs/my part'\n" in command_line("calibrate", spaced, "--reset").stdout
    (spaced / "summary.json").unlink()
    assert "go on with `rstpm-edge train --resume 'runs/my part'`" in command_line("export", spaced).stderr


# Why only confirmed defects


def test_the_promise_survives_dropping_defects_and_not_dropping_odd_good_parts() -> None:
    """95 good photos and 5 defective ones, which score high, held out; the share of new good ones above."""
    rng = np.random.default_rng(0)
    rates: dict[str, list[float]] = {"all": [], "without defects": [], "without odd ones": []}
    for _ in range(2000):
        good, bad = rng.random(95), rng.uniform(0.8, 1.5, 5)
        highest = np.argsort(-np.concatenate([good, bad]))[:12]  # those that a person looks at
        confirmed = highest[highest >= 95]
        everything = np.concatenate([good, bad])
        for name, dropped in (("all", highest[:0]), ("without defects", confirmed), ("without odd ones", highest)):
            kept = tuple(np.sort(np.delete(everything, dropped)))
            rates[name].append(1 - min(Calibration(0.05, kept).threshold, 1))
    found = {name: float(np.mean(values)) for name, values in rates.items()}
    assert found["all"] < 0.02  # and finds little
    assert 0.04 < found["without defects"] < 0.05 * (1 + 5 / 96)
    assert found["without odd ones"] > 0.1


# Sessions


def test_what_holds_from_one_session_to_the_next_is_told_and_kept(run: Path) -> None:
    rule = r"0(0|1)[0-9]\.png"
    result = command_line("calibrate", run, "--sessions", rule)
    assert result.exit_code == 0, result.stderr
    summary = load_summary(run)
    assert summary.session_rule == rule
    assert summary.calibration == load_summary(run, as_trained=True).calibration
    (step,) = load_steps(run)
    assert (step.sessions, step.defective) == (rule, ())
    said = result.stdout
    assert "guarantee is withheld for " in said
    assert command_line("calibrate", run, "--sessions", rule).stdout.startswith("Nothing changes: it is so already.\n")
    # Both stay where the other is changed.
    name = summary.highest[0][0]
    command_line("calibrate", run, "--defective", name)
    summary = load_summary(run)
    assert (summary.session_rule, summary.defective) == (rule, (name,))
    assert command_line("calibrate", run, "--reset").stdout.startswith("The calibration of the training holds again")
    assert load_summary(run) == load_summary(run, as_trained=True)


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("(", "--sessions is the word folder or a regular expression, and '(' is none: "),
        (
            "png",
            "--sessions has no group: put what tells sessions apart into parentheses, as in 'strip([0-9]+)_', not ",
        ),
        ("strip([0-9]+)", "--sessions fits no photo's name: its group must find the session of each of the 12 photos."),
        ("folder", "All 12 photos are of one session by --sessions: with one, nothing can be said of others."),
    ],
)
def test_rules_for_sessions_that_do_not_fit(run: Path, rule: str, says: str) -> None:
    assert sentence(command_line("calibrate", run, "--sessions", rule)).startswith(says)
    said = sentence(command_line("train", load_config(run).data, "--sessions", rule, "--size", 64, "--device", "cpu"))
    assert said.startswith(says)
    assert not (run / "calibration.json").exists()


def test_the_sheet_does_not_lie_among_the_photos_of_a_session(run: Path, tmp_path: Path) -> None:
    config = load_config(run)
    photos = tmp_path / "photos"
    named = {
        field: tuple(file._replace(name=f"monday/{file.name}") for file in getattr(config, field))
        for field in ("train", "holdout")
    }
    shutil.copytree(Path(config.data) / "train" / "good", photos / "monday")
    save_config(run, replace(config, data=str(photos), **named))
    said = sentence(command_line("calibrate", run, "-o", photos / "monday" / "sheet.jpg"))
    assert said.endswith("would lie among the photos and be learned from; name another place with -o.")
    assert command_line("calibrate", run, "-o", photos.parent / "sheet.jpg").exit_code == 0
