"""What a message advises can be done where it is printed: with options of that command, in words that it takes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from checkout import modules
from click.testing import CliRunner
from workplace import command_line

from rstpm_edge.cli.main import main

OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")
# Options of others' programs that messages name.
FOREIGN = {"--list-formats-ext", "--no-index", "--find-links"}
# Which commands print what stands in a module, or in those of a folder: one that is not here is printed by any command.
PRINTED_BY = {
    "rstpm_edge/cli/audit.py": {"audit"},
    "rstpm_edge/cli/bench.py": {"bench"},
    "rstpm_edge/cli/benchmark.py": {"benchmark"},
    "rstpm_edge/cli/calibrate.py": {"calibrate"},
    "rstpm_edge/cli/demo.py": {"demo"},
    "rstpm_edge/cli/evaluate.py": {"evaluate"},
    "rstpm_edge/cli/export.py": {"export"},
    "rstpm_edge/cli/fleet_plan.py": {"fleet plan"},
    "rstpm_edge/cli/fleet_score.py": {"fleet score"},
    "rstpm_edge/cli/infer/": {"infer"},
    "rstpm_edge/cli/info/": {"info"},
    "rstpm_edge/cli/line/": {"infer", "serve"},
    "rstpm_edge/cli/roi.py": {"roi"},
    "rstpm_edge/cli/serve/": {"serve"},
    "rstpm_edge/cli/train.py": {"train"},
    "rstpm_edge/cli/verify.py": {"verify"},
    "rstpm_edge/outputs/command.py": {"infer", "serve"},
    "rstpm_edge/outputs/csv_file.py": {"infer", "serve"},
    "rstpm_edge/outputs/mqtt.py": {"infer", "serve"},
    "rstpm_edge/sources/watched_folder.py": {"infer", "serve"},
}


def options_of(command: click.Command) -> set[str]:
    return {name for option in command.params for name in (*option.opts, *option.secondary_opts)}


def commands(group: click.Group, above: str = "") -> Iterator[tuple[str, click.Command]]:
    """Each with its name as it is typed, those of groups within groups, too."""
    for name, command in group.commands.items():
        yield above + name, command
        if isinstance(command, click.Group):
            yield from commands(command, f"{above}{name} ")


OPTIONS = {name: options_of(command) for name, command in commands(main)}


def raised_texts(path: Path) -> Iterator[tuple[int, str]]:
    """The texts of errors that a module raises, and of what it says or reports; what stands in braces is left out."""
    for node in ast.walk(ast.parse(path.read_text())):
        called = node.exc if isinstance(node, ast.Raise) else node
        if not isinstance(called, ast.Call):
            continue
        name = ast.unparse(called.func)
        if name.endswith("Error") or name.split(".")[-1] in {"say", "say_note", "say_error", "_report", "report"}:
            for argument in called.args:
                parts = [part.value for part in ast.walk(argument) if isinstance(part, ast.Constant)]
                yield called.lineno, " ".join(part for part in parts if isinstance(part, str))


def advice() -> list[Any]:
    found = []
    for name, path in sorted(modules().items()):
        found += [pytest.param(name, text, id=f"{name}:{line}") for line, text in raised_texts(path)]
    return [one for one in found if OPTION.search(one.values[1])]


def test_the_modules_of_single_commands_are_there() -> None:
    names = list(modules())
    assert [module for module in PRINTED_BY if not any(name.startswith(module) for name in names)] == []


@pytest.mark.parametrize(("module", "text"), advice())
def test_every_option_in_a_message_is_one(module: str, text: str) -> None:
    """Of each command that prints it, where those are known; of a command that it names; at least of some."""
    named = {name for name in OPTIONS if re.search(rf"rstpm-edge {name}\b|`{name}`", text)}
    printed_by = next((by for path, by in PRINTED_BY.items() if module.startswith(path)), set())
    if printed_by and not named:
        known = set.intersection(*(OPTIONS[name] for name in printed_by))
    else:
        known = set().union(*(OPTIONS[name] for name in named or OPTIONS))
    assert set(OPTION.findall(text)) - FOREIGN <= known, text


@pytest.mark.parametrize("command", ["infer", pytest.param("evaluate", marks=pytest.mark.training)])
def test_a_rate_that_is_too_low_names_no_option_of_training(command: str, model: Path, tmp_path: Path) -> None:
    from labelled import write_labelled

    data = write_labelled(tmp_path / "data", {"good": 2, "spot": 2})
    result = command_line(command, data, "--model", model, "--alpha", "0.0001")
    assert result.exit_code == 2
    assert "A false-reject rate of 0.0001 needs at least 9999 held-out good images" in result.stderr
    assert set(OPTION.findall(result.stderr)) <= OPTIONS[command]


@pytest.mark.parametrize(
    ("command", "message", "more"),
    [
        ("infer", "Give more, or --skip-unreadable.", " (--skip-unreadable is an option of train.)"),
        ("infer", "Take another --roi.", ""),
        ("infer", "`rstpm-edge train --holdout 0.3` holds out more.", ""),
        ("infer", "See v4l2-ctl --list-formats-ext.", ""),
        ("bench", "Give --seed.", " (--seed is an option of train and demo.)"),
    ],
)
def test_options_of_others_are_told_apart(
    command: str, message: str, more: str, model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rstpm_edge import pipeline
    from rstpm_edge.errors import UsageError

    def fail(*arguments: object, **keywords: object) -> None:
        raise UsageError(message)

    monkeypatch.setattr(pipeline, "open_session", fail)
    assert command_line(command, photos, "--model", model).stderr == f"Error: {message}{more}\n"


# Words


def test_percent_in_infer(model: Path, photos: Path) -> None:
    for text in ("5%", "0.05"):
        result = command_line("infer", photos, "--model", model, "--alpha", text)
        assert "threshold 0.95" in result.stdout


@pytest.mark.parametrize("provider", ["gpu", "GPU", "CUDA", "cuda", "nvidia"])
def test_a_gpu_that_is_not_there_is_told_in_our_words(model: Path, photos: Path, provider: str) -> None:
    from rstpm_edge.engine.providers import available_providers

    if "cuda" in available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    result = command_line("infer", photos, "--model", model, "--provider", provider)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "cuda" in result.stderr.lower()
    assert "ExecutionProvider" not in result.stderr


@pytest.mark.training
@pytest.mark.parametrize("device", ["gpu", "mps", "0", "CUDA:0", "abacus", "", "tpu"])
def test_devices_are_told_in_our_words(device: str) -> None:
    from rstpm_edge.errors import UsageError
    from rstpm_edge.training.learning.machine import _checked_device

    with pytest.raises(UsageError, match=r"the device is one of auto, cpu, cuda\.") as error:
        _checked_device(device)
    assert ("An NVIDIA GPU is called cuda." in str(error.value)) is (device in ("gpu", "mps", "0", "tpu"))


@pytest.mark.training
def test_a_device_in_capitals() -> None:
    from rstpm_edge.training.learning.machine import _checked_device

    assert _checked_device("CPU") == "cpu"


# `info MODEL`


def test_info_takes_the_model_as_it_comes(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    by_name, by_option = command_line("info", model), command_line("info", "--model", model)
    assert by_name.exit_code == 0
    assert by_name.stdout == by_option.stdout
    assert command_line("info", model, "--model", model).exit_code == 0
    other = command_line("info", model, "--model", "other.onnx")
    assert other.exit_code == 2
    assert other.stderr == f"Error: Give one model: {model} or --model other.onnx.\n"
    monkeypatch.setenv("RSTPM_EDGE_MODEL", "other.onnx")
    assert command_line("info", model).exit_code == 0  # what is typed comes first
    assert "[MODEL]" in CliRunner().invoke(main, ["info", "--help"]).output
