"""The leaderboard: from folders of photos to tables. Trainings take no time, and a stub stands for anomalib."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import leaderboard_jobs
import numpy as np
import pytest
from bundles import make_bundle, write_model
from click.testing import Result
from layouts import mvtec, put_good
from leaderboard_contestants import Common, contestant
from leaderboard_stub import TINY, calls, rows_of, run
from leaderboard_table import BEGIN, END
from onnx import TensorProto
from quick_benchmark import Trainings
from workplace import document

from rstpm_edge.training.benchmark import run as benchmark

# What is computed, and what is not computed again


def test_one_command_from_photos_to_tables(board: Callable[..., Result], tmp_path: Path, trainings: Trainings) -> None:
    found = board("--method", "edge,padim")
    assert found.exit_code == 0, found.stderr
    mean = rows_of(found.stdout, "**Mean over 2 sets** (bottle, cable)")
    assert list(mean) == ["**edge**", "padim"] or list(mean) == ["edge", "padim"]
    assert mean["edge"][0] == "1.000 (1.00–1.00)"
    assert mean["padim"][:3] == ["1.000 (1.00–1.00)"] * 3
    assert mean["padim"][-3:] == ["–", "2.5", "1"]
    assert rows_of(found.stdout, "**Worst set**")["edge"][0] == "1.000 (bottle)"
    assert "**cable**: 6 photos to learn from; 2 good and 2 defective ones to test on" in found.stdout
    assert list(rows_of(found.stdout, "**What each pair does alone**")) == ["edge"]
    assert [call[:2] for call in calls(tmp_path / "board")] == [["padim", [64, 64]]] * 2
    assert len(trainings) == 2
    assert not list((tmp_path / "board" / "runs").iterdir())
    again = board("--method", "edge,padim")
    assert again.stdout == found.stdout
    assert again.stderr == ""
    assert len(trainings) == len(calls(tmp_path / "board")) == 2


def test_only_what_changed_runs_again(
    board: Callable[..., Result], sets: Path, tmp_path: Path, trainings: Trainings
) -> None:
    def trained(*arguments: object) -> list[tuple[str, int]]:
        before = len(trainings)
        found = board("--method", "edge,padim", *arguments)
        assert found.exit_code == 0, found.stderr
        return [(files[0].parents[2].name, seed) for _, seed, files in trainings[before:]]

    assert trained() == [("bottle", 0), ("cable", 0)]
    photo = sets / "cable" / "train" / "good" / "003.png"
    shutil.copy(photo, tmp_path / "before.png")
    put_good(tmp_path / "other.png").replace(photo)
    assert trained() == [("cable", 0)]
    assert len(calls(tmp_path / "board")) == 3
    shutil.copy(tmp_path / "before.png", photo)
    assert trained() == []  # as it was
    mask = sets / "bottle" / "ground_truth" / "spot" / "001_mask.png"
    drawn = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE)
    assert drawn is not None
    drawn[0, 0] = 255
    assert cv2.imwrite(str(mask), drawn)
    assert trained() == [("bottle", 0)]
    assert trained("--seeds", "0,1") == [("bottle", 1), ("cable", 1)]
    assert trained("--epochs", 2) == [("bottle", 0), ("cable", 0)]
    assert trained("--variant", "deep:mining_share=0.5") == [("bottle", 0), ("cable", 0)]
    assert trained("--variant", "renamed:mining_share=0.5") == []
    assert trained("--variant", "nothing:mining_share=0.1") == []  # the default's value
    assert trained("--variant", "few:max_images=5") == [("bottle", 0), ("cable", 0)]
    assert [len(files) for _, _, files in trainings[-2:]] == [5, 5]
    assert len(calls(tmp_path / "board")) == 3  # a mask is no matter of what anomalib learns


def test_after_an_interruption_it_goes_on(
    board: Callable[..., Result], trainings: Trainings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    export = benchmark.export

    def interrupted(run: Path, output: Path) -> None:
        if len(trainings) == 2:
            raise KeyboardInterrupt
        export(run, output)  # type: ignore[call-arg]

    monkeypatch.setattr(benchmark, "export", interrupted)
    assert board("--method", "edge").exit_code != 0
    assert len(list((tmp_path / "board" / "results").iterdir())) == 1
    monkeypatch.setattr(benchmark, "export", export)
    found = board("--method", "edge")
    assert found.exit_code == 0, found.stderr
    assert [files[0].parents[2].name for _, _, files in trainings] == ["bottle", "cable", "cable"]


def test_results_of_one_file_serve_a_fresh_machine(
    board: Callable[..., Result], tmp_path: Path, trainings: Trainings
) -> None:
    shown = tmp_path / "shown.json"
    first = board("--method", "edge,padim", "--results", shown)
    assert first.exit_code == 0, first.stderr
    content = document(shown)
    assert [(one["contestant"], one["set"]) for one in content["results"]] == [
        ("edge", "bottle"),
        ("edge", "cable"),
        ("padim", "bottle"),
        ("padim", "cable"),
    ]
    assert not any("scores" in one for one in content["results"])
    assert str(tmp_path) not in shown.read_text()
    fresh = board("--method", "edge,padim", "--results", shown, output="fresh")
    assert fresh.stdout == first.stdout
    assert len(trainings) == 2
    assert not calls(tmp_path / "fresh")
    # A new result takes the place of the one of its set, contestant and seed, and others stay.
    assert board("--method", "edge", "--epochs", 2, "--sets", "cable", "--results", shown).exit_code == 0
    after = document(shown)["results"]
    assert [one["options"].get("epochs") for one in after] == [1, 2, None, None]


def test_what_is_known_without_running_anything(
    board: Callable[..., Result], trainings: Trainings, tmp_path: Path
) -> None:
    nothing = board("--method", "edge", "--cached")
    assert nothing.stderr == "Error: There are no results yet: leave out --cached.\n"
    board("--method", "edge", "--sets", "bottle")
    found = board("--method", "edge,padim", "--cached")
    assert found.exit_code == 0, found.stderr
    assert rows_of(found.stdout, "**Mean over 2 sets**")["edge"][0] == "–"  # not of all sets
    assert rows_of(found.stdout, "**bottle**")["edge"][0] == "1.000 (1.00–1.00)"
    assert "**cable**" not in found.stdout
    assert len(trainings) == 1


def test_a_set_without_masks(board: Callable[..., Result], sets: Path) -> None:
    shutil.rmtree(sets / "cable" / "ground_truth")
    found = board("--method", "edge,padim")
    assert found.exit_code == 0, found.stderr
    assert rows_of(found.stdout, "**cable**")["padim"][3:] == ["–", "–"]
    only = rows_of(found.stdout, "**bottle**")["edge"][3].split()[0]
    assert rows_of(found.stdout, "**Mean over 2 sets**")["edge"][3].split()[0] == only


def test_quick_takes_few_photos_evenly_spread(tmp_path: Path, trainings: Trainings) -> None:
    root = mvtec(tmp_path / "sets", "bottle") / "bottle"
    for i in range(6, 150):
        shutil.copy(root / "train" / "good" / "000.png", root / "train" / "good" / f"{i:03}.png")
    for kind in ("good", "spot"):
        for i in range(2, 70):
            shutil.copy(root / "test" / kind / "000.png", root / "test" / kind / f"{i:03}.png")
    shutil.rmtree(root / "ground_truth")
    options = [tmp_path / "sets", "--output", tmp_path / "board", "--method", "edge", "--quick", *TINY]
    found = run(*options)
    assert found.exit_code == 0, found.stderr
    ((_, _, files),) = trainings
    numbers = [int(path.stem) for path in files]
    assert len(numbers) == 100
    assert (numbers[0], numbers[-1]) == (0, 149)
    assert set(np.diff(numbers)) == {1, 2}
    (result,) = (tmp_path / "board" / "results").iterdir()
    content = document(result)
    assert (content["good"], content["defective"], content["quick"]) == (60, 60, True)
    assert content["options"]["epochs"] == 1  # as --epochs says; else 15
    assert contestant("edge", {}, Common(epochs=15)).options.epochs == 15  # type: ignore[union-attr]


def test_the_table_goes_between_its_marks(board: Callable[..., Result], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Before\n\n{BEGIN}\nold\n{END}\n\nAfter\n")
    found = board("--method", "edge", "--write", page)
    assert found.exit_code == 0, found.stderr
    assert page.read_text() == f"# Before\n\n{BEGIN}\n\n{found.stdout.rstrip()}\n\n{END}\n\nAfter\n"
    page.write_text("# Before\n")
    assert "needs a line <!-- leaderboard -->" in board("--method", "edge", "--write", page).stderr
    assert "--write shows full results" in board("--method", "edge", "--write", page, "--quick").stderr


def test_how_alike_quick_and_full_results_rank(board: Callable[..., Result]) -> None:
    options = ["--method", "edge", "--variant", "a:mining_share=0.5", "--variant", "b:mining_share=0.6"]
    for mode in ([], ["--quick"]):
        assert board(*options, *mode).exit_code == 0
    found = board(*options, "--agree")
    assert found.exit_code == 0, found.stderr
    assert [line.split(" | ")[0] for line in found.stdout.splitlines()[2:]] == ["| edge", "| a", "| b", "| Kendall's τ"]
    few = board("--method", "edge", "--agree")
    assert few.stderr.startswith("Error: A rank agreement takes three contestants")


# Several at once, and their latencies


@pytest.mark.skipif(not hasattr(leaderboard_jobs.os, "sched_getaffinity"), reason="this system pins no process")
def test_processes_keep_to_their_own_cores(sets: Path, tmp_path: Path, venv: Path) -> None:
    arguments = [*TINY, "--processes", 2, "--method", "padim", "--sets", "bottle", "--peer-seeds", "0,9"]
    found = run(sets, "--output", tmp_path / "board", "--venv", venv, *arguments)
    mine = sorted(leaderboard_jobs.os.sched_getaffinity(0))
    shares = [mine[0::2], mine[1::2] or mine]
    ran = calls(tmp_path / "board")
    assert len(ran) == 2
    assert all(cores in shares and threads == str(len(cores)) for *_, threads, cores in ran)
    assert found.exit_code == 1  # what failed is told, and the other one is there
    assert found.stderr.splitlines()[-1].startswith(
        "Error: 1 of the results could not be had; bottle, padim, seed 9: bottle, padim, seed 9 could not be trained: "
        "no luck"
    )
    assert rows_of(found.stdout, "**bottle**")["padim"][0] == "1.000 (1.00–1.00)"


def test_latencies_are_taken_side_by_side(tmp_path: Path) -> None:
    models = {name: (tmp_path / f"{name}.onnx", name != "other") for name in ("edge", "wide", "other")}
    for file, is_ours in models.values():
        write_model(file, make_bundle(), input_type=TensorProto.UINT8 if is_ours else TensorProto.FLOAT)
    found = leaderboard_jobs.time_models(models, threads=1, rounds=2, calls=2)
    assert list(found) == ["edge", "wide", "other"]
    assert found["edge"].ratio == 1.0
    assert all(each.ms > 0 and each.ratio > 0 for each in found.values())


def test_latencies_are_kept_with_the_results(
    board: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def time_models(models: Any, *arguments: Any) -> Any:
        asked.append(list(models))
        return {name: leaderboard_jobs.Latency(10.0 * (i + 1), i + 1.0) for i, name in enumerate(models)}

    monkeypatch.setattr(leaderboard_jobs, "time_models", time_models)
    shown = tmp_path / "shown.json"
    options = ["--variant", "deep:mining_share=0.5", "--method", "edge", "--results", shown]
    found = board(*options, "--rounds", 1)
    assert asked == [["edge", "deep"]]
    mean = rows_of(found.stdout, "**Mean over 2 sets**")
    assert (mean["**edge**"][5], mean["deep"][5]) == ("1.00 (10.0)", "2.00 (20.0)")  # edge alone is on the front
    assert "2.00 (20.0)" in board(*options, output="fresh").stdout
    assert len(asked) == 1
