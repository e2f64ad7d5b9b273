"""Files that somebody is still writing into a watched folder: judged once they are whole, and not before."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from watcher import Watcher, encoded
from writer import Writer

from rstpm_edge.sources import inotify, new_files, open_for_writing
from rstpm_edge.sources import watched_folder as watching
from rstpm_edge.sources.frames import Failure, Frame

pytestmark = pytest.mark.usefixtures("clock")


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


def test_a_file_that_is_being_written_is_not_judged_by_half(tmp_path: Path, bad: NDArray[np.uint8]) -> None:
    watcher = Watcher(tmp_path)
    # Formats whose halves OpenCV can decode, or once could.
    contents = {f"x{extension}": encoded(bad, extension) for extension in (".png", ".jpg", ".bmp", ".tif")}
    for share in (0.1, 0.5, 0.9, 1.0):
        for name, content in contents.items():
            with open(tmp_path / name, "ab") as file:
                file.write(content[file.tell() : int(share * len(content))])
        if share < 1:
            watcher.nothing(3)  # longer than a file takes to count as settled; all in all, than until it is given up
    for name, frame in watcher.until(*contents).items():
        assert isinstance(frame, Frame), name
        np.testing.assert_array_equal(frame.image, cv2.imread(str(tmp_path / name)))
    watcher.nothing()


def test_a_file_of_its_full_size_from_the_start(tmp_path: Path, bad: NDArray[np.uint8]) -> None:
    """As file servers make it: the pixels of a BMP that are not there yet are black."""
    content = encoded(bad, ".bmp")
    watcher = Watcher(tmp_path)
    with open(tmp_path / "x.bmp", "wb", buffering=0) as file:
        file.write(content[:54].ljust(len(content), b"\0"))
        for start in range(54, len(content), 8000):
            file.seek(start)
            file.write(content[start : start + 8000])
            watcher.nothing(0.3)
    (frame,) = watcher.until("x.bmp").values()
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
    assert replace(found["empty.png"], file=None) == Failure(
        str(tmp_path / "empty.png"), f"Cannot read {tmp_path}/empty.png: the file is empty."
    )
    assert "truncated" in found["x.png"].message  # type: ignore[union-attr]
    watcher.nothing()


def test_a_copy_that_stalls_is_judged_once_it_is_whole(
    tmp_path: Path, bad: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "GIVEN_UP", 0.6)
    monkeypatch.setattr(new_files, "LISTED", 0.5)
    watcher = Watcher(tmp_path)
    content = encoded(bad)
    (tmp_path / "x.png").write_bytes(content[:100])
    assert isinstance(watcher.until("x.png")["x.png"], Failure)
    watcher.nothing()
    with open(tmp_path / "x.png", "ab") as file:
        file.write(content[100:])
    assert isinstance(watcher.until("x.png")["x.png"], Frame)
    watcher.nothing()


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
    monkeypatch.setattr(open_for_writing, "_lease", lambda descriptor: None)
    monkeypatch.setattr(open_for_writing, "_open_by_us", lambda since: frozenset())
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
    monkeypatch.setattr(open_for_writing, "_is_remote", lambda device: True)
    monkeypatch.setattr(open_for_writing, "_open_by_us", lambda since: frozenset())
    monkeypatch.setattr(inotify.Notices, "add", lambda self, folder: inotify.Written())


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
