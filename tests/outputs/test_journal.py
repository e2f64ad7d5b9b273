"""A journal: each verdict stands in it exactly once, whatever ends the process, fills the disk or moves the file."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from forked import in_child

from rstpm_edge.errors import OutputError, UsageError
from rstpm_edge.outputs.journal import Journal
from rstpm_edge.outputs.journal_database import JOURNAL, read_entries
from rstpm_edge.sources.file_state import FileState, WatchedFile

MODEL = "a" * 64
STAMP = 1_764_420_000_123_456_789  # ns


def file(name: str, *, inode: int = 7, size: int = 1000, changed: int = STAMP) -> WatchedFile:
    return WatchedFile(name, FileState(inode, size, changed))


def fields(name: str) -> dict[str, Any]:
    return {"path": f"in/{name}", "verdict": "normal", "score": 0.5, "p_value": 0.5, "regions": []}


def judge(journal: Journal, *names: str) -> None:
    for number, name in enumerate(names):
        with journal.entry(file(name, inode=number), fields(name), MODEL):
            pass


def names(path: Path, **options: Any) -> list[str]:
    return [os.path.basename(entry["path"]) for entry in read_entries(path, **options)]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def journal(path: Path, said: list[str]) -> Iterator[Journal]:
    with Journal(path, report=said.append) as journal:
        yield journal


def test_which_files_are_known_after_a_restart(path: Path, said: list[str]) -> None:
    copied = STAMP // 10**9 * 10**9  # as copies have it that keep whole seconds
    judged = [file("a/1.png"), file("2.png", changed=copied), file(os.fsdecode(b"\xff.png"), inode=2**64 - 1)]
    with Journal(path, report=said.append) as journal:
        for one in judged:
            with journal.entry(one, fields(one.name), MODEL):
                pass
    with Journal(path, report=said.append) as journal:
        assert all(journal.holds(one) for one in judged)
        assert journal.holds(file("a/1.png", inode=8))  # on a share that was mounted again
        assert journal.holds(file("b/other.png"))  # moved
        assert not journal.holds(file("other.png", changed=copied))  # many files have that stamp
        assert not journal.holds(file("a/1.png", size=1001))
        assert not journal.holds(file("a/1.png", changed=STAMP + 1))
        assert not journal.holds(file("a/1.png", changed=2**70))  # a date that no 64 bits hold
    assert said == []


def test_what_it_has_of_a_verdict(journal: Journal, path: Path) -> None:
    with journal.entry(file("1.png"), fields("1.png"), MODEL):
        (entry,) = read_entries(path)  # before anybody is told, while it is open for writing
        assert entry["told"] is False
    (entry,) = read_entries(path)
    judged = entry.pop("judged")
    assert entry == {**fields("1.png"), "told": True, "model_sha256": MODEL}
    assert abs(time.time() - time.mktime(time.strptime(judged[:19], "%Y-%m-%dT%H:%M:%S")) + time.timezone) < 60


def test_kills_lose_no_verdict_and_tell_none_twice(path: Path, tmp_path: Path) -> None:
    """A process that is killed at any moment, and started again, until each of 100 files is judged."""
    printed = tmp_path / "printed"
    wanted = [f"{number}.png" for number in range(100)]
    chance = random.Random(0)

    def station() -> None:
        with Journal(path, report=print) as journal, open(printed, "a") as output:
            for number, name in enumerate(wanted):
                if not journal.holds(file(name, inode=number)):
                    with journal.entry(file(name, inode=number), fields(name), MODEL):
                        os.write(output.fileno(), f"{name}\n".encode())

    def station_until(calls: int) -> None:
        """It is killed before or after a call of C, as of SQLite or of the system, that is counted down to."""
        left = [calls]

        def count(frame: object, event: str, function: object) -> None:
            left[0] -= event.startswith("c_")
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(count)
        station()

    kills = 0
    while (code := in_child(partial(station_until, chance.randrange(1, 4000)))) != 0:
        assert code == -signal.SIGKILL
        kills += 1
        assert kills < 2000
    assert kills > 5
    assert names(path) == wanted
    told = printed.read_text().split()
    assert len(told) == len(set(told))
    assert set(told) | set(names(path, untold=True)) == set(wanted)


def test_a_verdict_of_which_nobody_may_know(path: Path, said: list[str]) -> None:
    def end_while_it_is_told(journal: Journal) -> None:
        with journal.entry(file("2.png", inode=9), fields("2.png"), MODEL):
            raise KeyboardInterrupt

    with Journal(path, report=said.append) as journal:
        judge(journal, "1.png")
        with pytest.raises(KeyboardInterrupt):
            end_while_it_is_told(journal)
    for untold in (1, 0):  # once, not at each start
        with Journal(path, report=said.append) as journal:
            assert journal.untold == untold
    assert names(path) == ["1.png", "2.png"]
    assert names(path, untold=True) == ["2.png"]


def test_one_process_writes_it_at_a_time(journal: Journal, path: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(path)
    for name in (path, tmp_path / "link"):
        with pytest.raises(UsageError, match="Another process keeps the journal"):
            Journal(name, report=print)


@pytest.mark.parametrize("lines", [0, 40])
def test_a_full_disk_keeps_verdicts_waiting(path: Path, said: list[str], lines: int) -> None:
    def fill_and_clear() -> None:
        with Journal(path, report=said.append) as journal:
            judge(journal, "1.png")
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            size = os.path.getsize(f"{path}-wal")
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
            judge(journal, "2.png", "3.png")
            assert journal.lost == 2
            assert journal.holds(file("3.png", inode=1))
            assert said == [
                f"Cannot write the journal {path}: {said[0].partition(': ')[2].partition('.')[0]}. Judging goes on, "
                "and verdicts wait in memory."
            ]
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            judge(journal, "4.png", *(f"more{number}.png" for number in range(lines)))
            assert said[1:] == [f"The journal {path} can be written again."]
            assert journal.lost == 0

    assert in_child(fill_and_clear) == 0
    assert names(path)[:4] == ["1.png", "2.png", "3.png", "4.png"]
    assert names(path, untold=True) == []


def test_verdicts_that_wait_do_not_fill_the_memory(
    journal: Journal, path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rstpm_edge.outputs.journal.WAITING", 2)
    path.rename(path.with_name("moved"))
    judge(journal, "1.png", "2.png", "3.png")
    assert journal.lost == 3
    (sentence,) = said
    assert sentence.startswith(f"Cannot write the journal {path}: it was moved or removed; put it back, or start anew.")
    path.with_name("moved").rename(path)
    judge(journal, "4.png")
    assert (journal.lost, names(path)) == (1, ["2.png", "3.png", "4.png"])


def test_old_verdicts_are_forgotten_and_their_files_stay_known(path: Path, said: list[str]) -> None:
    day, clock, now = 86400.0, [1e9], [0.0]
    with Journal(path, days=30, report=said.append, clock=lambda: clock[0], now=lambda: now[0]) as journal:
        for number in range(4):
            judge(journal, f"{number}.png")
            clock[0] += 10 * day
            now[0] += 10 * day
        clock[0] -= 1000 * day  # set back: nothing is forgotten too early, and nothing is out of order
        judge(journal, "5.png")
        assert names(path) == ["0.png", "1.png", "2.png", "3.png", "5.png"]
        clock[0] += 1005 * day
        now[0] += day
        judge(journal, "6.png")
        assert names(path) == ["2.png", "3.png", "6.png"]
        assert journal.holds(file("0.png", inode=0))


def _other_program(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE parts (name TEXT)")
    database.close()


def _newer(path: Path) -> None:
    database = JOURNAL.open(path)
    database.execute("PRAGMA user_version = 99")
    database.close()


def _filled(path: Path) -> bytes:
    with Journal(path, report=print) as journal:
        judge(journal, *(f"{number}.png" for number in range(200)))
    return path.read_bytes()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: path.write_text("path,verdict\n"), "holds something else than a journal of verdicts"),
        (_other_program, "holds something else than a journal of verdicts: give another name."),
        (_newer, "was written by a newer rstpm-edge: update this one."),
        (lambda path: path.write_bytes(_filled(path)[:30_000]), "is damaged (database disk image is malformed)"),
        (lambda path: path.write_bytes(_filled(path)[:50]), "is damaged (database disk image is malformed)"),
        (
            lambda path: path.write_bytes(_filled(path)[:8192] + bytes(8192) + _filled(path)[16384:]),
            "is damaged (pages of it are malformed)",
        ),
        (lambda path: path.mkdir(), "it is no file."),
    ],
    ids=["text", "other program", "newer", "truncated", "header alone", "zeros", "folder"],
)
def test_a_file_that_is_no_journal_stays_as_it_is(path: Path, make: Any, sentence: str) -> None:
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    for use in (lambda: Journal(path, report=print), lambda: list(read_entries(path))):
        with pytest.raises((UsageError, OutputError)) as error:
            use()
        assert sentence in str(error.value)
        assert "\n" not in str(error.value)
    assert before == (path.read_bytes() if path.is_file() else b"")


def test_no_lock_is_left_beside_a_file_of_another_kind(path: Path) -> None:
    path.write_text("path,verdict\n")
    with pytest.raises(UsageError, match="holds something else"):
        Journal(path, report=print)
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"Cannot write the journal .*: No such file or directory"):
        Journal(tmp_path / "none" / "journal", report=print)
    with pytest.raises(UsageError, match="There is no journal"):
        list(read_entries(tmp_path / "none"))


def test_one_that_was_copied_while_it_was_written_is_whole(journal: Journal, path: Path, tmp_path: Path) -> None:
    """As a machine that goes down leaves it: the journal and its -wal."""
    judge(journal, "1.png", "2.png")
    for ending in ("", "-wal"):
        shutil.copy(f"{path}{ending}", tmp_path / f"copy{ending}")
    with open(tmp_path / "copy-wal", "ab") as torn:
        torn.write(b"half of a frame")
    assert names(tmp_path / "copy") == ["1.png", "2.png"]
    assert json.loads(json.dumps(next(read_entries(path))))["path"] == "in/1.png"


def test_a_link_to_one_in_a_folder_that_may_not_be_written(
    journal: Journal, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge(journal, "1.png", "2.png")
    link = tmp_path / "links" / "journal"
    link.parent.mkdir()
    link.symlink_to(path)
    monkeypatch.setattr(os, "access", lambda folder, mode: Path(folder) != link.parent)  # root may do everything
    assert names(link) == ["1.png", "2.png"]
