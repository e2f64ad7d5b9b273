"""Arguments of the command line: never a traceback, and an exit code that the command has."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from bundles import make_bundle, write_model
from click.testing import CliRunner
from fuzz_folder import folder_of
from hypothesis import given
from hypothesis import strategies as st
from keys import make_pair

from rstpm_edge.cli.main import main
from rstpm_edge.errors import RstpmEdgeError

# What runs for real, of some cases: it ends soon, takes no torch, and reaches no camera, broker or network.
RUN = ("info", "audit-log", "sign", "keygen", "infer", "roi", "registry")
NEVER = {"--watch", "--mqtt", "--on-anomaly", "--engine-cache", "--serve", "--provider"}
EXIT_CODES = {0, 1, 2, 3, 4, 5}
FILES = (
    "model.onnx",
    "photo.png",
    "folder",
    "empty",
    "text.txt",
    "release.key",
    "release.pub",
    "missing",
    "missing/x",
    ".",
    "",
)
# Words for any option.
WORDS = (
    *(
        "0",
        "1",
        "-1",
        "5%",
        "0.05",
        "1e999",
        "nan",
        "inf",
        "-inf",
        "1e-320",
        "9" * 5000,
        "100%",
        "%",
        "0.5s",
        "10",
        "1,2,3,4",
    ),
    *(
        "0,0,8,8",
        "1,1,99999999999,1",
        "-1,0,1,1",
        "full",
        "none",
        "auto",
        "256",
        "256x512",
        "0x0",
        "²",
        "٣",
        "1_0",
        "0x10",
    ),
    *(
        "a=b",
        "=",
        "a=",
        "cpu",
        "cpu:",
        "cpu:a=b",
        "x:=",
        "resnet18=f",
        "fusion=paper",
        "auroc=1e999",
        "png",
        "npy",
        "folder",
    ),
    *(
        "(",
        "[",
        "(?P<a>",
        "é",
        "\x1b[2J",
        "a\nb",
        "\x7f",
        "‮",
        "\udcff",
        "a" * 3000,
        "--",
        "-",
        "--json",
        "mqtt://u:p@h/t",
    ),
    *(
        "${HOME}",
        "~",
        "/dev/null",
        "/proc/self/mem",
        "camera:0,size=0x0",
        "%s",
        "{path}",
        "`alpha`",
        " ",
        "\t",
        "1,",
        ",",
        "0,1,2",
    ),
)


@cache
def _folder() -> Path:
    folder = folder_of("arguments")
    write_model(folder / "model.onnx", make_bundle())
    photo = np.full((32, 40, 3), 127, np.uint8)
    (folder / "folder").mkdir()
    for name in ("photo.png", "folder/a.png", "folder/b.png"):
        cv2.imwrite(str(folder / name), photo)
    (folder / "empty").mkdir()
    (folder / "text.txt").write_text("text")
    make_pair(folder)
    return folder


@st.composite
def command_lines(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A command, and words after it: its own options for the most part."""
    name = draw(st.sampled_from(sorted(main.commands)))
    command, words = main.commands[name], []
    if isinstance(command, click.Group):
        words = [draw(st.sampled_from(sorted(command.commands)))]
        command = command.commands[words[0]]
    options = sorted(option for one in command.params if isinstance(one, click.Option) for option in one.opts)
    any_text = st.text(st.characters(exclude_characters="\0"), max_size=12)
    value = st.one_of(st.sampled_from(FILES), st.sampled_from(WORDS), any_text)
    for _ in range(draw(st.integers(0, 5))):
        kind = draw(st.integers(0, 5))
        option = draw(st.sampled_from(options))
        if kind <= 2:
            words += [option, draw(value)]
        elif kind == 3:
            words += [f"{option}={draw(value)}"]
        else:
            words += [option if kind == 4 else draw(value)]
    return name, words


@given(command_lines(), st.integers(0, 3))
def arguments(line: tuple[str, list[str]], way: int) -> None:
    name, words = line
    if way == 0 and name in RUN and _harmless(words):
        _check_run(name, words)
    else:
        _check_parsed(name, words)


def _harmless(words: list[str]) -> bool:
    """Nothing that waits or reaches out, no stream, camera or pipeline, and no place outside the folder."""
    places = [word.replace("missing/x", "") for word in words]
    reach_out = any(word.partition("=")[0] in NEVER or word.startswith("camera") or "!" in word for word in words)
    return not reach_out and not any("/" in word or "~" in word or ".." in word for word in places)


def _check_run(name: str, words: list[str]) -> None:
    with tempfile.TemporaryDirectory() as here:  # what one case leaves there is none of the next
        shutil.copytree(_folder(), here, dirs_exist_ok=True)
        before = os.getcwd()
        os.chdir(here)
        try:
            result = CliRunner(catch_exceptions=False).invoke(main, [name, *words], prog_name="rstpm-edge")
        finally:
            os.chdir(before)
    told = f"{name} {words}: exit code {result.exit_code}, {result.output!r}"
    assert result.exit_code in EXIT_CODES, told
    assert "Traceback" not in result.output, told
    if result.exit_code in (2, 5) and "Error: " not in result.output:
        raise AssertionError(told) from result.exception


def _check_parsed(name: str, words: list[str]) -> None:
    context, said = click.Context(main, info_name="rstpm-edge"), "parsed"
    try:
        with contextlib.redirect_stdout(None):
            main.commands[name].make_context(name, list(words), parent=context)
    except click.exceptions.Exit as ending:
        said = f"exit code {ending.exit_code}" if ending.exit_code else "help"
    except click.ClickException as error:
        said = error.format_message()
    except RstpmEdgeError as error:
        said = str(error)  # what was typed is repeated in it, and made printable when it is shown
    assert said.strip(), words
    assert not said.startswith("exit code"), said


def seeds() -> list[bytes]:
    """Any bytes: hypothesis makes words of them."""
    rng = np.random.default_rng(1)
    return [rng.bytes(length) for length in (40, 100, 200, 400) for _ in range(8)]


def check(data: bytes) -> Any:
    return arguments.hypothesis.fuzz_one_input(data) is not None  # type: ignore[attr-defined]
