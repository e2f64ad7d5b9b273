"""A folder into which a camera writes, at its own pace."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from notify_socket import NotifySocket
from numpy.typing import NDArray
from workplace import command_line, finish, running
from writer import Writer

from rstpm_edge import Detector
from rstpm_edge.errors import SourceError
from rstpm_edge.outputs.verdict_json import verdict_fields
from rstpm_edge.sources import watched_folder as watching
from rstpm_edge.sources import writers
from rstpm_edge.sources.camera import output_name
from rstpm_edge.sources.frames import Failure, Frame, Item
from rstpm_edge.sources.watched_folder import LeftOut, watch


def encoded(image: NDArray[np.uint8], extension: str = ".png") -> bytes:
    return cv2.imencode(extension, image)[1].tobytes()


def put_there(mount: Path, folder: Path) -> None:
    """As if `folder` were mounted at `mount`."""
    mount.unlink(missing_ok=True)
    mount.symlink_to(folder)


class Watcher:
    """Collects what `watch` gives."""

    def __init__(self, folder: Path, *leave_out: Path, settle: float = watching.SETTLED) -> None:
        self.reports: list[tuple[str, bool]] = []
        self.said: list[str] = []
        self.left_out = LeftOut(self.said.append)
        self._items: Iterator[Item] = watch(
            folder,
            leave_out,
            settle=settle,
            report=lambda *said: self.reports.append(said),
            left_out=self.left_out,
        )
        next(self._items)  # what is there already is looked at when the first is asked for

    def until(self, *names: str, seconds: float = 20) -> dict[str, Frame | Failure]:
        """What comes until all of these files have; nothing else may."""
        found: dict[str, Frame | Failure] = {}
        deadline = time.monotonic() + seconds
        while len(found) < len(names):
            assert time.monotonic() < deadline, f"only {sorted(found)} came"
            item = next(self._items)
            if item is not None:
                found[Path(item.source).name] = item
        assert sorted(found) == sorted(names)
        return found

    def nothing(self, seconds: float = 0.8) -> None:
        """Nothing may come for a while."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert next(self._items) is None


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


def test_a_file_that_is_being_written_is_not_judged_by_half(tmp_path: Path, bad: NDArray[np.uint8]) -> None:
    watcher = Watcher(tmp_path)
    # Formats whose halves OpenCV can decode, or once could.
    contents = {f"x{extension}": encoded(bad, extension) for extension in (".png", ".jpg", ".bmp", ".tif")}

    def write_slowly() -> None:
        for share in (0.1, 0.5, 0.9, 1.0):  # slower than a file takes to count as settled
            for name, content in contents.items():
                with open(tmp_path / name, "ab") as file:
                    file.write(content[file.tell() : int(share * len(content))])
            time.sleep(0.5)

    writer = threading.Thread(target=write_slowly)
    writer.start()
    frames = watcher.until(*contents)
    writer.join()
    for name, frame in frames.items():
        assert isinstance(frame, Frame), name
        np.testing.assert_array_equal(frame.image, cv2.imread(str(tmp_path / name)))
    watcher.nothing()


def test_a_file_of_its_full_size_from_the_start(tmp_path: Path, bad: NDArray[np.uint8]) -> None:
    """As file servers make it: the pixels of a BMP that are not there yet are black."""
    content = encoded(bad, ".bmp")
    watcher = Watcher(tmp_path)

    def write() -> None:
        with open(tmp_path / "x.bmp", "wb") as file:
            file.write(content[:54].ljust(len(content), b"\0"))
            for start in range(54, len(content), 8000):
                file.seek(start)
                file.write(content[start : start + 8000])
                file.flush()
                time.sleep(0.05)

    writer = threading.Thread(target=write)
    writer.start()
    (frame,) = watcher.until("x.bmp").values()
    writer.join()
    assert isinstance(frame, Frame)
    np.testing.assert_array_equal(frame.image, bad)


def test_a_file_that_is_renamed_when_it_is_whole(tmp_path: Path, bad: NDArray[np.uint8]) -> None:
    watcher = Watcher(tmp_path)
    (tmp_path / "x.png.part").write_bytes(encoded(bad))
    watcher.nothing()
    os.rename(tmp_path / "x.png.part", tmp_path / "x.png")
    watcher.until("x.png")
    for _ in range(2):  # cameras that always write to the same name
        (tmp_path / "next").write_bytes(encoded(bad))
        os.replace(tmp_path / "next", tmp_path / "x.png")
        watcher.until("x.png")
    watcher.nothing()


def test_a_file_that_never_becomes_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "GIVEN_UP", 1.0)
    watcher = Watcher(tmp_path)
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "empty.png").touch()
    found = watcher.until("x.png", "empty.png")
    assert found["empty.png"] == Failure(
        str(tmp_path / "empty.png"), f"Cannot read {tmp_path}/empty.png: the file is empty."
    )
    assert "truncated" in found["x.png"].message  # type: ignore[union-attr]
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
    monkeypatch.setattr(watching, "LISTED", 0.5)
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
    monkeypatch.setattr(watching, "REMEMBERED", 1)
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


def test_of_many_files_only_new_ones_are_looked_at(
    tmp_path: Path, bad: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "LOOKED_AT", 3)
    monkeypatch.setattr(watching, "LISTED", 0.3)
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(encoded(bad))
    watcher = Watcher(tmp_path)
    (tmp_path / "0.png").write_bytes(encoded(255 - bad))  # in place, which is not seen then
    watcher.nothing()
    (tmp_path / "next").write_bytes(encoded(bad))
    os.replace(tmp_path / "next", tmp_path / "1.png")
    (tmp_path / "5.png").write_bytes(encoded(bad))
    watcher.until("1.png", "5.png")
    watcher.nothing()


def test_a_link_to_an_image_is_one(tmp_path: Path, bad: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LISTED", 0.3)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "x.png").write_bytes(encoded(bad))
    (tmp_path / "in").mkdir()
    watcher = Watcher(tmp_path / "in")
    (tmp_path / "in" / "x.png").symlink_to(tmp_path / "store" / "x.png")
    (tmp_path / "in" / "broken.png").symlink_to(tmp_path / "store" / "none.png")
    watcher.until("x.png")
    watcher.nothing()


def test_a_name_that_is_used_again(tmp_path: Path, bad: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LISTED", 0.5)
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
    monkeypatch.setattr(watching, "REMEMBERED", 2)
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


def test_a_copy_that_stalls_is_judged_once_it_is_whole(
    tmp_path: Path, bad: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "GIVEN_UP", 0.6)
    monkeypatch.setattr(watching, "LISTED", 0.5)
    watcher = Watcher(tmp_path)
    content = encoded(bad)
    (tmp_path / "x.png").write_bytes(content[:100])
    assert isinstance(watcher.until("x.png")["x.png"], Failure)
    watcher.nothing()
    with open(tmp_path / "x.png", "ab") as file:
        file.write(content[100:])
    assert isinstance(watcher.until("x.png")["x.png"], Frame)
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
        watch(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match=r"^Cannot watch .*/file: it is no folder\.$"):
        watch(tmp_path / "file")


def test_a_folder_that_may_not_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = Watcher(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may do everything
    watcher.nothing(0.3)
    assert watcher.reports == [(f"The folder {tmp_path} has gone; waiting for it.", False)]
    with pytest.raises(SourceError, match=r"^Cannot watch .*: no permission to list it\.$"):
        watch(tmp_path)


def test_a_folder_that_is_not_there_yet_is_no_wrong_use(model: Path, tmp_path: Path) -> None:
    result = command_line("infer", tmp_path / "share", "--watch", "--model", model)
    assert result.exit_code == 3  # after which a service is started again
    assert result.stderr == f"Error: Cannot watch {tmp_path / 'share'}: it is not there.\n"


@pytest.mark.parametrize(
    ("stamp", "time"),
    [
        (1e15, None),
        (-1e15, None),
        (float(1 << 63), None),
        (253402300800.0, None),  # the first second of the year 10000
        (-1.5, "1969-12-31T23:59:58.500+00:00"),
        (1.25, "1970-01-01T00:00:01.250+00:00"),
    ],
)
def test_a_time_stamp_that_is_no_date(
    model: Path, tmp_path: Path, bad: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, stamp: float, time: str | None
) -> None:
    frame = Frame("x.png", bad, "x.png", 1.0, taken=stamp)
    assert verdict_fields(frame, Detector(model)(bad), 1.0)["time"] == time
    assert output_name("camera:0", stamp).startswith("camera_0-")


# Files whose size says nothing, and who writes them


FORMATS = (".bmp", ".tif", ".png", ".jpg")


def stored(folder: Path, image: NDArray[np.uint8], extension: str) -> Path:
    """The image as a file beside the folder that is watched; of a BMP or TIFF the pixels are not compressed."""
    options = [cv2.IMWRITE_TIFF_COMPRESSION, 1] if extension == ".tif" else []
    path = folder.parent / f"{folder.name}-whole{extension}"
    assert cv2.imwrite(str(path), image, options)
    return path


@pytest.fixture
def noise() -> NDArray[np.uint8]:
    """A photo without a black pixel."""
    return np.random.default_rng(0).integers(1, 256, (120, 160, 3)).astype(np.uint8)


@pytest.mark.parametrize("how", ["ftruncate", "fallocate", "zeros", "mmap"])
@pytest.mark.parametrize("extension", FORMATS)
def test_a_file_is_not_judged_while_another_process_writes_it(
    tmp_path: Path, noise: NDArray[np.uint8], extension: str, how: str
) -> None:
    whole = stored(tmp_path, noise, extension)
    size, watcher = whole.stat().st_size, Watcher(tmp_path)
    with Writer(tmp_path / f"x{extension}", whole, how) as writer:
        writer("reserve")
        watcher.nothing(0.4)
        writer("write", 0, size // 2)
        watcher.nothing(0.8)
        writer("write", size // 2, size)
        watcher.nothing(0.4)
        writer("close")
        (frame,) = watcher.until(f"x{extension}").values()
    assert isinstance(frame, Frame)
    np.testing.assert_array_equal(frame.image, cv2.imread(str(whole)))
    watcher.nothing(0.3)


@pytest.mark.parametrize("extension", [".bmp", ".tif"])
def test_a_file_that_is_opened_anew_for_each_piece(tmp_path: Path, noise: NDArray[np.uint8], extension: str) -> None:
    """Its holes say that it is not whole."""
    whole = stored(tmp_path, np.tile(noise, (3, 1, 1)), extension)
    size, watcher = whole.stat().st_size, Watcher(tmp_path, settle=1)
    with Writer(tmp_path / f"x{extension}", whole) as writer:
        writer("reserve")
        writer("write", 0, size // 3)
        writer("write", size - 5000, size)  # where a TIFF has its directory
        writer("close")
        watcher.nothing(2.5)
        writer("reopen")
        writer("write", size // 3, size)
        writer("close")
        assert isinstance(watcher.until(f"x{extension}")[f"x{extension}"], Frame)


def test_a_file_of_another_user(tmp_path: Path, noise: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    """No lease is to be had, and their processes are not to be seen; the kernel notifies of what they do."""
    monkeypatch.setattr(writers, "_lease", lambda descriptor: None)
    monkeypatch.setattr(writers, "_open_by_us", lambda since: frozenset())
    whole = stored(tmp_path, noise, ".bmp")
    size, watcher = whole.stat().st_size, Watcher(tmp_path)
    with Writer(tmp_path / "x.bmp", whole, "zeros") as writer:
        for start, end in ((0, size // 2), (size // 2, size)):
            writer("reserve")
            writer("write", start, end)
            watcher.nothing(0.8)
        writer("write", 0, size)
        watcher.nothing(0.4)
        writer("close")
        assert isinstance(watcher.until("x.bmp")["x.bmp"], Frame)


@pytest.fixture
def in_the_dark(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of another host, whose writers nobody knows here."""
    monkeypatch.setattr(writers, "_is_remote", lambda device: True)
    monkeypatch.setattr(writers, "_open_by_us", lambda since: frozenset())
    monkeypatch.setattr(writers.Notices, "add", lambda self, folder: writers.Written())


def test_blocks_of_zeros_where_nobody_knows_who_writes(
    tmp_path: Path, noise: NDArray[np.uint8], in_the_dark: None
) -> None:
    whole = stored(tmp_path, noise, ".bmp")
    content, watcher = whole.read_bytes(), Watcher(tmp_path, settle=1)
    (tmp_path / "x.bmp").write_bytes(content[:30_000].ljust(len(content), b"\0"))
    watcher.nothing(2.5)
    (tmp_path / "x.bmp").write_bytes(content)
    frame = watcher.until("x.bmp")["x.bmp"]
    assert isinstance(frame, Frame)
    np.testing.assert_array_equal(frame.image, noise)


def test_a_photo_that_is_black_comes_late_but_it_comes(
    tmp_path: Path, noise: NDArray[np.uint8], in_the_dark: None
) -> None:
    noise[60:] = 0
    content, watcher = stored(tmp_path, noise, ".bmp").read_bytes(), Watcher(tmp_path, settle=0.1)
    (tmp_path / "x.bmp").write_bytes(content)
    watcher.nothing(0.5)
    assert isinstance(watcher.until("x.bmp")["x.bmp"], Frame)


def test_time_to_settle_and_a_file_that_is_renamed_into_its_place(tmp_path: Path, bad: NDArray[np.uint8]) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    watcher = Watcher(folder, settle=60)
    (folder / "slow.png").write_bytes(encoded(bad))
    watcher.nothing(1)
    (tmp_path / "x").write_bytes(encoded(bad))
    (folder / "y.png.part").write_bytes(encoded(bad))
    os.rename(tmp_path / "x", folder / "x.png")
    os.rename(folder / "y.png.part", folder / "y.png")
    watcher.until("x.png", "y.png")  # at once
    watcher.nothing(0.5)


def test_a_file_that_is_held_open_is_told_of_and_judged_once_it_is_closed(
    tmp_path: Path, bad: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "HELD", 0.5)
    watcher = Watcher(tmp_path)
    with open(tmp_path / "x.png", "wb", buffering=0) as file, open(tmp_path / "run.log", "w") as log:
        log.write("no image, and always open")
        log.flush()
        file.write(encoded(bad))
        failure = watcher.until("x.png")["x.png"]
        assert isinstance(failure, Failure)
        assert "another process still has it open for writing" in failure.message
        watcher.nothing(1.5)
    assert isinstance(watcher.until("x.png")["x.png"], Frame)
    watcher.nothing(1.5)
    assert watcher.said == [f"Left out {tmp_path / 'run.log'}: no image. Further ones are only counted."]


def test_a_file_that_is_written_to_while_it_is_read(
    tmp_path: Path, bad: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher, read = Watcher(tmp_path), watching.image_frame
    seen = []

    def late(path: Path, output: str, taken: float | None = None) -> Frame | Failure:
        frame = read(path, output, taken)
        if not seen:
            seen.append(frame)
            path.write_bytes(encoded(255 - bad))
        return frame

    monkeypatch.setattr(watching, "image_frame", late)
    (tmp_path / "x.png").write_bytes(encoded(bad))
    frame = watcher.until("x.png")["x.png"]
    assert isinstance(frame, Frame)
    np.testing.assert_array_equal(frame.image, 255 - bad)
    watcher.nothing(0.5)


# What is taken, and what is left out


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


# On the command line


def test_settling_is_of_watched_folders(model: Path, tmp_path: Path) -> None:
    result = command_line("infer", tmp_path, "--settle", 1, "--model", model)
    assert (result.exit_code, result.stderr) == (2, "Error: --settle goes with --watch only.\n")


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_watching(model: Path, tmp_path: Path, good: NDArray[np.uint8], bad: NDArray[np.uint8]) -> None:
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    (incoming / "old.png").write_bytes(encoded(bad))
    printed = tmp_path / "printed"
    arguments = [incoming, "--watch", "--json", "--model", model, "--save-overlay", incoming / "out"]
    with (
        open(printed, "w") as output,
        NotifySocket(tmp_path / "notify") as systemd,
        running("infer", *arguments, stdout=output, env=systemd.environment) as process,
    ):
        assert systemd.receive() == "READY=1"
        for name, image in (("1.png", good), ("2.png", bad)):
            (incoming / name).write_bytes(encoded(image))
            wait_for(lambda name=name: name in printed.read_text())  # type: ignore[misc]
        process.send_signal(signal.SIGTERM)
        code, _, errors = finish(process, 60)
    assert code == 1
    lines = [json.loads(line) for line in printed.read_text().splitlines()]
    assert [(Path(line["path"]).name, line["is_anomalous"]) for line in lines] == [("1.png", False), ("2.png", True)]
    assert all("time" in line for line in lines)
    assert errors.startswith("2 images: 1 normal, 1 anomalous, 0 failed; ")
    assert sorted(path.name for path in (incoming / "out").iterdir()) == ["1.png.overlay.png", "2.png.overlay.png"]


def test_a_picture_that_cannot_be_written_ends_no_watching(
    model: Path, tmp_path: Path, good: NDArray[np.uint8], bad: NDArray[np.uint8]
) -> None:
    incoming, out, printed = tmp_path / "incoming", tmp_path / "out", tmp_path / "printed"
    incoming.mkdir()
    arguments = [incoming, "--watch", "--json", "--model", model, "--save-overlay", out]
    with open(printed, "w") as output, running("infer", *arguments, stdout=output) as process:
        wait_for(out.exists)
        out.rmdir()
        out.write_text("no folder, as a disk that is full is none to write to")
        time.sleep(1)  # until the folder is watched
        for name in ("1.png", "2.png"):
            (incoming / name).write_bytes(encoded(bad))
            wait_for(lambda name=name: name in printed.read_text())  # type: ignore[misc]
        out.unlink()
        (incoming / "3.png").write_bytes(encoded(good))
        wait_for(lambda: "3.png" in printed.read_text())
        process.send_signal(signal.SIGTERM)
        code, _, errors = finish(process, 60)
    assert code == 2
    assert [json.loads(line)["is_anomalous"] for line in printed.read_text().splitlines()] == [True, True, False]
    trouble, better, summary = errors.splitlines()  # said once, not for each
    assert trouble == f"Error: Cannot create the folder {out}: File exists. Judging goes on without."
    assert better == "Pictures and maps can be written again."
    assert summary.startswith("3 images: 1 normal, 2 anomalous, 0 failed; ")
    assert summary.endswith("; 2 images without pictures or maps")
    assert [path.name for path in out.iterdir()] == ["3.png.overlay.png"]


def test_a_folder_that_pictures_are_written_into_is_not_watched(model: Path, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "there" / ".."):
        (tmp_path / "there").mkdir(exist_ok=True)
        result = command_line("infer", tmp_path, "--watch", "--model", model, "--save-overlay", folder)
        assert result.exit_code == 2
        assert result.stderr == (
            f"Error: Pictures and maps cannot be written into {tmp_path} itself, whose images are judged: "
            f"give another folder, such as {tmp_path / 'results'}.\n"
        )
