"""A folder in which a user trained and exported, for the tests that need a real run or a real model."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from rstpm_edge.cli.main import main


@dataclass(frozen=True)
class Workplace:
    """What `fill_workplace` left."""

    root: Path

    @property
    def folder(self) -> Path:
        """The working directory of the user."""
        return self.root / "work"

    @property
    def run(self) -> Path:
        """The only run."""
        (folder,) = (self.folder / "runs").iterdir()
        return folder

    @property
    def model(self) -> Path:
        """The exported model."""
        return self.folder / "model.onnx"

    def said(self, command: str) -> tuple[str, str]:
        """Standard output and standard error of `train` or `export`."""
        output, errors = json.loads((self.root / f"{command}.json").read_text())
        return output, errors


def fill_workplace(root: Path, data: Path, options: Sequence[str]) -> None:
    """Run `rstpm-edge train DATA` and `rstpm-edge export` in a folder of their own, and keep what they print."""
    from small_training import short_stages  # which imports torch

    from rstpm_edge.training.learning.synthetic_scores import LEAST

    (root / "work").mkdir()
    with pytest.MonkeyPatch.context() as patch, short_stages(synthetic=LEAST):  # a user is told of as many
        patch.chdir(root / "work")
        for command, arguments in {"train": [data, *options], "export": []}.items():
            result = command_line(command, *arguments)
            assert result.exit_code == 0, result.stderr
            (root / f"{command}.json").write_text(json.dumps([result.stdout, result.stderr]))


def command_line(*arguments: object) -> Result:
    """Run `rstpm-edge` in this process; it may exit, but not raise."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def start(*arguments: object, **keywords: Any) -> subprocess.Popen[str]:
    """Start the installed `rstpm-edge` in a process of its own."""
    command = [str(Path(sys.executable).parent / "rstpm-edge"), *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, **{**pipes, **keywords})


@contextlib.contextmanager
def running(*arguments: object, **keywords: Any) -> Iterator[subprocess.Popen[str]]:
    """As `start`; the process is killed at the end of the block if it is still there."""
    with start(*arguments, **keywords) as process:
        try:
            yield process
        finally:
            process.kill()


def finish(process: subprocess.Popen[str], timeout: float = 240) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a process; it is killed when it takes too long."""
    try:
        output, errors = process.communicate(timeout=timeout)
    finally:
        process.kill()
        process.wait()
    return process.returncode, output, errors


def document(path: Path) -> dict[str, Any]:
    """The JSON object in a file."""
    content: dict[str, Any] = json.loads(path.read_text())
    return content
