"""Some hundreds of cases of each fuzz target, the same ones each time; `make fuzz` goes on from there."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import fuzz_arguments
import fuzz_arrays
import fuzz_targets
import pytest
from hypothesis import HealthCheck, settings

from rstpm_edge.cli.main import main

HERE = Path(__file__).parent
EXAMPLES = settings(
    max_examples=120, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize(
    ("name", "cases"),
    [("images", 400), ("metadata", 500), ("onnx", 100), pytest.param("documents", 250, marks=pytest.mark.extra)],
)
def test_cases_near_right_ones(name: str, cases: int) -> None:
    target = fuzz_targets.target(name)
    for case in itertools.islice(fuzz_targets.mutations(target.seeds(), seed=1), cases):
        target.check(case)


def test_arrays() -> None:
    EXAMPLES(fuzz_arrays.arrays)()


@pytest.mark.extra
def test_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    for command in main.commands.values():  # what click and the command line keep for the rest of the process
        monkeypatch.setattr(command, "_help_option", None, raising=False)
    monkeypatch.setenv("OPENCV_LOG_LEVEL", "OFF")
    monkeypatch.setenv("OPENCV_FFMPEG_LOGLEVEL", "-8")
    EXAMPLES(fuzz_arguments.arguments)()


def test_a_case_is_the_same_again() -> None:
    """Or no file that broke something would break it again."""
    seeds = [b"one", b"another"]
    first, again, other = (list(itertools.islice(fuzz_targets.mutations(seeds, seed), 50)) for seed in (1, 1, 2))
    assert first == again != other
    assert len(set(first)) > 40


@pytest.mark.parametrize("spoiled", ["a crash", "a warning", "a sentence of two lines", "no sentence"])
def test_a_target_notices(spoiled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a target lets pass, no number of cases finds."""
    target = fuzz_targets.target("metadata")

    def parse(document: str) -> object:
        if spoiled == "a crash":
            raise KeyError("strides")
        if spoiled == "a warning":
            warnings.warn("careful", RuntimeWarning, stacklevel=1)
        raise target.ModelError({"a sentence of two lines": "one\ntwo", "no sentence": ""}.get(spoiled, "a sentence"))

    monkeypatch.setattr(target, "parse_bundle", parse)
    with pytest.raises((AssertionError, KeyError, RuntimeWarning)):
        target.check(target.seeds()[0])


STUB = """
import sys, time, types
import fuzz_child, fuzz_targets

def check(case):
    if case == b"waits":
        time.sleep(1)
    while case == b"computes":
        pass
    return True

fuzz_child.MOST_SECONDS = 0.3
fuzz_targets.target = lambda name: types.SimpleNamespace(check=check)
sys.argv = ["fuzz_child.py", "stub", "--input", sys.argv[1]]
fuzz_child.main()
"""


@pytest.mark.parametrize(("case", "code"), [("waits", 0), ("computes", -signal.SIGABRT)])
def test_a_case_has_so_many_seconds_of_the_processor(case: str, code: int, tmp_path: Path) -> None:
    """Not of the clock: on a busy machine any case may take long."""
    (tmp_path / "case").write_text(case)
    command = [sys.executable, "-c", STUB, tmp_path / "case"]
    ended = subprocess.run(command, capture_output=True, check=False, env={**os.environ, "PYTHONPATH": str(HERE)})
    assert ended.returncode == code, ended.stderr
