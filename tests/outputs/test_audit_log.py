"""An audit log: what stands in it, and what it does where it cannot be written."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from audit_logs import BAD, GOOD, INVALID, UNREAD, entries, write_runs

from rstpm_edge.errors import OutputError, UsageError
from rstpm_edge.outputs.audit_log import INTERVAL, AuditLog
from rstpm_edge.outputs.chain_check import check_chain
from rstpm_edge.outputs.hash_chain import files_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log of six entries."""
    path = tmp_path / "log.jsonl"
    write_runs(path)
    return path


def test_whoever_counts_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with AuditLog(path) as log:
        log.start({})
        with log._lock:  # as while another thread writes
            log.count("normal", "line")
        log.record("line paused", {"line": "line"})
    paused, stop = entries(path)[1:]
    assert (paused["event"], paused["line"]) == ("line paused", "line")
    assert stop["origins"] == {"line": {"normal": 1, "anomalous": 0, "invalid": 0, "failed": 0}}


def test_what_stands_in_it(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with AuditLog(path) as log:
        log.start({"threshold": 1.5})
        for fields in (GOOD, GOOD, BAD, INVALID, UNREAD):
            log.tell(fields)
        log.ending = "signal 15"
    start, stop = entries(path)
    assert (start["entry"], start["event"], start["threshold"], start["pid"]) == (1, "start", 1.5, os.getpid())
    assert {"version", "user", "host", "time"} <= set(start)
    assert (stop["entry"], stop["event"], stop["ending"]) == (2, "stop", "signal 15")
    assert [stop[name] for name in ("normal", "anomalous", "invalid", "failed")] == [2, 1, 1, 1]


def test_a_start_says_what_was_changed(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for threshold, roi in ((1.5, (1, 2)), (1.5, (1, 2)), (2.5, (1, 2))):
        with AuditLog(path, largest=900) as log:  # also where the last start is in a file that was set aside
            log.start({"threshold": threshold, "roi": roi})
    starts = [entry for entry in entries(path) if entry["event"] == "start"]
    assert len(files_of(path)) > 1
    assert [entry.get("changed") for entry in starts] == [None, {}, {"threshold": [1.5, 2.5]}]


@pytest.mark.parametrize("options", [{}, {"largest": 50_000}])
def test_a_start_says_what_was_changed_after_a_run_of_weeks(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: None)
    path, clock = tmp_path / "log", [0.0]
    with AuditLog(path, now=lambda: clock[0], **options) as log:
        log.start({"threshold": 1.0})
        for _ in range(14 * 24 * 6):  # of 10 minutes
            clock[0] += INTERVAL
            log.tell(GOOD)
    with AuditLog(path, **options) as log:
        log.start({"threshold": 2.0})
    assert entries(path)[-2]["changed"] == {"threshold": [1.0, 2.0]}
    assert check_chain(path).faults == []


def test_counts_come_at_intervals(tmp_path: Path) -> None:
    clock = [0.0]
    path = tmp_path / "log.jsonl"
    with AuditLog(path, now=lambda: clock[0]) as log:
        log.start({})
        for _ in range(5):
            clock[0] += 0.6 * INTERVAL
            log.tell(GOOD)
    found = [(entry["event"], entry.get("normal")) for entry in entries(path)]
    assert found == [("start", None), ("counts", 2), ("counts", 4), ("stop", 5)]


def test_an_error_is_how_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = AuditLog(path)
    log.start({})
    log.__exit__(OutputError, OutputError("the disk is full"), None)
    assert entries(path)[-1]["ending"] == "OutputError"


def test_a_refusal_hides_passwords(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with AuditLog(path) as log:
        log.refuse({}, "Cannot open rtsp://user:geheim@camera/1.")
    (entry,) = entries(path)
    assert entry["event"] == "refused"
    assert "geheim" not in path.read_text()
    assert "camera/1" in entry["error"]


@pytest.mark.parametrize(
    "last",
    [
        "",
        "log.tell_drift({'drift': 'scene changed'}); ",
        "log.record('model loaded', {}); ",
        "log.record('line paused', {}); ",
    ],
)
def test_a_run_that_was_killed_is_noted(last: str, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    code = (
        "import sys, os, signal; from pathlib import Path; from rstpm_edge.outputs.audit_log import AuditLog\n"
        f"log = AuditLog(Path(sys.argv[1])); log.start({{}}); {last}os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(path)])
    assert killed.returncode == -signal.SIGKILL
    write_runs(path, 1)
    found = check_chain(path)
    killed_at = 2 if last else 1
    assert (found.faults, found.last) == ([], killed_at + 2)
    assert found.notes == [f"The run before entry {killed_at + 1} did not end: it was killed, or crashed."]


def test_a_clock_that_was_set_back_is_noted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rstpm_edge.outputs import hash_chain

    (last,) = entries(path)[-1:]
    fields = {"time": "2001-01-01T00:00:00.000+00:00", "event": "start"}
    with open(path, "ab") as file:
        file.write(hash_chain.link(7, last["hash"], fields)[0])
    assert check_chain(path).notes == ["The clock was set back before entry 7."]


def test_a_large_file_is_set_aside_and_the_chain_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write_runs(path, 12, largest=1500)
    names = [file.name for file in files_of(path)]
    assert len(names) > 3
    assert names == [*(f"log.jsonl.{number:06d}" for number in range(1, len(names))), "log.jsonl"]
    assert all(file.stat().st_size < 2500 for file in files_of(path))
    found = check_chain(path)
    assert (found.faults, found.notes, found.entries, found.files) == ([], [], 24, len(names))
    (tmp_path / "log.jsonl.000001").unlink()
    found = check_chain(path)
    assert found.faults == []
    assert "what came before is not here" in found.notes[0]
    (tmp_path / "log.jsonl.000003").unlink()
    assert "missing" in check_chain(path).faults[0]


def test_it_goes_on_where_a_process_died_while_it_set_a_file_aside(path: Path) -> None:
    path.rename(path.with_name("log.jsonl.000001"))
    write_runs(path, 1)
    found = check_chain(path)
    assert (found.faults, found.notes, found.entries) == ([], [], 8)


def test_a_file_that_somebody_moves_away_is_begun_again(path: Path) -> None:
    with AuditLog(path) as log:
        log.start({})
        path.rename(path.with_name("elsewhere"))
    found = check_chain(path)
    assert (found.faults, found.entries, found.first) == ([], 1, 8)


def test_one_process_writes_a_log(path: Path) -> None:
    with AuditLog(path), pytest.raises(UsageError, match=r"Another process writes the audit log .*: give each"):
        AuditLog(path)
    AuditLog(path).__exit__(None, None, None)


@pytest.mark.parametrize("content", ["some words", "some words\n", '{"a": 1}\n', "\x89PNG\n"])
def test_another_file_is_not_written_to(content: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(content)
    with pytest.raises(UsageError, match="holds something else than an audit log, or was changed"):
        AuditLog(path)
    assert path.read_text() == content


def test_a_log_that_was_refused_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("something else\n")
    with pytest.raises(UsageError, match="holds something else"):
        AuditLog(path)
    path.write_text("")
    with AuditLog(path):
        pass


def test_a_changed_last_line_is_not_gone_on_with(path: Path) -> None:
    content = path.read_text().replace('"normal":1', '"normal":7')
    path.write_text(content)
    with pytest.raises(UsageError, match="was changed: look at it with `rstpm-edge audit-log`"):
        AuditLog(path)
    assert path.read_text() == content


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    for path, why in ((tmp_path, "Is a directory"), (tmp_path / "none" / "log", "No such file or directory")):
        with pytest.raises(OutputError, match=f"Cannot write .*: {why}"):
            AuditLog(path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OutputError, match="it is no file"):
        AuditLog(tmp_path / "fifo")


@contextlib.contextmanager
def full_disk(room: int) -> Iterator[None]:
    """Files have at most so many bytes in the block, and no longer: what prints the tests' results may be a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_ends_no_live_inspection(path: Path) -> None:
    said: list[str] = []
    clock = [0.0]
    with AuditLog(path, report=said.append, now=lambda: clock[0]) as log:
        log.start({})
        with full_disk(path.stat().st_size + 30):
            for _ in range(2):
                clock[0] += INTERVAL
                log.tell(GOOD)
        clock[0] += INTERVAL
        log.tell(BAD)
    assert log.lost == 2
    assert [sentence.partition(":")[0] for sentence in said] == [
        f"Cannot write {path}",
        f"{path} can be written again.",
    ]
    found = check_chain(path)
    assert found.faults == found.notes == []  # what fitted on it was taken back
    assert entries(path)[-1]["anomalous"] == 1


def test_a_full_disk_where_nothing_can_be_taken_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "ftruncate", refuse)
    with AuditLog(path, report=lambda sentence: None) as log:
        with full_disk(path.stat().st_size + 30):
            log.start({})
        log.start({})
    found = check_chain(path)
    assert found.faults == []
    assert found.notes == [f"Line 7 of {path} was cut off, as by a crash or a full disk; entry 7 says so."]


def test_two_crashes_in_a_row(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b'{"entry":7,"ti\n{"entry":7,"time')
    assert check_chain(path).faults == []
    write_runs(path, 1)
    found = check_chain(path)
    assert (found.faults, found.last) == ([], 9)


def test_a_full_disk_without_a_report_is_an_error(path: Path) -> None:
    with (
        full_disk(path.stat().st_size + 30),
        pytest.raises(OutputError, match="Cannot write"),
        AuditLog(path) as log,
    ):
        log.start({})


def test_an_entry_that_was_written_but_not_synced_is_followed_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def fail_once(file: int) -> None:
        monkeypatch.setattr(os, "fsync", sync)
        raise OSError(errno.EIO, "Input/output error")

    with AuditLog(path) as log:
        log.start({})
        monkeypatch.setattr(os, "fsync", fail_once)
        with pytest.raises(OutputError, match="Input/output error"):
            log.start({})
    found = check_chain(path)
    assert (found.faults, found.last) == ([], 9)
