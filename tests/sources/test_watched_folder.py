"""A folder into which a camera writes, at its own pace: what is new in it, and what is left out."""

from __future__ import annotations

import os
import shutil
import time
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
from rstpm_edge.sources.inotify import Notices
from rstpm_edge.sources.watched_folder import WatchedFolder

pytestmark = pytest.mark.usefixtures("clock")


def test_only_new_images_are_judged(tmp_path: Path, bad: NDArray[np.uint8]) -> None:
    (tmp_path / "old.png").write_bytes(encoded(bad))
    watcher = Watcher(tmp_path)
    (tmp_path / "new.png").write_bytes(encoded(bad))
    (tmp_path / "note.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_bytes(encoded(bad))
    (frame,) = watcher.until("new.png").values()
    assert isinstance(frame, Frame)
    np.testing.assert_array_equal(frame.image, bad)
    assert frame.output == "new.png"
    assert frame.taken == pytest.approx((tmp_path / "new.png").stat().st_mtime)
    watcher.nothing()


def test_a_file_that_is_taken_away_at_once(tmp_path: Path, bad: NDArray[np.uint8]) -> None:
    watcher = Watcher(tmp_path)
    (tmp_path / "x.png").write_bytes(encoded(bad)[:50])
    watcher.nothing(0.3)
    (tmp_path / "x.png").unlink()
    watcher.nothing(0.3)
    (tmp_path / "x.png").write_bytes(encoded(bad))
    watcher.until("x.png")


def test_folders_that_are_made_on_the_way(tmp_path: Path, bad: NDArray[np.uint8]) -> None:
    (tmp_path / "monday").mkdir()
    watcher = Watcher(tmp_path, tmp_path / "out")
    for name in ("monday/1.png", "tuesday/shift/2.png", "out/3.png", ".hidden/4.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(encoded(bad))
    found = watcher.until("1.png", "2.png")
    assert isinstance(found["2.png"], Frame)
    assert found["2.png"].output == "tuesday/shift/2.png"
    shutil.rmtree(tmp_path / "tuesday")
    (tmp_path / "tuesday").mkdir()
    watcher.nothing()
    (tmp_path / "tuesday" / "2.png").write_bytes(encoded(bad))
    watcher.until("2.png")


def test_a_burst_comes_in_order(tmp_path: Path, bad: NDArray[np.uint8]) -> None:
    watcher = Watcher(tmp_path)
    names = [f"{number}.png" for number in range(30)]
    for name in names:
        (tmp_path / name).write_bytes(encoded(bad))
    assert list(watcher.until(*names)) == names


def test_files_of_one_time_stamp_are_told_by_their_names(tmp_path: Path, bad: NDArray[np.uint8]) -> None:
    """As copies have it that keep whole seconds: the next file may have the number, size and time of a deleted one."""
    watcher = Watcher(tmp_path)
    inodes = set()
    for number in range(3):
        path = tmp_path / f"{number}.bmp"
        path.write_bytes(encoded(bad, ".bmp"))
        os.utime(path, (1_700_000_000, 1_700_000_000))
        inodes.add(path.stat().st_ino)
        watcher.until(path.name)
        path.unlink()


def test_of_many_files_those_are_looked_at_of_which_the_kernel_tells(
    tmp_path: Path, bad: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_files, "LOOKED_AT", 3)
    monkeypatch.setattr(new_files, "LISTED", 0.3)
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(encoded(bad))
    watcher = Watcher(tmp_path)
    (tmp_path / "0.png").write_bytes(encoded(255 - bad))  # in place
    (tmp_path / "next").write_bytes(encoded(bad))
    os.replace(tmp_path / "next", tmp_path / "1.png")
    (tmp_path / "6.png").write_bytes(encoded(bad))
    watcher.until("0.png", "1.png", "6.png")
    watcher.nothing()


def test_of_many_files_one_that_has_the_inode_of_the_one_before_its_predecessor(
    tmp_path: Path, bad: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a writer that renames each file to one name leaves it, where two come between two looks at the folder."""
    monkeypatch.setattr(new_files, "LOOKED_AT", 3)
    names = [f"{number}.png" for number in range(5)]
    for name in names:
        (tmp_path / name).write_bytes(encoded(bad))
    watcher = Watcher(tmp_path)
    latest, inode = tmp_path / "0.png", (tmp_path / "0.png").stat().st_ino
    os.link(latest, tmp_path / ".kept")  # so that it has this inode again on any file system
    (tmp_path / "next").write_bytes(encoded(bad))
    os.replace(tmp_path / "next", latest)
    (tmp_path / ".kept").write_bytes(encoded(255 - bad))
    os.replace(tmp_path / ".kept", latest)
    assert latest.stat().st_ino == inode
    watcher.until("0.png")
    watcher.nothing()


def test_of_many_files_only_new_ones_are_looked_at_where_nobody_tells(
    tmp_path: Path, bad: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Notices, "_events", lambda self: iter(()))  # a network folder
    monkeypatch.setattr(new_files, "LOOKED_AT", 3)
    monkeypatch.setattr(new_files, "LISTED", 0.3)
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(encoded(bad))
    watcher = Watcher(tmp_path)
    (tmp_path / "0.png").write_bytes(encoded(255 - bad))
    watcher.nothing()
    (tmp_path / "next").write_bytes(encoded(bad))
    os.replace(tmp_path / "next", tmp_path / "1.png")
    (tmp_path / "5.png").write_bytes(encoded(bad))
    watcher.until("1.png", "5.png")
    watcher.nothing()


def test_a_link_to_an_image_is_one(tmp_path: Path, bad: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_files, "LISTED", 0.3)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "x.png").write_bytes(encoded(bad))
    (tmp_path / "in").mkdir()
    watcher = Watcher(tmp_path / "in")
    (tmp_path / "in" / "x.png").symlink_to(tmp_path / "store" / "x.png")
    (tmp_path / "in" / "broken.png").symlink_to(tmp_path / "store" / "none.png")
    watcher.until("x.png")
    watcher.nothing()


def test_a_name_that_is_used_again(tmp_path: Path, bad: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_files, "LISTED", 0.5)
    (tmp_path / "old.png").write_bytes(encoded(bad))
    watcher = Watcher(tmp_path)
    for name in ("x.png", "x.png", "old.png"):
        (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / name).write_bytes(encoded(bad))  # with the inode that the one before had, on some file systems
        watcher.until(name)
    for name in ("x.png", "old.png"):
        (tmp_path / name).write_bytes(encoded(255 - bad))  # over what was there
        (frame,) = watcher.until(name).values()
        assert isinstance(frame, Frame)
        np.testing.assert_array_equal(frame.image, 255 - bad)
    watcher.nothing()


def test_images_that_are_put_elsewhere_are_not_new(tmp_path: Path, bad: NDArray[np.uint8]) -> None:
    for name in ("batch1/1.png", "batch1/2.png", "old.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encoded(bad))
    watcher = Watcher(tmp_path)
    (tmp_path / "3.png").write_bytes(encoded(bad))
    watcher.until("3.png")
    (tmp_path / "done").mkdir()
    (tmp_path / "3.png").rename(tmp_path / "done" / "3.png")
    (tmp_path / "old.png").rename(tmp_path / "older.png")
    (tmp_path / "batch1").rename(tmp_path / "batch1_judged")
    watcher.nothing()
    (tmp_path / "batch1_judged" / "4.png").write_bytes(encoded(bad))
    watcher.until("4.png")


def test_only_the_latest_files_are_remembered(
    tmp_path: Path, bad: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_files, "REMEMBERED", 2)
    watcher = Watcher(tmp_path)
    names = [f"{number}.png" for number in range(4)]
    for name in names:
        (tmp_path / name).write_bytes(encoded(bad))
    watcher.until(*names)
    watcher.nothing()  # where they are, they are known, however many they are
    for name in names:
        (tmp_path / name).rename(tmp_path / f"moved_{name}")
    watcher.until("moved_0.png", "moved_1.png")
    watcher.nothing()


def test_a_folder_at_rest_is_not_listed_again_and_again(
    tmp_path: Path, bad: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old.png").write_bytes(encoded(bad))
    long_ago = time.time() - 100
    os.utime(tmp_path, (long_ago, long_ago))
    watcher = Watcher(tmp_path)
    listed: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))  # type: ignore[func-returns-value]
    watcher.nothing(0.5)
    assert listed == []
    (tmp_path / "new.png").write_bytes(encoded(bad))
    watcher.until("new.png")
    assert listed


def test_what_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"^Cannot watch .*/none: it is not there\.$"):
        WatchedFolder(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match=r"^Cannot watch .*/file: it is no folder\.$"):
        WatchedFolder(tmp_path / "file")


def test_photos_of_any_name_behind_links_too(tmp_path: Path, bad: NDArray[np.uint8]) -> None:
    incoming, store = tmp_path / "in", tmp_path / "store"
    incoming.mkdir()
    store.mkdir()
    (store / "old.png").write_bytes(encoded(bad))
    (incoming / "linked").symlink_to(store)
    (incoming / "up").symlink_to(tmp_path)
    (store / "back").symlink_to(incoming)
    watcher = Watcher(incoming)
    for path in (incoming / "1", incoming / "2.001", incoming / "3.JPE", store / "4.dib", store / "5.png"):
        path.write_bytes(encoded(bad, ".bmp"))
    (tmp_path / "beside.png").write_bytes(encoded(bad))
    found = watcher.until("1", "2.001", "3.JPE", "4.dib", "5.png")
    assert all(isinstance(item, Frame) for item in found.values())
    watcher.nothing()
    assert watcher.said == []


def test_what_is_no_image_is_left_out_and_counted(tmp_path: Path, bad: NDArray[np.uint8]) -> None:
    watcher = Watcher(tmp_path)
    (tmp_path / "1.txt").write_text("no image")
    watcher.nothing()
    (tmp_path / "2.txt").write_text("no image")
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "nothing")
    (tmp_path / "x.gif").write_bytes(b"GIF89a" + bytes(90))
    (tmp_path / "x.png.part").write_bytes(encoded(bad))
    (tmp_path / ".x.png.Ab12Cd").write_bytes(encoded(bad))  # as rsync has it
    (tmp_path / "last.png").write_bytes(encoded(bad))
    found = watcher.until("last.png", "x.gif")
    assert isinstance(found["x.gif"], Failure)  # a picture by its name is no gap
    with open(tmp_path / "1.txt", "a") as file:
        file.write(", still")
    watcher.nothing()
    assert dict(watcher.left_out.counts) == {"no image": 2, "special": 2, "dangling": 1}
    assert watcher.left_out.summary() == "left out 2 no images, 2 no regular files, 1 link that leads nowhere"
    assert watcher.said[0] == f"Left out {tmp_path / '1.txt'}: no image. Further ones are only counted."
    assert len(watcher.said) == 3


def test_a_file_that_turns_into_a_fifo(tmp_path: Path, bad: NDArray[np.uint8]) -> None:
    watcher = Watcher(tmp_path, settle=1)
    (tmp_path / "x.png").write_bytes(encoded(bad))
    watcher.nothing(0.3)
    (tmp_path / "x.png").unlink()
    os.mkfifo(tmp_path / "x.png")
    watcher.nothing(1.5)


def test_a_file_that_may_not_be_read(tmp_path: Path, bad: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "GIVEN_UP", 0.6)
    real, access = os.open, os.access

    def refuse(path: Any, *rest: Any, **words: Any) -> int:
        if str(path).endswith("x.png"):
            raise PermissionError(13, "Permission denied")
        return real(path, *rest, **words)

    monkeypatch.setattr(os, "open", refuse)  # root may read everything
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("x.png") and access(path, mode))
    monkeypatch.setattr(
        watching, "image_frame", lambda path, output, taken: Failure(str(path), "Cannot read: Permission denied.")
    )
    watcher = Watcher(tmp_path)
    (tmp_path / "x.png").write_bytes(encoded(bad))
    assert isinstance(watcher.until("x.png")["x.png"], Failure)
    watcher.nothing()
