"""`rstpm-edge infer --watch --journal`, and `rstpm-edge journal`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from forked import in_child
from numpy.typing import NDArray
from watcher import encoded

from rstpm_edge import Detector
from rstpm_edge.outputs.journal import Journal
from rstpm_edge.sources import watched_folder


@pytest.fixture
def incoming(tmp_path: Path, good: NDArray[np.uint8], bad: NDArray[np.uint8]) -> Path:
    folder = tmp_path / "incoming"
    folder.mkdir()
    (folder / "1.png").write_bytes(encoded(good))
    (folder / "2.png").write_bytes(encoded(bad))
    return folder


@pytest.fixture
def watch(run: Any, incoming: Path, tmp_path: Path) -> Any:
    def watch(limit: int, *options: object) -> Result:
        result: Result = run(
            "infer", incoming, "--watch", "--json", "--limit", limit, "--journal", tmp_path / "journal", *options
        )
        return result

    return watch


def judged(result: Result) -> list[str]:
    return [Path(json.loads(line)["path"]).name for line in result.stdout.splitlines()]


def test_each_file_is_judged_once_whenever_it_came(
    run: Any, watch: Any, incoming: Path, tmp_path: Path, bad: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched_folder, "GIVEN_UP", 0.3)
    assert judged(watch(2)) == ["1.png", "2.png"]  # they were there before
    (incoming / "3.png").write_bytes(encoded(bad))  # while nobody watches
    (incoming / "damaged.png").write_bytes(encoded(bad)[:60])
    (incoming / "1.png").rename(incoming / "moved.png")
    os.truncate(incoming / "2.png", 0)
    (incoming / "2.png").write_bytes(encoded(255 - bad))  # another part of that name
    assert judged(watch(3)) == ["2.png", "3.png", "damaged.png"]
    (incoming / "4.png").write_bytes(encoded(bad))
    assert judged(watch(1)) == ["4.png"]  # a file that failed is not tried again
    entries = [json.loads(line) for line in run("journal", tmp_path / "journal", "--json").stdout.splitlines()]
    names = [Path(entry["path"]).name for entry in entries]
    assert names == ["1.png", "2.png", "2.png", "3.png", "damaged.png", "4.png"]
    assert all(entry["told"] for entry in entries)
    lines = run("journal", tmp_path / "journal").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        "normal",
        "ANOMALOUS",
        "ANOMALOUS",
        "ANOMALOUS",
        "failed",
        "ANOMALOUS",
    ]


def test_a_device_that_fails_is_no_verdict_on_a_file(watch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("CUDA failure 999")

    with monkeypatch.context() as patch:
        patch.setattr("rstpm_edge.engine.no_telemetry.onnxruntime.InferenceSession.run", fail)
        result = watch(2)
    assert result.exit_code == 3
    assert [line.count("CUDA failure 999") for line in result.stdout.splitlines()] == [1, 1]
    assert judged(watch(2)) == ["1.png", "2.png"]


def test_a_file_at_which_process_after_process_dies(watch: Any, incoming: Path, model: Path, tmp_path: Path) -> None:
    (incoming / "2.png").unlink()

    def die() -> None:
        def kill(*arguments: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        Detector.__call__ = kill  # type: ignore[assignment, method-assign]
        watch(1)

    for _ in range(3):
        assert in_child(die) == -signal.SIGKILL
    (line,) = [json.loads(line) for line in watch(1).stdout.splitlines()]
    assert line["error"] == (
        f"Cannot judge {incoming / '1.png'}: 3 processes in a row ended while they did; it is not tried again."
    )
    (incoming / "3.png").write_bytes((incoming / "1.png").read_bytes())
    assert judged(watch(1)) == ["3.png"]


def test_what_was_not_told_is_named_at_the_next_start(
    run: Any, watch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise BrokenPipeError

    with monkeypatch.context() as patch:
        patch.setattr("rstpm_edge.cli.infer.inspection.say_json", broken)
        patch.setattr("rstpm_edge.cli.main.discard_stdout", lambda: None)
        assert watch(2).exit_code == 141
    result = watch(1)
    assert judged(result) == ["2.png"]
    assert result.stderr.startswith(
        f"The last run ended before it had told of 1 verdict, which the journal has: `rstpm-edge journal "
        f"{tmp_path / 'journal'} --untold`.\n"
    )
    assert run("journal", tmp_path / "journal", "--untold").stdout.endswith("/1.png\n")


@pytest.mark.parametrize(
    "change",
    [
        "fields = '{'",
        "fields = '[]'",
        "fields = '{}'",
        'fields = \'{"verdict": "failed"}\'',
        'fields = replace(fields, \'"score":\', \'"score":"high","other":\')',
        'fields = replace(fields, \'"score":\', \'"score":1e999,"other":\')',
        'fields = replace(fields, \'"score":\', \'"score":NaN,"other":\')',
        "fields = x'00ff'",
        "judged = 'yesterday'",
    ],
)
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_one_that_was_edited_by_hand(
    run: Any, watch: Any, incoming: Path, bad: NDArray[np.uint8], tmp_path: Path, change: str, options: list[str]
) -> None:
    (incoming / "1.png").write_bytes(encoded(bad))
    watch(1)
    journal = tmp_path / "journal"
    with contextlib.closing(sqlite3.connect(journal)) as database, database:
        database.execute(f"UPDATE verdict SET {change}")
    result = run("journal", journal, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"Error: The journal {journal} is damaged (row 1 of its verdicts is none that")
    assert result.stderr.count("\n") == 1


def test_wrong_use(run: Any, watch: Any, photos: Path, incoming: Path, tmp_path: Path) -> None:
    for arguments, sentence in (
        ([photos, "--journal", tmp_path / "j"], "--journal goes with --watch only: it keeps what was judged in a"),
        ([incoming, "--watch", "--journal-days", 3], "--journal-days goes with --journal FILE only."),
        ([incoming, "--watch", "--journal", incoming / "j"], "The journal must not lie in the folder"),
        ([incoming, "--watch", "--journal", tmp_path / "j.png"], "--journal does not write a picture"),
        ([incoming, "--watch", "--journal", tmp_path / "j", "--csv", tmp_path / "j"], "--csv and --journal must be"),
        ([incoming, "--watch", "--journal", incoming.parent], "it is no file."),
    ):
        result = run("infer", *arguments)
        assert result.exit_code == (5 if "no file" in sentence else 2)
        assert sentence in result.stderr
        assert result.stderr.count("\n") == 1
    with Journal(tmp_path / "journal", report=print):
        result = watch(1)
    assert (result.exit_code, result.stderr) == (
        2,
        f"Error: Another process keeps the journal {tmp_path / 'journal'}: give each watched folder, and each model, "
        "one of its own.\n",
    )


def test_a_journal_that_is_not_there(run: Any, tmp_path: Path) -> None:
    result = run("journal", tmp_path / "none")
    assert (result.exit_code, result.stderr) == (2, f"Error: There is no journal {tmp_path / 'none'}.\n")
