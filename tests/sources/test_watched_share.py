"""A watched folder on another host, which is away for a while and comes back."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from watcher import Watcher, encoded

from rstpm_edge.errors import SourceError
from rstpm_edge.sources import new_files
from rstpm_edge.sources import watched_folder as watching
from rstpm_edge.sources.frames import Failure, Frame
from rstpm_edge.sources.watched_folder import WatchedFolder

pytestmark = pytest.mark.usefixtures("clock")


def put_there(mount: Path, folder: Path) -> None:
    """As if `folder` were mounted at `mount`."""
    mount.unlink(missing_ok=True)
    mount.symlink_to(folder)


def test_a_folder_that_is_not_mounted_for_a_while(tmp_path: Path, bad: NDArray[np.uint8]) -> None:
    share, mount = tmp_path / "share", tmp_path / "mount"
    share.mkdir()
    (share / "old.png").write_bytes(encoded(bad))
    put_there(mount, share)
    (tmp_path / "empty").mkdir()
    watcher = Watcher(mount)
    for elsewhere in (tmp_path / "nowhere", tmp_path / "empty"):
        put_there(mount, elsewhere)
        watcher.nothing(0.3)
        put_there(mount, share)
        watcher.nothing(0.5)  # what was there is not new
    assert watcher.reports == [
        (f"The folder {mount} has gone; waiting for it.", False),
        (f"The folder {mount} is back.", True),
    ]
    (share / "new.png").write_bytes(encoded(bad))
    watcher.until("new.png")


def test_an_image_that_arrived_as_its_folder_went(tmp_path: Path, bad: NDArray[np.uint8]) -> None:
    share, mount = tmp_path / "share", tmp_path / "mount"
    share.mkdir()
    put_there(mount, share)
    watcher = Watcher(mount)
    (share / "whole.png").write_bytes(encoded(bad))
    (share / "half.png").write_bytes(encoded(bad)[:100])
    watcher.until("whole.png")
    mount.unlink()
    watcher.nothing(0.3)
    (share / "half.png").write_bytes(encoded(bad))
    put_there(mount, share)
    assert isinstance(watcher.until("half.png")["half.png"], Frame)


@pytest.mark.parametrize("vanish", [True, False])
def test_an_image_that_cannot_be_looked_at_for_a_moment(
    tmp_path: Path, bad: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, vanish: bool
) -> None:
    monkeypatch.setattr(new_files, "LISTED", 0.5)
    watcher = Watcher(tmp_path)
    (tmp_path / "x.png").write_bytes(encoded(bad))
    stat, gone = os.stat, [True] if vanish else []

    def flaky(path: object, *args: object, **keywords: object) -> os.stat_result:
        if str(path).endswith("x.png") and gone:
            gone.clear()
            raise OSError(116, "Stale file handle")
        return stat(path, *args, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", flaky)
    watcher.until("x.png")
    watcher.nothing()


def refuse(monkeypatch: pytest.MonkeyPatch, function: str, error: int, name: str) -> None:
    """A share on which a call fails for a file of this name."""
    real = getattr(os, function)

    def refusing(path: Any, *args: Any, **keywords: Any) -> Any:
        if str(path).endswith(name):
            raise OSError(error, os.strerror(error), str(path))
        return real(path, *args, **keywords)

    monkeypatch.setattr(os, function, refusing)


@pytest.mark.parametrize("function", ["open", "stat"])
@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_an_image_that_cannot_be_opened_is_told_of_once_and_judged_when_it_can(
    tmp_path: Path, bad: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, error: int, function: str
) -> None:
    watcher = Watcher(tmp_path)
    (tmp_path / "x.png").write_bytes(encoded(bad))
    with monkeypatch.context() as share:
        refuse(share, function, error, "x.png")
        watcher.nothing(4)
        (failure,) = watcher.until("x.png").values()
        assert isinstance(failure, Failure)
        assert failure.message == (
            f"Cannot read {tmp_path / 'x.png'}: {os.strerror(error)}; it is judged when it can be read again."
        )
        assert failure.file is None  # no verdict for a journal
        watcher.nothing(30)
    assert isinstance(watcher.until("x.png")["x.png"], Frame)
    watcher.nothing(10)


def test_a_file_without_an_extension_that_cannot_be_opened_for_a_moment(
    tmp_path: Path, bad: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Watcher(tmp_path)
    for name in ("1", "2"):
        (tmp_path / name).write_bytes(encoded(bad))
    with monkeypatch.context() as share:
        refuse(share, "open", errno.EIO, "1")
        watcher.until("2")
        assert watcher.said == []
    watcher.until("1")
    (tmp_path / "3").write_bytes(encoded(bad))
    refuse(monkeypatch, "open", errno.EIO, "3")
    watcher.nothing(15)
    assert watcher.said == [f"Left out {tmp_path / '3'}: without permission to read. Further ones are only counted."]


def test_an_image_that_a_writer_on_a_windows_share_keeps_to_himself(
    tmp_path: Path, bad: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Watcher(tmp_path)
    (tmp_path / "x.png").write_bytes(encoded(bad))
    with monkeypatch.context() as share:
        refuse(share, "open", errno.EBUSY, "x.png")
        watcher.nothing(20)
        (failure,) = watcher.until("x.png").values()
        assert isinstance(failure, Failure)
        assert failure.message.endswith("still has it open for writing; it is judged when that closes it.")
    assert isinstance(watcher.until("x.png")["x.png"], Frame)


def test_a_share_that_is_mounted_as_another_device(tmp_path: Path, bad: NDArray[np.uint8]) -> None:
    share, mount = tmp_path / "share", tmp_path / "mount"
    share.mkdir()
    (share / "old.png").write_bytes(encoded(bad))
    put_there(mount, share)
    watcher = Watcher(mount)
    (share / "new.png").write_bytes(encoded(bad))
    watcher.until("new.png")
    again = tmp_path / "again"  # the same files in what is another folder by its numbers
    again.mkdir()
    for name in ("old.png", "new.png"):
        os.link(share / name, again / name)
    put_there(mount, again)
    watcher.nothing()


def test_a_share_of_many_files_that_is_mounted_as_another_device(
    tmp_path: Path, bad: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_files, "REMEMBERED", 1)
    share, mount = tmp_path / "share", tmp_path / "mount"
    for name in ("1.png", "2.png", "sub/3.png", "sub/4.png"):
        (share / name).parent.mkdir(parents=True, exist_ok=True)
        (share / name).write_bytes(encoded(bad))
    (tmp_path / "empty").mkdir()
    put_there(mount, share)
    watcher = Watcher(mount)
    again = tmp_path / "again"
    shutil.copytree(share, again, copy_function=os.link)
    for there in (tmp_path / "empty", again):
        put_there(mount, there)
        watcher.nothing()
    (again / "sub" / "5.png").write_bytes(encoded(bad))
    watcher.until("5.png")


def as_mounts(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """As if a file system were mounted at each of these."""
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) in folders)


def test_what_a_share_holds_that_is_mounted_late_is_there_already(
    tmp_path: Path, bad: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    share, again, mount = tmp_path / "share", tmp_path / "again", tmp_path / "mount"
    as_mounts(monkeypatch, share, again)
    for name in ("old.png", "monday/old.png"):
        (share / name).parent.mkdir(parents=True, exist_ok=True)
        (share / name).write_bytes(encoded(bad))
    (share / "half.png").write_bytes(encoded(bad)[:100])
    (tmp_path / "empty").mkdir()
    put_there(mount, tmp_path / "empty")
    watcher = Watcher(mount)
    watcher.nothing(0.3)
    put_there(mount, share)
    watcher.nothing(10)
    (share / "half.png").write_bytes(encoded(bad))
    watcher.until("half.png")
    (share / "monday" / "new.png").write_bytes(encoded(bad))
    watcher.until("new.png")
    put_there(mount, tmp_path / "empty")
    watcher.nothing(0.5)
    shutil.copytree(share, again, copy_function=os.link)
    (again / "meanwhile.png").write_bytes(encoded(bad))
    put_there(mount, again)
    watcher.until("meanwhile.png")


@pytest.mark.parametrize("holds", [True, False])
def test_what_came_to_a_share_while_it_was_away_is_new(
    tmp_path: Path, bad: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, holds: bool
) -> None:
    share, again, mount = tmp_path / "share", tmp_path / "again", tmp_path / "mount"
    as_mounts(monkeypatch, share, again)
    for folder in (share, tmp_path / "empty"):
        folder.mkdir()
    if holds:
        (share / "old.png").write_bytes(encoded(bad))
    put_there(mount, share)
    watcher = Watcher(mount)
    put_there(mount, tmp_path / "empty")
    watcher.nothing(0.5)
    shutil.copytree(share, again, copy_function=os.link)  # with other numbers
    (again / "new.png").write_bytes(encoded(bad))
    put_there(mount, again)
    watcher.until("new.png")


def test_a_folder_that_is_renamed_and_made_anew(tmp_path: Path, bad: NDArray[np.uint8]) -> None:
    watched = tmp_path / "in"
    watched.mkdir()
    watcher = Watcher(watched)
    watched.rename(tmp_path / "yesterday")
    watched.mkdir()
    (watched / "1.png").write_bytes(encoded(bad))
    watcher.until("1.png")


def test_while_the_share_is_away_nobody_can_write(
    tmp_path: Path, bad: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "GIVEN_UP", 1.0)
    share, mount = tmp_path / "share", tmp_path / "mount"
    share.mkdir()
    put_there(mount, share)
    watcher = Watcher(mount)
    (share / "x.png").write_bytes(encoded(bad)[:100])
    watcher.nothing(0.3)
    mount.unlink()
    watcher.nothing(1.2)
    put_there(mount, share)
    watcher.nothing(0.5)
    (share / "x.png").write_bytes(encoded(bad))
    assert isinstance(watcher.until("x.png")["x.png"], Frame)


def test_a_folder_that_may_not_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = Watcher(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may do everything
    watcher.nothing(0.3)
    assert watcher.reports == [(f"The folder {tmp_path} has gone; waiting for it.", False)]
    with pytest.raises(SourceError, match=r"^Cannot watch .*: no permission to list it\.$"):
        WatchedFolder(tmp_path)
