"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from workplace import command_line

from rstpm_edge.atomic_files import (
    check_writable,
    drop_link,
    fitting_name,
    make_folder,
    new_file,
    replacing,
    write_bytes,
)
from rstpm_edge.errors import OutputError


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
            temporary.write(b"half")
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


@pytest.mark.parametrize("name", ["x" * 255, "ß" * 127 + ".", "x" * 251 + ".png", os.fsdecode(b"\xff" * 255)])
def test_names_as_long_as_a_file_system_takes(tmp_path: Path, name: str) -> None:
    write_bytes(tmp_path / name, b"x")
    write_bytes(tmp_path / name, b"y", below=tmp_path)
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_bytes() == b"y"


def test_names_that_an_ending_would_make_too_long(tmp_path: Path) -> None:
    assert fitting_name("a/b.png", ".map.png") == "a/b.png.map.png"
    longest = "x" * 243 + ".map.png"
    assert fitting_name(f"a/{longest[:-8]}", ".map.png") == f"a/{longest}"
    names = {fitting_name(f"a/{'ß' * 120}{end}.png", ".overlay.png") for end in ("1", "2")}
    assert len(names) == 2
    for name in names:
        folder, last = os.path.split(name)
        assert folder == "a"
        assert last.endswith(".overlay.png")
        assert 240 < len(last.encode()) <= 255


# Folders whose names others can foresee


def test_below_a_folder_links_are_replaced_and_not_followed(tmp_path: Path) -> None:
    out, victim = tmp_path / "out", tmp_path / "victim"
    out.mkdir()
    victim.write_bytes(b"theirs")
    for target in (victim, tmp_path / "nowhere"):
        (out / "1.png").unlink(missing_ok=True)
        (out / "1.png").symlink_to(target)
        write_bytes(out / "1.png", b"ours", below=out)
        assert not (out / "1.png").is_symlink()
        assert (out / "1.png").read_bytes() == b"ours"
    assert victim.read_bytes() == b"theirs"
    assert not (tmp_path / "nowhere").exists()


def test_below_a_folder_no_link_leads_out_of_it(tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (out / "a").mkdir(parents=True)
    (out / "a" / "b").symlink_to(elsewhere)
    reason = r"the folder b on the way is a link, which may lead out of .*/out; remove it\.$"
    with pytest.raises(OutputError, match=rf"^Cannot write .*/out/a/b/1\.png: {reason}"):
        write_bytes(out / "a" / "b" / "1.png", b"x", below=out)
    with pytest.raises(OutputError, match=rf"^Cannot create the folder .*/out/a/b/c: {reason}"):
        make_folder(out / "a" / "b" / "c", below=out)
    with pytest.raises(OutputError, match=r"it does not lie in .*/out\.$"):
        write_bytes(out / ".." / "1.png", b"x", below=out)
    assert os.listdir(elsewhere) == []
    write_bytes(out / "c" / "d" / "1.png", b"x", below=out)  # folders that are missing are made
    assert (out / "c" / "d" / "1.png").read_bytes() == b"x"
    (out / "file").touch()
    with pytest.raises(OutputError, match=r"^Cannot write .*/out/file/1\.png: File exists\.$"):
        write_bytes(out / "file" / "1.png", b"x", below=out)
    (tmp_path / "link").symlink_to(out)  # the folder itself is what the user named
    write_bytes(tmp_path / "link" / "2.png", b"x", below=tmp_path / "link")
    assert (out / "2.png").exists()


def test_a_new_file_replaces_a_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"theirs")
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    with new_file(tmp_path / "link") as file:
        file.write(b"ours")
    assert (tmp_path / "victim").read_bytes() == b"theirs"
    assert (tmp_path / "link").read_bytes() == b"ours"
    (tmp_path / "model").symlink_to(tmp_path / "victim")
    drop_link(tmp_path / "model")
    drop_link(tmp_path / "victim")
    assert {path.name for path in tmp_path.iterdir()} == {"victim", "link"}
    with pytest.raises(OutputError, match=r"^Cannot write .*/no/file: No such file or directory\.$"):
        new_file(tmp_path / "no" / "file")


# In the commands


@pytest.mark.parametrize(("option", "ending"), [("--save-overlay", ".overlay.png"), ("--save-map", ".map.png")])
def test_pictures_and_maps_follow_no_links(model: Path, photos: Path, tmp_path: Path, option: str, ending: str) -> None:
    out, victim = tmp_path / "out", tmp_path / "victim"
    out.mkdir()
    victim.write_bytes(b"theirs")
    for target, name in ((victim, "1.png"), (tmp_path / "nowhere", "10.png")):
        (out / f"{name}{ending}").symlink_to(target)
    result = command_line("infer", photos, "--model", model, option, out)
    assert (result.exit_code, result.stderr) == (1, "")
    assert victim.read_bytes() == b"theirs"
    assert not (tmp_path / "nowhere").exists()
    written = [out / f"{name}{ending}" for name in ("1.png", "10.png", "sub/2.jpg")]
    assert sorted(path for path in out.rglob("*") if path.is_file()) == sorted(written)
    assert not any(path.is_symlink() for path in written)
    written[-1].unlink()
    (out / "sub").rmdir()
    (tmp_path / "elsewhere").mkdir()
    (out / "sub").symlink_to(tmp_path / "elsewhere")
    result = command_line("infer", photos, "--model", model, option, out)
    assert result.exit_code == 5
    assert result.stderr == (
        f"Error: Cannot write {written[-1]}: the folder sub on the way is a link, which may lead out of {out}; "
        "remove it.\n"
    )
    assert os.listdir(tmp_path / "elsewhere") == []


def test_pictures_of_photos_with_long_names(model: Path, photos: Path, tmp_path: Path) -> None:
    for digit in "12":
        os.link(photos / "1.png", photos / f"{'x' * 249}{digit}.png")
    result = command_line("infer", photos, "--model", model, "--save-overlay", tmp_path / "out")
    assert (result.exit_code, result.stderr) == (1, "")
    assert len(list((tmp_path / "out").rglob("*.overlay.png"))) == 5
