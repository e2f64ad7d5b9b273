"""The tools that compare benchmarks: ablations, curves, and the front of accuracy and latency."""

from __future__ import annotations

import dataclasses
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT
from click.testing import CliRunner
from layouts import mvtec
from quick_benchmark import TINY, Trainings, export_in_no_time, plan_for, train_in_no_time
from workplace import document

from rstpm_edge.training.benchmark.run import run_comparison
from rstpm_edge.training.data.datasets import load_categories
from rstpm_edge.training.learning.options import TrainingOptions, check_options
from rstpm_edge.training.model.preset_overrides import override
from rstpm_edge.training.model.presets import EDGE, EDGE_SMALL

TOOLS = ROOT / "tools"


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    export_in_no_time(monkeypatch)
    return train_in_no_time(monkeypatch)


@pytest.fixture
def tool(trainings: Trainings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.syspath_prepend(TOOLS)  # as for a script

    def run(name: str, *arguments: object) -> Any:
        main = runpy.run_path(str(TOOLS / f"{name}.py"))["main"]
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    return run


def rows_of(table: str) -> dict[str, list[str]]:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    return {line[0]: line[1:] for line in lines}


def test_an_ablation(tmp_path: Path, tool: Callable[..., Any], trainings: Trainings) -> None:
    root, output = mvtec(tmp_path / "data", "bottle"), tmp_path / "out"
    arguments = [root, "--only", "default,no-attention", "--seeds", 2, "--output", output, *TINY]
    first = tool("ablation", *arguments)
    assert first.exit_code == 0, first.stderr
    rows = rows_of(first.stdout)
    assert list(rows) == ["variant", "---", "default", "no-attention"]
    assert rows["variant"][0] == "image AUROC, both"
    assert len(rows["default"]) == 9
    assert rows["default"][0] == "1.000 ± 0.000"
    assert first.stdout == (output / "comparison.md").read_text()
    attention = [document(output / name / "settings.json")["preset"]["attention"] for name in list(rows)[2:]]
    assert attention == [True, False]
    assert len(trainings) == 4
    assert tool("ablation", *arguments).stdout == first.stdout
    assert len(trainings) == 4
    refused = tool("ablation", root, "--only", "magic", "--output", output)
    assert refused.exit_code == 1
    assert "There is no variant magic; choose from default," in refused.stderr


def test_a_curve_over_few_images(tmp_path: Path, tool: Callable[..., Any], trainings: Trainings) -> None:
    root, output = mvtec(tmp_path / "data", "bottle"), tmp_path / "out"
    found = tool("few_images", root, "--counts", "5,6,300", "--seeds", "0,", "--output", output, *TINY)
    assert found.exit_code == 0, found.stderr
    assert list(rows_of(found.stdout)) == ["images", "---", "5", "6"]  # there are no more than 6
    assert [len(files) for _, _, files in trainings] == [5, 6]
    assert "Error: --counts are numbers" in tool("few_images", root, "--counts", "5,x").stderr
    assert "Error: --max-images must be at least 5" in tool("few_images", root, "--counts", "1", *TINY).stderr


def test_a_curve_over_minutes(tmp_path: Path, tool: Callable[..., Any], trainings: Trainings) -> None:
    root, output = mvtec(tmp_path / "data", "bottle"), tmp_path / "out"
    options = ["--size", 64, "--seeds", "0,", "--output", output]
    found = tool("learning_curve", root, "--minutes", "0.5,2", *options)
    assert found.exit_code == 0, found.stderr
    assert list(rows_of(found.stdout)) == ["minutes", "---", "0.5", "2"]
    settings = [document(output / name / "settings.json") for name in ("0.5", "2")]
    assert [one["max_minutes"] for one in settings] == [0.5, 2.0]
    assert {one["preset"]["epochs"] for one in settings} == {100_000}
    assert "Error: --minutes are numbers" in tool("learning_curve", root, "--minutes", "1,x").stderr


def test_a_comparison_is_written_as_it_grows(tmp_path: Path, trainings: Trainings) -> None:
    root, output = mvtec(tmp_path / "data", "bottle"), tmp_path / "out"
    plans = {name: plan_for(root, epochs=epochs) for epochs, name in enumerate(("one", "two"), 1)}
    lengths = []

    def say(line: str) -> None:
        path = output / "comparison.md"
        lengths.append(len(path.read_text().splitlines()) if path.exists() else 0)

    found = run_comparison("epochs", plans, load_categories(root, "mvtec"), output, say=say)
    assert list(found) == ["one", "two"]
    assert lengths == [0, 0, 3, 3]
    assert dataclasses.asdict(found["one"].results[0])["epochs"] == 1
    assert len((output / "comparison.md").read_text().splitlines()) == 4


# The front


def test_a_front(tmp_path: Path, tool: Callable[..., Any], trainings: Trainings) -> None:
    root, output = mvtec(tmp_path / "data", "bottle"), tmp_path / "out"
    arguments = [root, "--only", "default,size-192", "--seeds", 2, "--rounds", 2, "--output", output, *TINY]
    found = tool("front", *arguments)
    assert found.exit_code == 0, found.stderr
    table = found.stdout.split("\n\n")[-1]
    assert table == (output / "front.md").read_text()
    rows = rows_of(table)
    assert list(rows)[:2] == ["design", "---"]
    assert set(list(rows)[2:]) == {"default", "size-192"}
    assert rows["default"][0] == "1.000 ± 0.000"
    assert "yes" in {row[-1] for row in rows.values()}
    settings = [document(output / name / "settings.json") for name in ("default", "size-192")]
    assert [(one["height"], one["width"]) for one in settings] == [(64, 64), (192, 192)]
    assert len(trainings) == 4
    assert tool("front", *arguments).exit_code == 0
    assert len(trainings) == 4  # timed anew, not trained
    odd = tool("front", root, "--only", "default,edge-small", "--output", tmp_path / "odd", *TINY, "--size", 96)
    assert "96x96 does not work: height and width must be multiples of 64" in odd.stderr
    assert len(trainings) == 4  # and none of the designs before it
    assert "There is no design magic; choose from default," in tool("front", root, "--only", "magic").stderr


@pytest.fixture
def front(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(TOOLS)
    return runpy.run_path(str(TOOLS / "front.py"))


def test_who_is_on_the_front(front: dict[str, Any]) -> None:
    def row(auroc: float, milliseconds: float) -> Any:
        return front["Row"]("", {"image_auroc": (auroc, "")}, milliseconds, milliseconds)

    rows = [row(0.9, 5), row(0.95, 10), row(0.94, 11), row(0.95, 12), row(0.99, 30), row(0.9, 5)]
    assert [front["on_front"](one, rows) for one in rows] == [True, True, False, False, True, True]


def test_every_design_differs_from_the_default_and_can_be_built(front: dict[str, Any]) -> None:
    for name, (size, fields) in front["DESIGNS"].items():
        preset = override(EDGE, fields)
        check_options(TrainingOptions(preset=preset, size=(size or 256,) * 2))
        assert (preset != EDGE or size is not None) == (name != "default")
        if name == EDGE_SMALL.name:
            assert dataclasses.replace(preset, name=name) == EDGE_SMALL
