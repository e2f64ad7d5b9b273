"""Errors that nobody foresaw: a code of their own, never that of a verdict, and one sentence."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT
from click.testing import CliRunner
from workplace import command_line

from rstpm_edge import pipeline, unexpected
from rstpm_edge.cli.main import main
from rstpm_edge.detector import Detector
from rstpm_edge.outputs.command import OnAnomaly


def deep() -> None:
    deep()


def fail_with(error: BaseException) -> Any:
    def fail(*arguments: object, **keywords: object) -> None:
        raise error

    return fail


@pytest.fixture
def run(model: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("RSTPM_EDGE_MODEL", str(model))
    monkeypatch.delenv(unexpected.VARIABLE, raising=False)
    return command_line


ERRORS = [
    (ValueError("a\nb\x1b[2K"), "Something went wrong that should not (ValueError: a b\\x1b[2K)."),
    (KeyError("x"), "Something went wrong that should not (KeyError: 'x')."),
    (AssertionError(), "Something went wrong that should not (AssertionError)."),
    (MemoryError(), "Memory or open files ran out (MemoryError)"),
    (OSError(errno.EMFILE, "Too many open files"), "Memory or open files ran out (OSError: [Errno 24] Too many"),
    (RuntimeError("can't start new thread"), "Something went wrong that should not (RuntimeError"),
    (ImportError("libGL.so.1: cannot open"), "The installation is damaged (ImportError: libGL.so.1: cannot open)"),
    (ValueError("rtsp://u:secret@h"), "Something went wrong that should not (ValueError: rtsp://u:***@h)."),
]


@pytest.mark.parametrize(("error", "message"), ERRORS)
@pytest.mark.parametrize("command", ["infer", "info", "bench"])
def test_one_sentence_and_a_code_of_its_own(
    run: Any, photos: Path, monkeypatch: pytest.MonkeyPatch, command: str, error: Exception, message: str
) -> None:
    monkeypatch.setattr(pipeline, "open_session", fail_with(error))
    result = run(command, *([photos] if command == "infer" else []))
    assert result.exit_code == 70
    assert result.stderr.startswith(f"Error: {message}")
    assert result.stderr.count("\n") == 1
    assert "RSTPM_EDGE_TRACEBACK=1" in result.stderr


def test_it_is_not_the_code_of_an_anomalous_image(run: Any, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one that was found before it hide it."""
    call, calls = Detector.__call__, iter(range(9))

    def fail_later(self: Detector, image: Any) -> Any:
        if next(calls) == 1:
            deep()
        return call(self, image)

    monkeypatch.setattr(Detector, "__call__", fail_later)
    result = run("infer", photos / "sub" / "2.jpg", photos)
    assert result.stdout.startswith("ANOMALOUS")
    assert result.exit_code == 70
    assert "RecursionError" in result.stderr


def test_a_traceback_for_who_asks_for_it(run: Any, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Detector, "__init__", fail_with(ValueError("rtsp://u:secret@h\x1b[2K")))
    for value, expected in (("1", True), ("0", False), ("", False)):
        monkeypatch.setenv(unexpected.VARIABLE, value)
        result = run("infer", photos)
        assert result.exit_code == 70
        assert ("Traceback (most recent call last)" in result.stderr) is expected
        assert ("in fail_with" in result.stderr or "in fail" in result.stderr) is expected
        assert "secret" not in result.stderr
        assert "\x1b" not in result.stderr


# Threads


def test_an_error_in_any_thread_ends_the_command(run: Any, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Detector.__call__

    def beside(self: Detector, image: Any) -> Any:
        thread = threading.Thread(target=fail_with(ValueError("beside")))
        thread.start()
        thread.join()
        return call(self, image)

    monkeypatch.setattr(Detector, "__call__", beside)
    before = threading.excepthook
    result = run("infer", photos)
    assert result.exit_code == 70
    assert "(ValueError: beside)" in result.stderr
    assert result.stderr.count("\n") == 1
    assert len(result.stdout.splitlines()) == 1  # no further image is judged without its reactions
    assert threading.excepthook is before
    monkeypatch.setattr(Detector, "__call__", call)
    assert run("infer", photos).exit_code == 1  # of the next command it is no concern


@pytest.mark.parametrize("wait", [False, True])
def test_an_error_while_a_command_is_run_blocks_nobody(monkeypatch: pytest.MonkeyPatch, wait: bool) -> None:
    monkeypatch.setattr(OnAnomaly, "_run", fail_with(ValueError("ours")))
    told = 0

    def tell_many() -> None:
        nonlocal told
        with OnAnomaly("true", wait=wait, report=lambda sentence: None) as command:
            for _ in range(1000):
                command.tell({"path": "x", "verdict": "anomalous"})
                told += 1

    with pytest.raises(ValueError, match="ours"):
        tell_many()


def test_an_error_while_a_command_is_run_ends_the_inspection(
    run: Any, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OnAnomaly, "_run", fail_with(ValueError("ours")))
    result = run("infer", photos, "--on-anomaly", "true")
    assert result.exit_code == 70
    assert "(ValueError: ours)" in result.stderr


def test_an_error_in_the_thread_that_grabs(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    from rstpm_edge.sources import live

    class Camera:
        def __init__(self, *arguments: object) -> None: ...

        def release(self) -> None: ...

    for error, code in ((MemoryError("no room"), 70), (TypeError("x"), 70), (OSError("gone"), 3), (cv2.error("x"), 3)):
        monkeypatch.setattr(live, "open_capture", Camera)
        monkeypatch.setattr(live, "_grabbed", fail_with(error))
        result = run("infer", "camera:0")
        assert result.exit_code == code
        assert result.stderr.count("\n") == 1


# The program


def program(*arguments: object, code: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """`python -m rstpm_edge` after `code` in a process of its own."""
    start = (
        f"import sys, runpy\nsys.argv[0] = 'rstpm-edge'\n{code}\nrunpy.run_module('rstpm_edge', run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", start, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **variables},
    )


BROKEN = """
import importlib.abc
class Broken(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {name!r}:
            {statement}
sys.meta_path.insert(0, Broken())
"""


@pytest.mark.parametrize("name", ["click", "cv2", "onnxruntime", "numpy", "rstpm_edge._native", "rstpm_edge.cli.main"])
@pytest.mark.parametrize(
    "statement",
    ["raise ImportError('lib.so: cannot open shared object file')", "raise ValueError('built for another')"],
)
def test_a_broken_installation(model: Path, photos: Path, name: str, statement: str) -> None:
    result = program("infer", photos, "--model", model, code=BROKEN.format(name=name, statement=statement))
    assert result.returncode == 70, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("change", ["_native.INTERFACE = 0", "del _native.INTERFACE"])
def test_an_extension_that_is_not_of_this_package(photos: Path, change: str) -> None:
    """As after a pull without a build: `_native` lacks what is called, or takes other arguments."""
    code = f"from rstpm_edge import _native\n{change}"
    result = program("infer", photos, "--model", "model.onnx", code=code)
    assert result.returncode == 70
    assert result.stderr == (
        "Error: The C++ extension of rstpm_edge was built from other sources than the package: run `make build`, or "
        "install rstpm-edge again. Set RSTPM_EDGE_TRACEBACK=1 to see where.\n"
    )


def test_python_m_is_the_program(model: Path, photos: Path) -> None:
    assert program("--version").stdout.startswith("rstpm-edge, version ")
    assert program("infer", photos, "--model", model).returncode == 1
    assert program("infer", photos / "1.png", "--model", model).returncode == 0
    wrong = program("infer")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("Usage: rstpm-edge infer ")


def test_errors_at_the_very_end(model: Path, photos: Path) -> None:
    """A finaliser that fails changes no verdict, and prints no traceback; one that nobody caught is none."""
    code = "class X:\n    def __del__(self): raise ValueError('late')\nsys.x = X()"
    result = program("infer", photos / "1.png", "--model", model, code=code)
    assert (result.returncode, result.stderr) == (0, "")
    code = "import atexit\natexit.register(lambda: 1 / 0)"
    result = program("infer", photos, "--model", model, code=code)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    code = "from rstpm_edge.cli import main\nmain.main = lambda **k: 1 / 0"
    result = program("infer", code=code)
    assert result.returncode == 70
    assert result.stderr.startswith("Error: Something went wrong that should not (ZeroDivisionError")
    assert "Traceback" not in result.stderr


def test_the_unit_restarts_on_it() -> None:
    unit = (ROOT / "examples" / "rstpm-edge.service").read_text()
    settings = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and not line.startswith("#"))
    assert settings["Restart"] == "always"
    assert "70" not in settings["RestartPreventExitStatus"].split()
    assert "70" not in settings["SuccessExitStatus"].split()


def test_the_codes_are_documented() -> None:
    for text in (
        (ROOT / "README.md").read_text(),
        (ROOT / "docs" / "line.md").read_text(),
        CliRunner().invoke(main, ["--help"]).output,
        CliRunner().invoke(main, ["infer", "--help"]).output,
    ):
        assert re.search(r"\b70\b", text)
    assert unexpected.UNEXPECTED == os.EX_SOFTWARE == 70
