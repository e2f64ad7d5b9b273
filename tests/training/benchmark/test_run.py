"""Benchmarks: every category and seed once, whatever interrupts them."""

from __future__ import annotations

import os
import statistics
from pathlib import Path
from typing import Any

import onnx
import pytest
from layouts import MINIATURES, mvtec, put_good
from quick_benchmark import TINY, Trainings, plan_for
from small_training import files_of
from workplace import command_line, document

from rstpm_edge.errors import OutputError, RstpmEdgeError, TrainingError, UsageError
from rstpm_edge.progress import Progress
from rstpm_edge.training.benchmark import run as benchmark
from rstpm_edge.training.benchmark.results import (
    load_result,
)
from rstpm_edge.training.benchmark.run import chosen_images, run_benchmark
from rstpm_edge.training.data.datasets import load_categories
from rstpm_edge.training.learning.machine import Machine
from rstpm_edge.training.learning.run_config import load_config
from rstpm_edge.training.model.presets import EDGE, PAPER

CPU = Machine("cpu", precision="32-true")


def spy(monkeypatch: pytest.MonkeyPatch, name: str) -> list[Any]:
    """What `train` or `resume` of the benchmark is given first, call by call."""
    seen: list[Any] = []
    original = getattr(benchmark, name)

    def record(first: Any, *rest: Any, **words: Any) -> Any:
        seen.append(first)
        return original(first, *rest, **words)

    monkeypatch.setattr(benchmark, name, record)
    return seen


def test_a_benchmark_as_a_user_types_it(tmp_path: Path, quick_export: list[Path]) -> None:
    root, output = mvtec(tmp_path / "data", "bottle"), tmp_path / "out"
    arguments = ["benchmark", root, "--seeds", 2, "--output", output, "--set", "student2_widths=32,16,16", *TINY]
    arguments += ["--augment", "none"]
    first = command_line(*arguments)
    assert first.exit_code == 0, first.stderr
    assert "bottle, seed 0 (1 of 2)" in first.stderr
    assert "bottle, seed 1 (2 of 2)" in first.stderr
    found = [document(output / "results" / "bottle" / f"seed_{seed}.json") for seed in (0, 1)]
    assert files_of(output) == {  # what was needed on the way is gone
        "settings.json",
        "benchmark.json",
        "benchmark.md",
        "results/bottle/seed_0.json",
        "results/bottle/seed_1.json",
    }
    values = [result["evaluation"]["both"]["image_auroc"] for result in found]
    cell = f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"
    (line,) = [line for line in first.stdout.splitlines() if line.startswith("bottle")]
    assert line.split()[1:4] == cell.split()
    assert f"| bottle | {cell} |" in (output / "benchmark.md").read_text()
    written = document(output / "benchmark.json")
    assert written["categories"]["bottle"]["both"]["image_auroc"]["values"] == values
    assert written["settings"]["preset"]["student2_widths"] == [32, 16, 16]
    assert written["settings"]["preset"]["epochs"] == 1
    assert written["settings"]["preset"]["augmentation"] == "none"
    assert written["failures"] == []

    again = command_line(*arguments)
    assert again.exit_code == 0
    assert again.stdout == first.stdout
    assert again.stderr == ""  # nothing was left to do


@pytest.mark.parametrize("dataset", MINIATURES)
def test_every_layout_is_learned_from_its_good_training_images_alone(
    tmp_path: Path, dataset: str, quick_export: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = MINIATURES[dataset](tmp_path / "data")
    category = load_categories(root, dataset)[-1]
    learned = spy(monkeypatch, "train")
    plan = plan_for(root, dataset=dataset, keep=True)
    found = run_benchmark(plan, [category], tmp_path / "out", CPU)
    assert learned == [list(category.train)]
    assert not set(learned[0]) & {image.path for image in category.test}
    (result,) = found.results
    assert (result.images, result.test_images) == (len(category.train), len(category.test))
    assert result.split == category.split
    assert result.metric("both", "image_auroc") == 1  # the stand-in finds the spot, and masks are where it is
    assert result.metric("both", "pixel_auroc") > 0.9
    config = load_config(quick_export[0])
    assert {photo.name for photo in (*config.train, *config.holdout)} == {path.name for path in category.train}


@pytest.mark.slow
@pytest.mark.parametrize("dataset", MINIATURES)
def test_every_layout_to_the_end(tmp_path: Path, dataset: str) -> None:
    root, output = MINIATURES[dataset](tmp_path / "data"), tmp_path / "out"
    name = load_categories(root, dataset)[0].name
    options = ["--dataset", dataset, "--categories", name, "--seeds", "0,", "--output", output]
    result = command_line("benchmark", root, *options, *TINY)
    assert result.exit_code == 0, result.stderr
    found = load_result(output / "results" / name / "seed_0.json", name, 0)
    assert found
    assert set(found.evaluation["maps"]) == {f"{pair}_{s}" for pair in ("stpm", "recon") for s in EDGE.strides}
    assert found.metric("both", "pixel_auroc") is not None


@pytest.mark.slow
@pytest.mark.parametrize("teacher2", ["resnet50", "resnet34"])
def test_the_papers_preset_to_the_end(tmp_path: Path, teacher2: str) -> None:
    root, output = mvtec(tmp_path / "data", "bottle"), tmp_path / "out"
    weights = ["--weights", "resnet18=random", "--weights", f"{teacher2}=random"]
    changed = [] if teacher2 == PAPER.teacher2 else ["--set", f"teacher2={teacher2}", "--set", "attention=false"]
    options = ["--dataset", "mvtec", "--preset", "paper", *weights, *changed, "--seeds", "0,", "--output", output]
    result = command_line("benchmark", root, *options, *TINY, "--keep")
    assert result.exit_code == 0, result.stderr
    found = document(output / "results" / "bottle" / "seed_0.json")
    assert set(found["evaluation"]["maps"]) == {f"{pair}_{s}" for pair in ("stpm", "recon") for s in (4, 8, 16)}
    preset = load_config(output / "runs" / "bottle" / "seed_0").preset
    assert (preset.optimizer, preset.learning_rate, preset.fusion, preset.batch_size) == ("sgd", 0.4, "paper", 32)
    graph = onnx.load(output / "models" / "bottle" / "seed_0.onnx").graph
    assert any(node.op_type == "Sigmoid" for node in graph.node) == preset.attention


class Stop:
    """A report that stops the training, as Ctrl-C would, in its second epoch."""

    def __call__(self, progress: Progress) -> None:
        if progress.stage == "students" and progress.done == 2:  # one batch is an epoch here
            raise KeyboardInterrupt


def test_an_interrupted_benchmark_goes_on_in_the_middle_of_a_training(
    tmp_path: Path, quick_export: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, output = mvtec(tmp_path / "data"), tmp_path / "out"
    categories, plan = load_categories(root, "mvtec"), plan_for(root, epochs=3)
    run_benchmark(plan, categories[:1], output, CPU)
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(plan, categories, output, CPU, report=Stop())
    assert "runs/cable/seed_0/checkpoint.safetensors" in files_of(output)
    resumed = spy(monkeypatch, "resume")
    monkeypatch.setattr(benchmark, "train", None)  # nothing starts anew
    lines: list[str] = []
    found = run_benchmark(plan, categories, output, CPU, say=lines.append)
    assert resumed == [output / "runs" / "cable" / "seed_0"]
    assert lines == ["cable, seed 0 (2 of 2)"]
    assert [(result.category, result.epochs) for result in found.results] == [("bottle", 3), ("cable", 3)]
    assert not (output / "runs").exists()
    assert not (output / "models").exists()


@pytest.mark.parametrize("spoil", ["config", "checkpoint", "images"])
def test_a_training_that_cannot_go_on_starts_anew(
    tmp_path: Path, quick_export: list[Path], monkeypatch: pytest.MonkeyPatch, spoil: str
) -> None:
    root, output = mvtec(tmp_path / "data", "bottle"), tmp_path / "out"
    (category,), plan = load_categories(root, "mvtec"), plan_for(root, epochs=2)
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(plan, [category], output, CPU, report=Stop())
    run = output / "runs" / "bottle" / "seed_0"
    if spoil in ("config", "checkpoint"):
        path = run / {"config": "config.json", "checkpoint": "checkpoint.safetensors"}[spoil]
        path.write_bytes(path.read_bytes()[:50])
    else:
        put_good(root / "bottle" / "train" / "good" / "another.png")
        (category,) = load_categories(root, "mvtec")
    started = spy(monkeypatch, "train")
    (result,) = run_benchmark(plan, [category], output, CPU).results
    assert len(started) == 1
    assert (result.epochs, result.images) == (2, len(category.train))


def test_more_seeds_and_categories_train_only_what_is_new(tmp_path: Path, trainings: Trainings) -> None:
    root, output = mvtec(tmp_path / "data"), tmp_path / "out"
    categories = load_categories(root, "mvtec")
    run_benchmark(plan_for(root), categories[:1], output)
    lines: list[str] = []
    found = run_benchmark(plan_for(root, seeds=(0, 4)), categories, output, say=lines.append)
    assert lines == ["cable, seed 0 (2 of 4)", "bottle, seed 4 (3 of 4)", "cable, seed 4 (4 of 4)"]
    assert [(result.category, result.seed) for result in found.results] == [
        ("bottle", 0),
        ("bottle", 4),
        ("cable", 0),
        ("cable", 4),
    ]
    assert [seed for _, seed, _ in trainings] == [0, 0, 4, 4]


def test_tables_are_there_after_each_result(tmp_path: Path, trainings: Trainings) -> None:
    root, output = mvtec(tmp_path / "data"), tmp_path / "out"
    counts = []

    def say(line: str) -> None:
        path = output / "benchmark.json"
        counts.append(len(document(path)["categories"]) if path.exists() else 0)

    run_benchmark(plan_for(root), load_categories(root, "mvtec"), output, say=say)
    assert counts == [0, 1]
    assert len(document(output / "benchmark.json")["categories"]) == 2


def test_what_is_left_out_is_told(tmp_path: Path, trainings: Trainings) -> None:
    root, said = mvtec(tmp_path / "data", "bottle"), list[str]()
    good = root / "bottle" / "train" / "good"
    (good / "notes.txt").touch()
    run_benchmark(plan_for(root), load_categories(root, "mvtec"), tmp_path / "out", say=said.append)
    taken = len(list(good.iterdir())) - 1
    assert said[0] == f"Took {taken} of {taken + 1} files in {good}: left out 1 no image (notes.txt)."


def test_kept_runs_and_models(tmp_path: Path, trainings: Trainings) -> None:
    root, output = mvtec(tmp_path / "data", "bottle"), tmp_path / "out"
    run_benchmark(plan_for(root, keep=True), load_categories(root, "mvtec"), output)
    assert {"runs/bottle/seed_0/summary.json", "models/bottle/seed_0.onnx"} <= files_of(output)


def test_reports_of_each_result(tmp_path: Path, trainings: Trainings) -> None:
    root, output = MINIATURES["visa"](tmp_path / "data"), tmp_path / "out"
    plan = plan_for(root, dataset="visa", reports=True)
    run_benchmark(plan, load_categories(root, "visa"), output)
    for name in ("candle", "pcb1"):
        page = (output / "reports" / name / "seed_0.html").read_text()
        assert f"{name}" in page
        assert "Data/Images/Anomaly/000.JPG" in page
    said: list[str] = []
    page = output / "reports" / "pcb1" / "seed_0.html"
    page.unlink()
    run_benchmark(plan, load_categories(root, "visa"), output, say=said.append)
    result = output / "results" / "pcb1" / "seed_0.json"
    assert said == [f"pcb1, seed 0 was finished without {page}: remove {result} to have it done again."]


@pytest.mark.parametrize(
    "reason",
    [
        TrainingError("The loss is not finite in epoch 2."),
        UsageError("There are too many photos for this limit."),
    ],
)
def test_a_training_that_fails_does_not_stop_the_others(
    tmp_path: Path, trainings: Trainings, monkeypatch: pytest.MonkeyPatch, reason: RstpmEdgeError
) -> None:
    root, output = mvtec(tmp_path / "data"), tmp_path / "out"
    quick = benchmark.train

    def train(files: list[Path], *rest: Any, folder: Path, **words: Any) -> Path:
        if "bottle" in folder.parts:
            raise reason
        return quick(files, *rest, folder=folder, **words)  # type: ignore[no-any-return]

    monkeypatch.setattr(benchmark, "train", train)
    result = command_line("benchmark", root, "--seeds", "0,", "--output", output, *TINY)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == f"Error: 1 training failed; bottle, seed 0: {reason}"
    assert "mean of 1" in result.stdout
    assert [failure["category"] for failure in document(output / "benchmark.json")["failures"]] == ["bottle"]
    monkeypatch.setattr(benchmark, "train", quick)
    assert command_line("benchmark", root, "--seeds", "0,", "--output", output, *TINY).exit_code == 0


def test_a_machine_that_is_not_there_is_told_before_the_work(tmp_path: Path, trainings: Trainings) -> None:
    root = mvtec(tmp_path / "data", "bottle")
    with pytest.raises(UsageError, match="Cannot train on 'gpu'"):
        run_benchmark(plan_for(root), load_categories(root, "mvtec"), tmp_path / "out", Machine("gpu"))
    with pytest.raises(UsageError, match=r"^A benchmark trains in one process, not in 2: leave out `processes`\.$"):
        run_benchmark(plan_for(root), load_categories(root, "mvtec"), tmp_path / "out", Machine("cpu", processes=2))
    assert not (tmp_path / "out").exists()


def test_a_name_that_is_no_text(tmp_path: Path, trainings: Trainings) -> None:
    name = os.fsdecode(b"geh\xe4use")
    root, output = mvtec(tmp_path / "data", "bottle"), tmp_path / "out"
    (root / "bottle").rename(root / name)
    run_benchmark(plan_for(root), load_categories(root, "mvtec"), output)
    assert "| geh\\xe4use | " in (output / "benchmark.md").read_text()
    assert list(document(output / "benchmark.json")["categories"]) == [name]


def test_a_full_disk_stops_everything(tmp_path: Path, trainings: Trainings, monkeypatch: pytest.MonkeyPatch) -> None:
    root = mvtec(tmp_path / "data")

    def full(*arguments: Any, **words: Any) -> None:
        raise OutputError("Cannot write x: No space left on device.")

    monkeypatch.setattr(benchmark, "export", full)
    with pytest.raises(OutputError):
        run_benchmark(plan_for(root), load_categories(root, "mvtec"), tmp_path / "out")
    assert len(trainings) == 1


def test_few_images_are_picked_by_the_seed_and_nested(tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.png" for i in range(50)]
    few, more = chosen_images(files, 10, 0), chosen_images(files, 30, 0)
    assert (len(few), len(more)) == (10, 30)
    assert set(few) < set(more) < set(files)
    assert few == sorted(few, key=files.index)
    assert chosen_images(files, 10, 0) == few
    assert chosen_images(files, 10, 1) != few
    assert chosen_images(files, None, 0) == chosen_images(files, 50, 0) == chosen_images(files, 99, 0) == files


def test_a_benchmark_on_few_images(tmp_path: Path, trainings: Trainings) -> None:
    root = mvtec(tmp_path / "data", "bottle")
    for i in range(100, 120):
        put_good(root / "bottle" / "train" / "good" / f"{i}.png")
    (category,) = load_categories(root, "mvtec")
    found = run_benchmark(plan_for(root, max_images=5, seeds=(0, 1)), [category], tmp_path / "out")
    assert [result.images for result in found.results] == [5, 5]
    picked = [files for _, _, files in trainings]
    assert picked == [chosen_images(category.train, 5, seed) for seed in (0, 1)]
    assert picked[0] != picked[1]
