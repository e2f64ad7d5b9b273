"""What is remembered of drift across restarts, and files that cannot be it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstpm_edge.calibration import calibrate
from rstpm_edge.drift import begin
from rstpm_edge.errors import OutputError, UsageError
from rstpm_edge.outputs.drift_file import load_drift, save_drift

MODEL = "5" * 64
FIRST = begin(calibrate(np.random.default_rng(0).standard_normal(30)), 0.01, light=20)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A state of one image."""
    save_drift(tmp_path / "drift.json", FIRST.update(1 / 31, 1 / 21), MODEL)
    return tmp_path / "drift.json"


def test_without_a_file_it_begins(tmp_path: Path) -> None:
    assert load_drift(tmp_path / "none.json", FIRST, MODEL) is FIRST


@given(st.lists(st.integers(1, 31), max_size=80), st.integers(0, 80))
@settings(max_examples=25, deadline=None)
def test_a_restart_changes_nothing(tmp_path_factory: pytest.TempPathFactory, cells: list[int], cut: int) -> None:
    path = tmp_path_factory.mktemp("restart") / "drift.json"
    straight = restarted = FIRST
    for number, cell in enumerate(cells):
        straight = straight.update(cell / 31, min(cell, 21) / 21)
        if number == cut:
            save_drift(path, restarted, MODEL)
            restarted = load_drift(path, FIRST, MODEL)
            assert restarted is not straight
        restarted = restarted.update(cell / 31, min(cell, 21) / 21)
    assert restarted == straight


@pytest.mark.parametrize(("p_value", "light", "cause"), [(12 / 31, 1 / 21, "light"), (12 / 31, 10 / 21, "scores")])
def test_an_alarm_is_kept(tmp_path: Path, p_value: float, light: float, cause: str) -> None:
    state = FIRST
    while state.drift == "stable":
        state = state.update(p_value if cause == "light" else 31 / 31, light)
        if cause == "light":
            state = state.update((31 - state.images % 29) / 31, light) if state.drift == "stable" else state
    assert state.cause == cause
    save_drift(tmp_path / "drift.json", state, MODEL)
    assert load_drift(tmp_path / "drift.json", FIRST, MODEL) == state


def test_one_from_before_light_was_watched(path: Path) -> None:
    """It goes on as it began: its promise had no room for a third bet."""
    known = json.loads(path.read_text())
    of_before = {name: value for name, value in known.items() if name not in ("cause", "light_counts", "light")}
    path.write_text(json.dumps(of_before | {"schema_version": 1}))
    state = load_drift(path, FIRST, MODEL)
    assert (state.images, state.light_counts, state.cause) == (1, (), None)
    assert state.update(1.0, 1 / 21).light_counts == ()
    save_drift(path, state, MODEL)
    assert load_drift(path, FIRST, MODEL) == state
    path.write_text(json.dumps(of_before | {"schema_version": 1, "drift": "scene changed", "alarm_at": 1}))
    assert load_drift(path, FIRST, MODEL).cause == "scores"
    path.write_text(json.dumps(of_before | {"schema_version": 1, "light": [0]}))
    with pytest.raises(UsageError, match="unknown field 'light'"):
        load_drift(path, FIRST, MODEL)


def test_of_another_model_or_rate(path: Path) -> None:
    with pytest.raises(UsageError, match=r"^The drift state .*drift.json is of another model: give another "):
        load_drift(path, FIRST, "6" * 64)
    with pytest.raises(UsageError, match=r"was begun with `drift=0.01`, not 0.2, .* give the same, or give another"):
        load_drift(path, begin(calibrate(range(30)), 0.2), MODEL)


CHANGES: dict[str, Any] = {
    "schema_version": [0, "1", None, True],
    "model_sha256": [None, 5],
    "false_alarm_rate": ["x", -1, 2, None],
    "tail": [0, 2, 10**9, None],
    "counts": [[], [0] * 30, [0] * 32, [-1] + [0] * 30, [0.5] + [0] * 30, None, "counts", [10**12] * 31],
    "scene": [[], [None] * 5, [0.0] * 4, [1e300, 0, 0, 0, 0], ["0"] * 5, None],
    "defects": [[], [None] * 4, [0.0] * 5, {}],
    "waited": [[1], [1, 2, 3], [-1, 0], "no"],
    "drift": ["fine", None, 1, "scene changed"],
    "alarm_at": [3, "3"],
    "cause": ["light", "scores", 1],
    "light_counts": [[0] * 20, [-1] + [0] * 20, None],
    "light": [[], [0.0] * 4, None],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in CHANGES.items() for value in values])
def test_a_damaged_field(name: str, value: Any, path: Path) -> None:
    known = json.loads(path.read_text())
    path.write_text(json.dumps(known | {name: value}))
    with pytest.raises(UsageError) as caught:
        load_drift(path, FIRST, MODEL)
    assert str(caught.value).startswith(f"The drift state {path} is ")
    assert str(caught.value).endswith("give another `drift_state`, or remove the file to begin anew.")


@pytest.mark.parametrize("name", CHANGES)
def test_a_field_that_is_missing(name: str, path: Path) -> None:
    known = json.loads(path.read_text())
    del known[name]
    path.write_text(json.dumps(known))
    with pytest.raises(UsageError, match="is damaged"):
        load_drift(path, FIRST, MODEL)


def test_a_field_that_nobody_knows(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"more": 1}))
    with pytest.raises(UsageError, match="unknown field 'more'"):
        load_drift(path, FIRST, MODEL)


def test_every_cut_is_noticed(path: Path) -> None:
    content = path.read_bytes().rstrip()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(UsageError, match="is damaged"):
            load_drift(path, FIRST, MODEL)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 100_000, b"[]", b"NaN", b'{"schema_version": ' + b"9" * 5000])
def test_what_is_no_state(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"^The drift state .* is damaged \(") as caught:
        load_drift(path, FIRST, MODEL)
    assert len(str(caught.value)) < len(str(path)) + 250


def test_a_newer_one(path: Path) -> None:
    path.write_text(json.dumps({"schema_version": 7, "needs": "3.1"}))
    with pytest.raises(UsageError, match=r"has schema version 7, .* it needs rstpm-edge ≥ 3.1\."):
        load_drift(path, FIRST, MODEL)


def test_places_that_hold_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b" " * 5_000_000)
    for name, why in (("pipe", "it is no file"), ("large", "it is larger than"), ("", "Is a directory")):
        with pytest.raises(UsageError, match=f"^Cannot read the drift state .*{why}"):
            load_drift(tmp_path / name, FIRST, MODEL)
    with pytest.raises(OutputError, match="Cannot write"):
        save_drift(tmp_path, FIRST, MODEL)
