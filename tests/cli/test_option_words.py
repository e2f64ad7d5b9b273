"""The library's messages name its arguments, and the command line puts its options in their place."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest
from checkout import modules
from workplace import command_line

from rstpm_edge import Detector
from rstpm_edge.cli.main import main
from rstpm_edge.cli.terminal import as_typed, parameters
from rstpm_edge.errors import UsageError

ARGUMENT = re.compile(r"`(preset\.)?([a-z][a-z0-9_]*)(?:=[^`]*)?`")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")
COMMANDS = re.compile(r"`(?:rstpm-edge|v4l2-ctl|docker) [^`]*(?:`|$)")  # what is typed as it stands
# What `roi` draws is for its user.
OF_THE_COMMAND_LINE = {"rstpm_edge/outputs/roi_picture.py"}


def text(node: ast.expr) -> str:
    """A string, with 0 for what is put into it."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    parts = node.values if isinstance(node, ast.JoinedStr) else ()
    return "".join(text(part) if isinstance(part, ast.Constant) else "0" for part in parts)


def texts(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    inside -= {id(node) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)}
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
    for node in ast.walk(tree):
        if isinstance(node, (ast.Constant, ast.JoinedStr)) and id(node) not in inside | alone:
            yield text(node)


def library() -> list[Path]:
    found = {name: path for name, path in modules().items() if not name.startswith("rstpm_edge/cli/")}
    return [path for name, path in sorted(found.items()) if name not in OF_THE_COMMAND_LINE]


def test_the_library_names_options_in_commands_only() -> None:
    assert len(library()) > 100
    for path in library():
        for sentence in texts(path):
            assert not OPTION.search(COMMANDS.sub("", sentence)), f"{path.name}: {sentence}"


@pytest.mark.training
def test_every_argument_that_the_library_names_is_an_option() -> None:
    from rstpm_edge.training.model.presets import Preset

    options = {
        parameter.name
        for command in main.commands.values()
        for parameter in parameters(command)
        if isinstance(parameter, click.Option)
    }
    named = [found for path in library() for sentence in texts(path) for found in ARGUMENT.findall(sentence)]
    assert {name for field, name in named if field} <= {field.name for field in fields(Preset)}
    assert {name for field, name in named if not field} <= options | {*main.commands, "image"}  # a network's input
    assert len(named) > 30


@pytest.mark.parametrize(
    ("command", "message", "said"),
    [
        ("infer", "Take an `alpha` of at least 0.1.", "Take an --alpha of at least 0.1."),
        ("infer", "`allow_size_change` takes it.", "--allow-size-change takes it."),
        (
            "infer",
            "Give more, or `skip_unreadable`.",
            "Give more, or --skip-unreadable. (--skip-unreadable is an option of train.)",
        ),
        (
            "infer",
            "Try `device=cpu`.",
            "Try --device cpu. (--device is an option of train and benchmark.)",
        ),
        (
            "infer",
            "`preset.strides=4,8` is short.",
            "--set strides=4,8 is short. (--set is an option of train and benchmark.)",
        ),
        ("infer", "There is `nothing` of the kind.", "There is `nothing` of the kind."),
        ("infer", "`rstpm-edge train --alpha 0.3` is one.", "`rstpm-edge train --alpha 0.3` is one."),
    ],
)
def test_a_message_is_told_in_options(
    command: str, message: str, said: str, model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **keywords: object) -> None:
        raise UsageError(message)

    monkeypatch.setattr(Detector, "__init__", fail)
    assert command_line(command, photos, "--model", model).stderr == f"Error: {said}\n"


def test_outside_of_a_command_nothing_is_put_in_the_place_of_an_argument() -> None:
    assert as_typed("Take another `alpha`.") == "Take another `alpha`."


def test_an_image_that_cannot_be_judged_is_told_in_options(
    model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **keywords: object) -> None:
        raise UsageError("Take another `mask`.")

    monkeypatch.setattr(Detector, "__call__", fail)
    result = command_line("infer", photos, "--model", model, "--json")
    assert "Take another --mask." in result.stderr
    assert "Take another --mask." in result.stdout
