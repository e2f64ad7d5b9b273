"""An audit log: what stands in it, and that nobody changes, removes or inserts a line unseen."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from rstpm_edge.errors import OutputError, UsageError
from rstpm_edge.outputs.audit_log import INTERVAL, AuditLog
from rstpm_edge.outputs.chain_check import check_chain
from rstpm_edge.outputs.hash_chain import Link, files_of

GOOD, BAD, INVALID = ({"verdict": verdict} for verdict in ("normal", "anomalous", "invalid"))
UNREAD = {"verdict": "failed", "error": "it is damaged"}


def write_runs(path: Path, runs: int = 3, **options: Any) -> None:
    """A start and a stop each: two entries."""
    for run in range(runs):
        with AuditLog(path, **options) as log:
            log.start({"run": run})
            log.tell(GOOD)


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in files_of(path) for line in file.read_text().splitlines()]


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


def test_anybody_can_check_it_by_hand(path: Path) -> None:
    """As the reference says: the hash is that of the line without it."""
    before = "0" * 64
    for line in path.read_text().splitlines():
        body, found = line[:-1].rsplit(',"hash":"', 1)
        assert json.loads(line)["previous"] == before
        assert sha256(f"{body}}}".encode()).hexdigest() == found.strip('"')
        before = found.strip('"')


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


def test_a_log_as_it_was_written(path: Path) -> None:
    found = check_chain(path)
    assert (found.files, found.entries, found.first, found.last) == (1, 6, 1, 6)
    assert found.faults == found.notes == []
    assert found.last_hash == entries(path)[-1]["hash"]


@pytest.mark.parametrize("number", range(1, 7))
def test_any_changed_line_is_named(number: int, path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    lines[number - 1] = lines[number - 1].replace('"event":"st', '"event":"St')
    path.write_text("".join(lines))
    assert check_chain(path).faults == [f"Line {number} of {path} was changed, or is none of this log."]


def test_every_changed_byte_is_noticed(path: Path) -> None:
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert check_chain(path).faults != [], place


@pytest.mark.parametrize("number", range(2, 6))
def test_a_line_that_was_written_anew_is_named(number: int, path: Path) -> None:
    """Its own hash fits; that of the one before, in the next line, does not."""
    lines = path.read_text().splitlines(keepends=True)
    body = lines[number - 1].rsplit(',"hash":"', 1)[0].replace('"run":', '"Run":').replace('"normal":1', '"normal":9')
    lines[number - 1] = f'{body},"hash":"{sha256(f"{body}}}".encode()).hexdigest()}"}}\n'
    path.write_text("".join(lines))
    (fault,) = check_chain(path).faults
    assert fault.startswith(
        f"Line {number + 1} of {path}, entry {number + 1}, does not follow on entry {number}: one of"
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda lines: lines[:2] + lines[3:], "Line 3 of .*, entry 4, does not follow on entry 2: entry 3 is missing."),
        (lambda lines: lines[:1] + lines[4:], "Line 2 of .*, entry 5, .* on entry 1: 3 entries are missing."),
        (lambda lines: [*lines[:2], lines[1], *lines[2:]], "Line 3 of .*, entry 2, does not follow on entry 2: one of"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "Line 2 of .*, entry 1, does not follow on entry 2: one of"),
        (lambda lines: [*lines[:3], "some words\n", *lines[3:]], "Line 4 of .* was changed, or is none of this log."),
        (lambda lines: [*lines, "some words\n"], "Line 7 of .* was changed, or is none of this log."),
        (lambda lines: [*lines[:3], "\n", *lines[3:]], "Line 4 of .* was changed, or is none of this log."),
        (lambda lines: [*lines[:3], lines[3][:40] + "\n", *lines[4:]], "Line 4 of .* was changed, or is none"),
    ],
)
def test_lines_that_were_removed_or_inserted(change: Callable[[list[str]], list[str]], says: str, path: Path) -> None:
    import re

    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))
    assert re.match(says, check_chain(path).faults[0])


def test_what_is_missing_at_either_end(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    last = json.loads(lines[-1])["hash"]
    assert check_chain(path, last).faults == []
    path.write_text("".join(lines[2:]))
    found = check_chain(path, last)
    assert (found.faults, found.notes) == ([], ["The log begins with entry 3: what came before is not here."])
    path.write_text("".join(lines[:-1]))
    assert check_chain(path).faults == []  # nothing in the file itself says that there was more
    assert check_chain(path, last).faults == [
        f"No entry has the hash {last}: entries at the end were removed, or the log was written anew."
    ]


def test_a_line_that_was_cut_off_is_told_from_a_changed_one(path: Path) -> None:
    content = path.read_bytes()
    whole = content[: content.rindex(b"\n", 0, -1) + 1]
    for length in (1, 5, 9, 40, len(content) - len(whole) - 2):
        path.write_bytes(content[: len(whole) + length])
        found = check_chain(path)
        assert (found.faults, found.entries) == ([], 5)
        assert found.notes == [f"Line 6 of {path}, the last one, was cut off, as by a crash or a full disk."]
    write_runs(path, 1)  # goes on, and says so
    found = check_chain(path)
    assert found.faults == []
    assert [note.partition(" of ")[0] for note in found.notes] == ["Line 6"]
    assert [entry["event"] for entry in entries_but(path, 6)][-3:] == ["torn", "start", "stop"]
    write_runs(path, 1)
    assert check_chain(path).faults == []


def test_a_line_that_lacks_its_break_alone_is_whole(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])
    for runs in (0, 1):
        write_runs(path, runs)
        found = check_chain(path)
        assert (found.faults, found.notes, found.last) == ([], [], 6 + 2 * runs)


def entries_but(path: Path, torn: int) -> list[dict[str, Any]]:
    lines = path.read_text().splitlines()
    return [json.loads(line) for number, line in enumerate(lines, 1) if number != torn]


def test_the_very_first_line_may_be_cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])
    write_runs(path, 1)
    found = check_chain(path)
    assert (found.faults, found.first, found.last) == ([], 1, 3)


def test_zeros_that_a_power_cut_leaves(path: Path) -> None:
    path.write_bytes(path.read_bytes() + bytes(500))
    write_runs(path, 1)
    assert check_chain(path).faults == []


@pytest.mark.parametrize("last", ["", "log.tell_drift({'drift': 'scene changed'}); "])
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


@pytest.fixture
def full_disk() -> Any:
    """A function that limits the size of files to so many bytes; all is as before after the test."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_ends_no_live_inspection(path: Path, full_disk: Any) -> None:
    said: list[str] = []
    clock = [0.0]
    with AuditLog(path, report=said.append, now=lambda: clock[0]) as log:
        log.start({})
        full_disk(path.stat().st_size + 30)
        for _ in range(2):
            clock[0] += INTERVAL
            log.tell(GOOD)
        full_disk(resource.RLIM_INFINITY)
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


def test_a_full_disk_where_nothing_can_be_taken_back(
    path: Path, full_disk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "ftruncate", refuse)
    with AuditLog(path, report=lambda sentence: None) as log:
        full_disk(path.stat().st_size + 30)
        log.start({})
        full_disk(resource.RLIM_INFINITY)
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


def test_a_full_disk_without_a_report_is_an_error(path: Path, full_disk: Any) -> None:
    full_disk(path.stat().st_size + 30)
    with pytest.raises(OutputError, match="Cannot write"), AuditLog(path) as log:
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


def test_no_log(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no audit log .*none; `rstpm-edge infer --audit-log FILE` writes"):
        check_chain(tmp_path / "none")
    with pytest.raises(UsageError, match="There is no audit log"):
        check_chain(tmp_path)
    (tmp_path / "empty").touch()
    with pytest.raises(UsageError, match="There is nothing in the audit log"):
        check_chain(tmp_path / "empty")


def test_a_hostile_log_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 1_000_000 + b"\n" + b"[" * 90_000 + b"\n\xff\xfe\n")
    found = check_chain(path)
    assert found.entries == 0
    assert 0 < len(found.faults) <= 100


def test_a_line_that_is_written_while_it_is_read(path: Path) -> None:
    """The first half of it is there when the file is read, and all of it a moment later."""
    whole = path.read_bytes()
    cut = len(whole) - 30
    path.write_bytes(whole[:cut])

    def on_it_goes(link: Link) -> None:
        if link.number == 1:
            with open(path, "ab") as file:
                file.write(whole[cut:])

    checked = check_chain(path, each=on_it_goes)
    assert (checked.entries, checked.faults) == (5, [])
    assert "was cut off" in checked.notes[-1]
    assert check_chain(path).entries == 6
