"""What processes leave that are killed: the next one removes it, and nothing else."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rstpm_edge import temporary_files
from rstpm_edge.atomic_files import (
    write_bytes,
)

HALF = """
import sys, time
from rstpm_edge.atomic_files import replacing
with replacing(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    print("ready", flush=True)
    sys.stdin.read()
"""


def start_writer(path: Path) -> subprocess.Popen[str]:
    """A process that has written half of `path`, and goes on once its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HALF, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.fixture
def next_run(monkeypatch: pytest.MonkeyPatch) -> set[Any]:
    """What this process knows of folders that it has cleaned: nothing; cleared, it is another process."""
    cleaned: set[Any] = set()
    monkeypatch.setattr(temporary_files, "_cleaned", cleaned)
    return cleaned


def test_what_killed_processes_left_is_removed_by_the_next_and_nothing_else(tmp_path: Path, next_run: set[Any]) -> None:
    alive = start_writer(tmp_path / "alive.png")
    for _ in range(3):
        killed = start_writer(tmp_path / "map.png")
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
    assert len(os.listdir(tmp_path)) >= 2  # the last one's at least, and that of the process which lives
    own = (tmp_path / ".hidden", tmp_path / ".x.png.12345678.tmp", tmp_path / ".map.png")
    for path in own:
        path.touch()
    next_run.clear()
    write_bytes(tmp_path / "another", b"x")
    (left,) = {path.name for path in tmp_path.iterdir()} - {"another", *(path.name for path in own)}
    assert left.startswith(".alive.png.")
    alive.communicate("")
    assert (tmp_path / "alive.png").read_bytes() == b"half"
    assert {path.name for path in tmp_path.iterdir()} == {"another", "alive.png", *(path.name for path in own)}


def test_a_temporary_file_of_another_host_is_left_alone_for_an_hour(tmp_path: Path, next_run: set[Any]) -> None:
    """Locks of some shared folders are known to one host only."""
    theirs = tmp_path / f".map.png.{'0' * 8}-{'1' * 16}.tmp"
    theirs.touch()
    write_bytes(tmp_path / "x", b"")
    assert theirs.exists()
    long_ago = time.time() - 2 * temporary_files.OF_ANOTHER_HOST
    os.utime(theirs, (long_ago, long_ago))
    next_run.clear()
    write_bytes(tmp_path / "x", b"")
    assert not theirs.exists()


def test_what_looks_like_a_leftover_is_neither_followed_nor_waited_for(tmp_path: Path, next_run: set[Any]) -> None:
    (tmp_path / "victim").write_bytes(b"theirs")
    names = [f".map.png.{temporary_files._host()}-{digit * 16}.tmp" for digit in "123"]
    (tmp_path / names[0]).symlink_to(tmp_path / "victim")
    os.mkfifo(tmp_path / names[1])
    (tmp_path / names[2]).mkdir()
    write_bytes(tmp_path / "x", b"")
    assert {path.name for path in tmp_path.iterdir()} == {"victim", "x", *names}
    assert (tmp_path / "victim").read_bytes() == b"theirs"


def test_a_file_that_was_taken_for_a_leftover_before_it_was_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, seen = temporary_files._lock, []

    def late(descriptor: int) -> bool | None:
        if not seen:
            (path,) = tmp_path.iterdir()
            seen.append(path.name)
            path.unlink()  # by another process, between our open and our lock
        return lock(descriptor)

    monkeypatch.setattr(temporary_files, "_lock", late)
    write_bytes(tmp_path / "file", b"whole")
    assert len(seen) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_file_systems_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, next_run: set[Any]) -> None:
    killed = start_writer(tmp_path / "map.png")
    killed.kill()
    killed.communicate()

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(fcntl, "flock", refuse)
    write_bytes(tmp_path / "x", b"")
    assert len(os.listdir(tmp_path)) == 2  # who knows whether that process lives
