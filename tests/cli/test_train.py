"""`rstpm-edge train`, `export` and `evaluate`, as a user types them."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from workplace import Workplace, command_line, document

from rstpm_edge import Detector
from rstpm_edge.calibration import calibrate
from rstpm_edge.cli.train import _within_budget, say_run
from rstpm_edge.errors import UsageError
from rstpm_edge.model.session_rates import SessionRates
from rstpm_edge.training.graph import latency
from rstpm_edge.training.learning.options import TrainingOptions
from rstpm_edge.training.learning.run_summary import load_summary, save_summary


@pytest.mark.parametrize(
    ("budget", "pixels"),
    [(40.0, 262144), (10.0, 65536), (1.0, 6553)],
)
def test_a_budget_of_milliseconds_says_how_many_pixels_the_input_may_have(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], budget: float, pixels: int
) -> None:
    monkeypatch.setattr(latency, "measure_latency", lambda preset, weights: 10.0)
    assert _within_budget(TrainingOptions(), budget).most_pixels == pixels
    assert capsys.readouterr().out.startswith("An image of 256x256 takes 10.0 ms on this machine, so ")


@pytest.mark.parametrize(
    ("options", "budget", "says"),
    [
        (TrainingOptions(), 0.5, "--budget-ms 0.5 is too little: the smallest input takes 0.6 ms here."),
        (TrainingOptions(), 0.0, "--budget-ms is a number of milliseconds above 0, not 0."),
        (TrainingOptions(), float("nan"), "--budget-ms is a number of milliseconds above 0, not nan."),
        (TrainingOptions(size=(256, 256)), 40.0, "Give --size or --budget-ms, by which one is chosen, not both."),
    ],
)
def test_budgets_that_cannot_work(
    monkeypatch: pytest.MonkeyPatch, options: TrainingOptions, budget: float, says: str
) -> None:
    monkeypatch.setattr(latency, "measure_latency", lambda preset, weights: 10.0)
    with pytest.raises(UsageError) as error:
        _within_budget(options, budget)
    assert str(error.value) == says


# The whole way


def test_training_says_what_it_promises(workplace: Workplace) -> None:
    summary = document(workplace.run / "summary.json")
    output, errors = workplace.said("train")
    first, second, third, fourth, *_ = output.splitlines()
    stpm, recon = summary["losses"][-1]
    assert first.startswith(f"{workplace.run.relative_to(workplace.folder)}: 2 epochs on 9 images in ")
    assert first.endswith(f"loss {stpm:.3f} (STPM pair), {recon:.3f} (reconstruction pair).")
    assert second.startswith("A good part is rejected with probability at most 25%, for parts like the 3 held-out")
    assert "with 95% confidence it rejects at most 63.2% of good parts." in third
    assert fourth == "The 3 held-out images allow no smaller rate; 5% takes 19 of them."
    assert "108 synthetic defects were painted into held-out photos. It finds " in output
    assert len(summary["synthetic_scores"]) == 108
    told = [line.split(" ", 2)[2] for line in errors.splitlines()]
    stages = ("Reading", "Teachers", "Students", "Residuals", "Segmentation", "Calibration")
    assert [line.partition(":")[0] for line in told if ": done in " in line] == list(stages)
    assert any(line.startswith("Students: ") and "epoch 2 of 2, loss " in line for line in told)
    kept = [line.split(" ", 2)[2] for line in (workplace.run / "train.log").read_text().splitlines()]
    assert [line.partition(":")[0] for line in kept] == [*(line.partition(":")[0] for line in told), "Finished."]
    assert output.splitlines()[-1].startswith("This training is not done: its loss still fell by ")


@pytest.mark.parametrize(
    ("count", "alpha", "average", "confident", "table"),
    [
        (
            99,
            None,
            "5%",
            "9.01%",
            [
                "      1%          98                2.98%",
                "      2%          97                 4.7%",
                "      5%          94                9.01%   this training",
                "     10%          89                15.3%",
                "     20%          79                26.9%",
            ],
        ),
        (
            9,
            None,
            "10%",
            "28.3%",
            ["     10%           8                28.3%   this training", "     20%           7                42.9%"],
        ),
        (94, 1 / 95, "1.05%", "3.14%", ["   1.06%          93                3.14%   this training"]),
        (3, None, "25%", "63.2%", []),
    ],
)
def test_the_rate_its_confidence_and_other_rates_are_told(
    workplace: Workplace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    count: int,
    alpha: float | None,
    average: str,
    confident: str,
    table: list[str],
) -> None:
    shutil.copy(workplace.run / "config.json", tmp_path)
    scores = calibrate(range(count), alpha)
    summary = dataclasses.replace(load_summary(workplace.run), calibration=scores, highest=(), synthetic_scores=())
    save_summary(tmp_path, summary)  # as a run from before, of which nothing is known of synthetic defects
    say_run(tmp_path)
    _, promised, sure, *others = capsys.readouterr().out.splitlines()
    assert promised.startswith(f"A good part is rejected with probability at most {average}, for parts like the ")
    assert sure == (
        "That is the average over many such trainings. Of this one: with 95% confidence it rejects at most "
        f"{confident} of good parts."
    )
    if "    RATE   threshold       95% confidence" in others:
        header = others.index("    RATE   threshold       95% confidence")
        assert others[header - 1].startswith("`rstpm-edge infer --alpha RATE` takes another rate.")
        assert others[header + 1 :][: len(table)] == table
    else:
        assert table == []
        assert not any("infer --alpha" in line for line in others)


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (
            9,
            [
                "    RATE   threshold       95% confidence   synthetic defects found",
                "     10%           8                28.3%                       25%   this training",
                "     20%           7                42.9%                       75%",
                "4 synthetic defects were painted into held-out photos. Their share compares rates and models; ",
            ],
        ),
        (
            3,
            ["4 synthetic defects were painted into held-out photos. It finds 100% of them, which compares "],
        ),
    ],
)
def test_the_share_of_synthetic_defects_found_is_told(
    workplace: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int, told: list[str]
) -> None:
    shutil.copy(workplace.run / "config.json", tmp_path)
    summary = dataclasses.replace(
        load_summary(workplace.run),
        calibration=calibrate(range(count)),
        highest=(),
        synthetic_scores=(6.0, 7.5, 8.0, 9.0),
    )
    save_summary(tmp_path, summary)
    say_run(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith(told[0]))
    for line, start in zip(lines[first:], told, strict=False):
        assert line.startswith(start)
    assert lines[first + len(told) - 1].endswith(
        "real defects are others: `rstpm-edge evaluate` measures on photos of them."
    )


def test_where_sessions_differ_no_rate_is_told_with_confidence(
    workplace: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(workplace.run / "config.json", tmp_path)
    rates = SessionRates(13, 3, True, 0.03, 0.09, 0.05, 0.001, 0.25)
    summary = dataclasses.replace(
        load_summary(workplace.run), calibration=calibrate(range(19)), highest=(), synthetic_scores=(), sessions=rates
    )
    save_summary(tmp_path, summary)
    say_run(tmp_path)
    said = capsys.readouterr().out
    assert "Of this one: with 95% confidence no rate is known, since sessions differ.\n" in said
    assert "      5%          18                 none   this training\n" in said


@pytest.mark.parametrize(
    ("highest", "alpha", "said"),
    [
        ([9.0, 4.0, 3.5], 0.2, True),
        ([9.0, 8.0, 3.5], 0.2, False),  # two of a kind
        ([4.6, 4.0, 3.5], 0.2, False),  # not so far out
        ([9.0, 4.0, 3.5], 0.3, False),  # the threshold is the next one's
    ],
)
def test_one_image_that_sets_the_threshold_is_named(
    workplace: Workplace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    highest: list[float],
    alpha: float,
    said: bool,
) -> None:
    shutil.copy(workplace.run / "config.json", tmp_path)
    summary = load_summary(workplace.run)
    scores = calibrate([*[1.0] * 5, *highest], alpha)
    named = tuple((f"{i}.png", score) for i, score in enumerate(highest))
    save_summary(tmp_path, dataclasses.replace(summary, calibration=scores, highest=named))
    say_run(tmp_path)
    told = "One image alone sets that threshold: 0.png scores 9, the next 4." in capsys.readouterr().out
    assert told == said


def test_exporting_says_how_well_it_agrees(workplace: Workplace) -> None:
    size = workplace.model.stat().st_size / 1e6
    output, errors = workplace.said("export")
    which, agrees = output.splitlines()
    assert which == f"Run: runs/{workplace.run.name}, the only one that is finished."
    assert agrees.startswith(f"model.onnx ({size:.1f} MB): agrees with PyTorch on 6 images; largest difference ")
    assert errors == ""


def test_nothing_else_is_written(workplace: Workplace) -> None:
    assert {path.name for path in workplace.folder.iterdir()} == {"runs", "model.onnx"}


def test_the_exported_model_judges_and_is_evaluated(
    workplace: Workplace, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace.folder)  # where model.onnx is found by itself
    monkeypatch.delenv("RSTPM_EDGE_MODEL", raising=False)
    image = sorted((parts / "test" / "good").iterdir())[0]
    judged = command_line("infer", image, "--json")
    assert judged.exit_code in (0, 1)
    line = json.loads(judged.stdout)
    assert line["score"] == pytest.approx(Detector(workplace.model)(image).score, rel=1e-5)
    assert judged.exit_code == int(line["is_anomalous"])

    evaluated = command_line("evaluate", parts, "--json", tmp_path / "f.json")
    assert evaluated.exit_code == 0
    found = document(tmp_path / "f.json")
    rows = {line.split()[0]: line.split()[1:] for line in evaluated.stdout.splitlines() if line.strip()}
    columns = rows["image_auroc"]
    assert columns == ["image_ap", "image_f1", "pixel_auroc", "pixel_ap", "aupro_30", "aupro_05"]
    for name in ("both", "stpm", "recon"):
        assert rows[name] == [f"{found[name][column]:.4f}" for column in ["image_auroc", *columns]]
    for name, metrics in found["maps"].items():
        assert rows[name] == [f"{metrics[column]:.4f}" for column in ["image_auroc", *columns]]
    assert rows["good"][:2] == ["4", str(found["verdicts"]["good"]["anomalous"])]
    of_kind = ("image_auroc", "pixel_auroc", "aupro_30")
    for kind, metrics in found["by_kind"].items():
        assert rows[kind][-3:] == [f"{metrics[column]:.4f}" for column in of_kind]
    recall = found["recall"]
    assert rows["all"][1:4] == [str(recall["images"]), str(recall["anomalous"]), f"{recall['rate']:.3f}"]

    facts = json.loads(command_line("info", "--json").stdout)
    assert facts["training"]["images"] == 9
    assert (facts["width"], facts["height"]) == (96, 64)


def test_a_run_may_be_named_and_the_newest_is_taken_otherwise(
    workplace: Workplace, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rstpm_edge.training.export import export
    from rstpm_edge.training.learning import run_folder as run

    asked: list[tuple[Path, Path, bool]] = []

    def record(folder: Path, output: Path, *, fused: bool, **keywords: Any) -> Any:
        asked.append((folder, output, fused))
        return export.ExportReport(workplace.model, 1, 0.0, 0.0, ("Add",), ("Erf",), ())

    monkeypatch.setattr(export, "export", record)
    monkeypatch.chdir(tmp_path)
    for age, name in ((30, "a"), (10, "c"), (20, "b")):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text("{}")
        os.utime(folder / "summary.json", (1e9 - age, 1e9 - age))
    (tmp_path / "runs" / "unfinished").mkdir()
    assert run.newest_run() == Path("runs/c")
    said = "Run: runs/c, the newest of 3 that are finished; name one to take another."
    result = command_line("export")
    assert result.stdout.splitlines()[0] == said
    assert "Not every TensorRT or OpenVINO takes these operators: Erf." in result.stdout
    assert "Run: " not in command_line("export", "runs/a", "-o", "other.onnx", "--fused").stdout
    for command in (["calibrate"], ["verify", parts, "--model", workplace.model]):
        assert command_line(*command).stdout.splitlines() == [said], command  # and then that it holds nothing
    assert asked == [
        (Path("runs/c"), Path("model.onnx"), False),
        (Path("runs/a"), Path("other.onnx"), True),
    ]


@pytest.mark.training
def test_two_runs_in_one_second_have_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rstpm_edge.training.learning.run_folder import new_run_folder

    monkeypatch.chdir(tmp_path)
    folders = set()
    for _ in range(3):
        folder = new_run_folder()
        assert folder.is_dir()  # so nobody else gets it
        folders.add(folder)
    assert len(folders) == 3
