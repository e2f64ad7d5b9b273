"""Who has a file open for writing, as the kernel tells."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from writer import Writer

from rstpm_edge.sources import open_for_writing
from rstpm_edge.sources.inotify import Notices, Written
from rstpm_edge.sources.open_for_writing import is_open_for_writing, is_unfilled


@pytest.fixture(params=["lease", "refused", "remote"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How it is found out: where there are no leases, in /proc."""
    real = fcntl.fcntl

    def refuse(descriptor: int, command: int, argument: int = 0) -> Any:
        if command == fcntl.F_SETLEASE:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(descriptor, command, argument)

    if request.param == "refused":
        monkeypatch.setattr(fcntl, "fcntl", refuse)
    if request.param == "remote":
        monkeypatch.setattr(open_for_writing, "_is_remote", lambda device: True)
    return str(request.param)


@pytest.mark.parametrize("how", ["ftruncate", "mmap"])
def test_a_file_that_another_process_writes(tmp_path: Path, way: str, how: str) -> None:
    path, content = tmp_path / "x", tmp_path / "content"
    content.write_bytes(bytes(range(256)) * 64)
    link = tmp_path / "link"
    link.symlink_to(path)
    closed = False if way == "lease" else None  # others' processes are not to be seen
    with Writer(path, content, how) as writer:
        writer("reserve")
        assert is_open_for_writing(path, since=time.monotonic())
        assert is_open_for_writing(link, since=time.monotonic())
        writer("write", 0, 9)
        writer("close")
        assert is_open_for_writing(path, since=time.monotonic()) is closed
    with open(path, "rb"):  # a reader is no writer
        assert is_open_for_writing(path, since=time.monotonic()) is closed
    with open(path, "ab"):
        assert is_open_for_writing(path, since=time.monotonic())
    assert is_open_for_writing(path, since=time.monotonic()) is closed


def test_one_look_will_do_for_all_files_that_settled_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_for_writing, "_is_remote", lambda device: True)
    monkeypatch.setattr(open_for_writing, "_found", (-1.0, frozenset()))
    looks: list[str] = []
    monkeypatch.setattr(open_for_writing, "_open_by", lambda process: looks.append(process) or iter(()))  # type: ignore[func-returns-value]
    for name in "abc":
        (tmp_path / name).touch()
    settled = time.monotonic()
    for name in "abc":
        assert is_open_for_writing(tmp_path / name, since=settled) is None
    assert len(looks) == len(set(looks))
    number = len(looks)
    assert is_open_for_writing(tmp_path / "a") is None  # no look at all
    assert len(looks) == number
    is_open_for_writing(tmp_path / "a", since=time.monotonic())  # it changed after that look
    assert len(looks) > number


def test_what_cannot_be_looked_at(tmp_path: Path) -> None:
    for ask in (is_open_for_writing, lambda path: is_unfilled(path, look=True)):
        with pytest.raises(FileNotFoundError):
            ask(tmp_path / "none")


BREAKING = """
import fcntl, sys, threading
from rstpm_edge.sources import open_for_writing

real, opened = fcntl.fcntl, threading.Event()

def write():
    with open(sys.argv[1], "r+b"):  # waits for the end of the lease, and has the holder told to give it up
        opened.set()

def fcntl_and_a_writer(descriptor, command, argument=0):
    result = real(descriptor, command, argument)
    if (command, argument) == (fcntl.F_SETLEASE, fcntl.F_RDLCK):
        threading.Thread(target=write).start()
        assert not opened.wait(0.3)
    return result

fcntl.fcntl = fcntl_and_a_writer
assert open_for_writing.is_open_for_writing(sys.argv[1]) is False
assert opened.wait(20)
"""


def test_a_writer_that_comes_in_the_very_moment_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    subprocess.run([sys.executable, "-c", BREAKING, str(tmp_path / "x")], check=True, timeout=60)


def test_holes_and_zeros(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for content, zeros in ((b"x" * 50_000, False), (b"x" * 45_056 + bytes(4944), True), (b"", False), (b"\0", False)):
        path.write_bytes(content)
        assert is_unfilled(path, look=True) is zeros
        assert is_unfilled(path, look=False) is False
    with open(path, "wb") as file:
        file.truncate(1 << 20)
        file.write(b"x")
    assert is_unfilled(path, look=False)


def test_where_files_are_those_of_other_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path.stat().st_dev
    assert not open_for_writing._is_remote(device)
    for kind, remote in {"nfs4": True, "cifs": True, "fuse.sshfs": True, "ext4": False, "overlay": False}.items():
        mounts = tmp_path / "mountinfo"
        number = f"{os.major(device)}:{os.minor(device)}"
        mounts.write_text(f"25 1 {number} / /in\\040here rw,relatime shared:1 - {kind} server:/x rw\n")
        monkeypatch.setattr(
            open_for_writing, "open", lambda path, *_, mounts=mounts, **__: mounts.open(), raising=False
        )
        assert open_for_writing._is_remote(device) is remote


def test_what_the_kernel_notifies_of(tmp_path: Path) -> None:
    notices = Notices()
    written = notices.add(str(tmp_path))
    assert notices.add(str(tmp_path)) is written
    with open(tmp_path / "x", "wb", buffering=0) as file:
        file.write(b"half")
        notices.take()
        assert (written.unclosed, written.closed) == ({"x"}, set())
    notices.take()
    assert (written.unclosed, written.closed) == (set(), {"x"})
    os.rename(tmp_path / "x", tmp_path / "y")
    notices.take()
    assert (written.unclosed, written.closed, written.moved) == (set(), set(), {"y"})
    (tmp_path / "y").unlink()
    notices.take()
    assert written == Written()
    (tmp_path / "z").write_bytes(b"x")
    (tmp_path / "z").unlink()
    tmp_path.rmdir()
    notices.take()
    assert written == Written()
    notices.add(str(tmp_path))  # there is no such folder any more
    notices.close()
    notices.take()
    assert notices.add("/") == Written()
