"""Wrong use of the commands that train, export and evaluate: one sentence each; and their help."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import Result
from workplace import Workplace, command_line

from rstpm_edge.cli.main import main

COMMANDS = ("audit", "train", "calibrate", "export", "evaluate", "benchmark", "demo")


def without_progress(errors: str) -> list[str]:
    """The lines of standard error, but for those that tell of progress."""
    return [
        line for line in errors.splitlines() if not re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (Size|\w+: .*%)", line)
    ]


def sentence(result: Result) -> str:
    """What a mistake gets: exit code 2, and one line on standard error, below those of the progress."""
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = without_progress(result.stderr)
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("Error: ")
    assert "Traceback" not in result.stderr
    return lines[0].removeprefix("Error: ")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example(command: str) -> None:
    result = command_line(command, "--help")
    assert result.exit_code == 0
    assert f"rstpm-edge {command}" in result.stdout.split("Example")[1]
    assert command in main.commands  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--weights", "foo"], "--weights takes NAME=FILE, such as resnet18=resnet18.pth, not 'foo'."),
        (["--weights", "=foo"], "--weights takes NAME=FILE"),
        (["--weights", "foo="], "--weights takes NAME=FILE"),
        (["--weights", "foo=bar"], "--weights names foo, but the teachers are"),
        (["--weights", "tf_efficientnet_lite0=none.pth"], "Cannot read the weights"),
        (["--size", "abc"], "--size is auto, a number of pixels, or HEIGHTxWIDTH, such as 256 or 256x512, not 'abc'."),
        (["--size", "64x64x64"], "--size is auto, a number of pixels, or HEIGHTxWIDTH"),
        (["--size", ""], "--size is auto, a number of pixels, or HEIGHTxWIDTH"),
        (["--size", "-64"], "--size is auto, a number of pixels, or HEIGHTxWIDTH"),
        (["--size", "²"], "--size is auto, a number of pixels, or HEIGHTxWIDTH"),
        (["--size", "100"], "The input size 100x100 does not work"),
        (["--set", "smoothing_sigma=300"], "--set smoothing_sigma is 0, or from 0.01 to 64 pixels, not 300."),
        (["--epochs", "0"], "--epochs must be at least 1"),
        (["--holdout", "1"], "--holdout is a share between 0 and 1"),
        (["--alpha", "0.001"], "A false-reject rate of 0.001 needs at least 999 held-out good images"),
        (["--seed", "-1"], "--seed must lie between"),
        (["--max-minutes", "-1"], "--max-minutes must be positive"),
        (["--preset", "best"], "There is no preset 'best'; choose one of edge, edge-small, paper."),
        (["--teacher1", "resnet81"], "There is no backbone named 'resnet81': did you mean "),
        (["--teacher1", "tf_efficientnet_lite1"], "Both teachers are tf_efficientnet_lite1"),
        (["--device", "abacus"], "Cannot train on 'abacus'"),
        (["--precision", "7-bit"], "--precision is one of auto, 32-true, bf16-mixed, 16-mixed, not '7-bit'."),
        (["--processes", "0"], "--processes must be at least 1, not 0."),
        (["--resume", "runs/x"], "Give either DATA or --resume RUN: a run knows its data."),
    ],
)
def test_wrong_options_of_train(parts: Path, options: list[str], says: str) -> None:
    assert sentence(command_line("train", parts, "--device", "cpu", *options)).startswith(says)
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("command", ["train", "audit", "infer", "info", "evaluate"])
def test_a_kernel_that_there_is_not(command: str, parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSTPM_EDGE_KERNEL", "abacus")
    result = command_line(command, *([] if command == "info" else [parts]))
    assert result.exit_code == 2
    assert sentence(result).startswith("unknown kernel 'abacus' (from the environment variable RSTPM_EDGE_KERNEL)")


@pytest.mark.training
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train"], "Give DATA, a folder of good images, or --resume RUN."),
        (["train", "missing"], "missing is missing; give a folder of images."),
        (["train", "."], ". holds 0 image(s)"),
        (["train", "--resume", "missing"], "The run missing is not there: name the folder of a run"),
        (
            [
                "train",
                "--resume",
                "missing",
                "--alpha",
                "0.05",
                "--epochs",
                "9",
                "--set",
                "segmentation_head=false",
                "--device",
                "cpu",
            ],
            "A run that is resumed goes on as it began: leave out --set, --epochs, --alpha.",
        ),
        (["export"], "There is no finished run in ./runs: run `rstpm-edge train DATA` first, or name a RUN."),
        (["export", "missing"], "The run missing is not there: name the folder of a run"),
        (["evaluate", "missing"], "missing is missing; give a folder of images."),
        (["evaluate", "."], ". has no test folder"),
    ],
)
def test_mistakes(arguments: list[str], says: str) -> None:
    result = command_line(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith(f"Error: {says}")


@pytest.mark.parametrize(
    "arguments",
    [["train", "--epochs", "x"], ["train", "--resize", "crop"], ["train", "--augment", "turn"], ["evaluate"]],
)
def test_what_click_itself_refuses(arguments: list[str]) -> None:
    result = command_line(*arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr.splitlines()[-1]


@pytest.mark.training
def test_unreadable_images_are_one_error_or_a_line_each(tmp_path: Path) -> None:
    from small_training import short_stages

    for i in range(6):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((70, 70, 3), 30 * i, np.uint8))
    for name in ("1.png", "3.png"):
        (tmp_path / name).write_bytes(b"")
    said = sentence(command_line("train", tmp_path, "--size", 64, "--device", "cpu"))
    assert said.startswith("2 of 6 images cannot be read; mend or remove them, or give --skip-unreadable:")
    assert "1.png" in said
    assert "3.png" in said
    result = command_line("train", tmp_path, "--size", 64, "--device", "cpu", "--skip-unreadable")
    assert result.exit_code == 2
    assert without_progress(result.stderr) == ["Error: Only 4 images can be read; training needs at least 5."]
    cv2.imwrite(str(tmp_path / "1.png"), np.full((70, 70, 3), 99, np.uint8))
    with short_stages():
        result = command_line("train", tmp_path, "--size", 64, "--device", "cpu", "--skip-unreadable", "--epochs", 1)
    assert result.exit_code == 0
    (skipped,) = (line for line in result.stderr.splitlines() if "Skipped: " in line)
    assert skipped.split(" ", 2)[2].startswith(f"Skipped: Cannot read {tmp_path / '3.png'}")


WITHOUT_TRAINING = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in {"torch", "onnx", "sklearn", "timm", "lightning_fabric", "safetensors"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from rstpm_edge.cli.main import main
main()
"""


@pytest.mark.parametrize(
    "command",
    [["audit", "x"], ["train", "x"], ["calibrate"], ["export"], ["evaluate", "x"], ["benchmark", "x"], ["demo"]],
)
def test_without_the_packages_for_training(command: list[str]) -> None:
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_TRAINING, *command], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("Error: This command needs packages for training (")
    assert result.stderr.endswith("or pip install 'FILE.whl[train]' with the wheel's name\n")


def test_a_json_file_that_cannot_be_written(workplace: Workplace, parts: Path) -> None:
    result = command_line("evaluate", parts, "--model", workplace.model, "--json", "missing/f.json")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("Error: Cannot write missing/f.json: there is no folder missing.")
