"""Settings of a benchmark: those that cannot work, and those of an output that was begun with others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from layouts import mvtec
from quick_benchmark import TINY, Trainings, plan_for
from small_training import files_of
from workplace import command_line, document

from rstpm_edge.errors import TrainingError, UsageError, WeightsError
from rstpm_edge.folder_lock import one_writer
from rstpm_edge.training.benchmark import run as benchmark
from rstpm_edge.training.benchmark.plan import BenchmarkPlan
from rstpm_edge.training.benchmark.run import run_benchmark
from rstpm_edge.training.data.datasets import load_categories
from rstpm_edge.training.model.preset_overrides import override
from rstpm_edge.training.model.presets import EDGE


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is damaged ("),
        ("[]", "is damaged ("),
        ("{}", "is damaged ("),
        ({"evaluation": {}}, "is damaged ('both')"),
        ({"minutes": "long"}, "is damaged ("),
        ({"images": 0}, "is damaged (its minutes or images are no numbers)"),
        ({"seed": 1}, "is damaged (it is that of bottle, seed 1)"),
        ({"both": {"image_auroc": 1.5}}, "is damaged (a figure is not between 0 and 1)"),
        ({"both": {"surprise": 1.0}}, "is damaged ("),
    ],
)
def test_a_damaged_result_is_named_before_any_work(
    tmp_path: Path, trainings: Trainings, content: Any, says: str
) -> None:
    root, output = mvtec(tmp_path / "data"), tmp_path / "out"
    categories = load_categories(root, "mvtec")
    run_benchmark(plan_for(root), categories[:1], output)
    path = output / "results" / "bottle" / "seed_0.json"
    if isinstance(content, dict):
        whole = document(path)
        whole["evaluation"]["both"].update(content.pop("both", {}))
        content = json.dumps({**whole, **content})
    path.write_text(content)
    with pytest.raises(TrainingError) as error:
        run_benchmark(plan_for(root), categories, output)
    assert str(error.value).startswith(f"The result {path} {says}")
    assert str(error.value).endswith("delete it, and the next benchmark trains that one again.")
    assert len(trainings) == 1
    path.unlink()
    assert len(run_benchmark(plan_for(root), categories, output).results) == 2


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"epochs": 2}, "preset.epochs 1 there, 2 here"),
        ({"augment": "rotate"}, "preset.augmentation auto there, rotate here"),
        ({"size": (64, 96)}, "width 64 there, 96 here"),
        ({"max_images": 5}, "max_images None there, 5 here"),
        ({"dataset": "folder"}, "dataset mvtec there, folder here"),
        ({"weights": {"tf_efficientnet_lite0": "random"}}, "weights.tf_efficientnet_lite0 not set there, random here"),
        (
            {"preset": override(EDGE, {"mining_share": "1"})},
            "preset.name edge there, edge (mining_share=1) here; preset.mining_share 0.1 there, 1.0 here",
        ),
    ],
)
def test_a_folder_of_other_settings(tmp_path: Path, trainings: Trainings, changes: dict[str, Any], says: str) -> None:
    root, output = mvtec(tmp_path / "data", "bottle"), tmp_path / "out"
    categories = load_categories(root, "mvtec")
    run_benchmark(plan_for(root), categories, output)
    with pytest.raises(UsageError) as error:
        run_benchmark(plan_for(root, **changes), categories, output)
    assert str(error.value) == f"{output} belongs to other settings ({says}); give another `output`."
    assert len(trainings) == 1


def test_a_folder_from_before_augmentation_had_one_name(tmp_path: Path, trainings: Trainings) -> None:
    root, output = mvtec(tmp_path / "data", "bottle"), tmp_path / "out"
    categories = load_categories(root, "mvtec")
    shifted = plan_for(root, augment="shift")
    run_benchmark(shifted, categories, output)
    settings = document(output / "settings.json")
    assert settings["preset"].pop("augmentation") == "shift"
    settings["preset"] |= {"shift_augmentation": 6, "rotation_augmentation": True}
    (output / "settings.json").write_text(json.dumps(settings))
    assert len(run_benchmark(shifted, categories, output).results) == len(trainings) == 1
    settings["preset"]["shift_augmentation"] = 0
    (output / "settings.json").write_text(json.dumps(settings))
    with pytest.raises(UsageError, match=r"other settings \(preset\.augmentation none there, shift here\)"):
        run_benchmark(shifted, categories, output)


def test_one_command_at_a_time_writes_to_a_folder(tmp_path: Path, trainings: Trainings) -> None:
    root, output = mvtec(tmp_path / "data", "bottle"), tmp_path / "out"
    categories = load_categories(root, "mvtec")
    output.mkdir()
    with (
        one_writer(output),
        pytest.raises(UsageError, match=r"writing to .*out: wait for its end, or give another `output`\.$"),
    ):
        run_benchmark(plan_for(root), categories, output)
    assert trainings == []
    assert len(run_benchmark(plan_for(root), categories, output).results) == 1


@pytest.mark.parametrize("content", [None, "", "\udcff"])
def test_a_folder_whose_settings_are_lost(tmp_path: Path, trainings: Trainings, content: str | None) -> None:
    root, output = mvtec(tmp_path / "data", "bottle"), tmp_path / "out"
    categories = load_categories(root, "mvtec")
    run_benchmark(plan_for(root), categories, output)
    settings = output / "settings.json"
    settings.unlink()
    if content is not None:
        settings.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(
        UsageError, match=r"has results, but .*settings\.json cannot tell of what \(.*\); give another `output`\.$"
    ):
        run_benchmark(plan_for(root), categories, output)


def test_weights_are_told_apart_by_what_they_hold(tmp_path: Path, trainings: Trainings) -> None:
    root, output = mvtec(tmp_path / "data", "bottle"), tmp_path / "out"
    categories = load_categories(root, "mvtec")
    first, moved = tmp_path / "first.pth", tmp_path / "moved.pth"
    first.write_bytes(b"1")

    def weights(path: Path) -> BenchmarkPlan:
        return plan_for(root, weights={EDGE.teacher1: str(path)})

    run_benchmark(weights(first), categories, output)
    shutil.copy(first, moved)
    run_benchmark(weights(moved), categories, output)
    moved.write_bytes(b"2")
    with pytest.raises(UsageError, match=r"weights\.tf_efficientnet_lite0 .* there, .* here"):
        run_benchmark(weights(moved), categories, output)
    with pytest.raises(WeightsError, match="Cannot read the weights"):
        run_benchmark(weights(tmp_path / "none.pth"), categories, output)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--seeds", "x"], "--seeds is a number of seeds, or the seeds with commas between them, not 'x'."),
        (["--seeds", "-1"], "--seeds is a number of seeds"),
        (["--seeds", "0,,1"], "--seeds is a number of seeds"),
        (["--seeds", ""], "--seeds is a number of seeds"),
        (["--seeds", "0"], "--seeds must be from 1 to 1000, not 0; a seed alone is written 0,"),
        (["--seeds", "1,1"], "--seeds are different numbers, at least one."),
        (["--seeds", f"{1 << 64},"], "--seed must lie between"),
        (["--max-images", "4"], "--max-images must be at least 5, not 4."),
        (["--max-minutes", "0"], "--max-minutes must be positive"),
        (["--epochs", "0"], "--epochs must be at least 1"),
        (["--size", "100"], "The input size 100x100 does not work"),
        (["--set", "fusion=sum"], "--set fusion takes one of normalized, paper"),
        (["--weights", "resnet18=random"], "--weights names resnet18, but the teachers are"),
        (["--preset", "best"], "There is no preset 'best'"),
        (["--categories", "teapot"], "{root} has no category teapot; it has bottle, cable."),
        (["--device", "abacus"], "Cannot train on 'abacus'"),
        (["--weights", "tf_efficientnet_lite0=none.pth"], "Cannot read the weights none.pth"),
    ],
)
def test_wrong_options(tmp_path: Path, options: list[str], says: str) -> None:
    root = mvtec(tmp_path / "data")
    result = command_line("benchmark", root, "--output", tmp_path / "out", "--size", 64, *options)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith(f"Error: {says.format(root=root)}")
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out" / "results").exists()


def test_an_output_that_is_a_file(tmp_path: Path) -> None:
    root = mvtec(tmp_path / "data")
    (tmp_path / "out").write_text("")
    result = command_line("benchmark", root, "--output", tmp_path / "out", "--size", 64)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: Cannot create the folder {tmp_path / 'out'}: ")


def test_settings_without_results_bind_nobody(tmp_path: Path, trainings: Trainings) -> None:
    root, output = mvtec(tmp_path / "data", "bottle"), tmp_path / "out"

    def interrupted(*arguments: Any, **words: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_benchmark(plan_for(root, epochs=2), load_categories(root, "mvtec"), output)
    assert files_of(output) == {"settings.json"}
    assert command_line("benchmark", root, "--output", output, *TINY).exit_code == 0
