"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from rstpm_edge.errors import OutputError
from rstpm_edge.files import check_writable, make_folder, replacing, write_bytes


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    for content in (b"first", b"second"):
        write_bytes(path, content)
        assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["file.bin"]


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    write_bytes(tmp_path / "ours", b"")
    (tmp_path / "theirs").touch()
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "theirs").stat().st_mode


def test_a_full_disk_leaves_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "file.bin"
    path.write_bytes(b"older")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=rf"^Cannot write {path}: No space left on device\.$"):
        write_bytes(path, b"newer")
    assert path.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_whatever_goes_wrong_the_temporary_file_goes(tmp_path: Path, error: Any) -> None:
    def write_half() -> None:
        with replacing(tmp_path / "file.bin") as temporary:
            temporary.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        write_half()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/proc/rstpm", "No such file or directory"),  # read-only even for root
        ("none/file", "No such file or directory"),
        ("a_file/file", "Not a directory"),
        ("a_folder", "it is not a regular file"),
        ("/dev/full", "it is not a regular file"),
        ("", "it is not a regular file"),
    ],
)
def test_places_that_cannot_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a_file").touch()
    Path("a_folder").mkdir()
    with pytest.raises(OutputError, match=f"^Cannot write .*: {message}"):
        write_bytes(path, b"content")
    assert sorted(os.listdir(tmp_path)) == ["a_file", "a_folder"]
    assert Path("/dev/full").is_char_device()


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    link, there = tmp_path / "model.onnx", tmp_path / "models" / "v1.onnx"
    link.symlink_to(there)
    for content in (b"new", b"newer"):  # it leads nowhere at first
        check_writable(link)
        write_bytes(link, content)
        assert link.is_symlink()
        assert there.read_bytes() == content
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["v1.onnx"]
    link.unlink()
    link.symlink_to(tmp_path / "none" / "v2.onnx")
    with pytest.raises(OutputError, match=rf"^Cannot write {link}: there is no folder {tmp_path}/none\.$"):
        check_writable(link)
    with pytest.raises(OutputError, match=rf"^Cannot write {link}: No such file or directory\.$"):
        write_bytes(link, b"x")


def test_threads_do_not_disturb_each_other(tmp_path: Path) -> None:
    contents = [bytes([i]) * 10_000 for i in range(8)]
    threads = [threading.Thread(target=write_bytes, args=(tmp_path / "file", each)) for each in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "file").read_bytes() in contents
    assert os.listdir(tmp_path) == ["file"]


def test_folders(tmp_path: Path) -> None:
    assert make_folder(tmp_path / "a" / "b") == make_folder(str(tmp_path / "a" / "b")) == tmp_path / "a" / "b"
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"^Cannot create the folder .*/file/b: Not a directory\.$"):
        make_folder(tmp_path / "file" / "b")
    with pytest.raises(OutputError, match="File exists"):
        make_folder(tmp_path / "file")


def test_what_could_not_be_written_is_known_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    check_writable(tmp_path / "file")
    check_writable(tmp_path / "new")
    assert os.listdir(tmp_path) == ["file"]
    for path, reason in {
        tmp_path: "it is a folder",
        tmp_path / "no" / "file": f"there is no folder {tmp_path / 'no'}",
        tmp_path / "file" / "below": f"there is no folder {tmp_path / 'file'}",
    }.items():
        with pytest.raises(OutputError, match=rf"^Cannot write {path}: {reason}\.$"):
            check_writable(path)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(
        OutputError, match=rf"^Cannot write {tmp_path / 'new'}: no permission to write in the folder {tmp_path}\.$"
    ):
        check_writable(tmp_path / "new")
