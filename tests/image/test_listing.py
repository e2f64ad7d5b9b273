"""Which files of a folder are taken for images, and what is said of the others: by every command that lists one."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from workplace import Workplace, command_line

from rstpm_edge.errors import ImageError
from rstpm_edge.image.listing import find_images, image_stem, list_folder

# The first bytes of pictures, whatever they are called.
BEGINNINGS = {
    "png": b"\x89PNG\r\n\x1a\n",
    "jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF\0",
    "bmp": b"BM" + bytes(12) + b"\x28\0\0\0",
    "bmp of OS/2": b"BM" + bytes(12) + b"\x0c\0\0\0",
    "tiff": b"II*\0\x08\0\0\0",
    "tiff of big endians": b"MM\0*\0\0\0\x08",
    "BigTIFF": b"II+\0\x08\0\0\0",
    "webp": b"RIFF\x10\0\0\0WEBPVP8 ",
    "pgm": b"P5\n# made by hand\n3 4\n255\n",
    "ppm": b"P6 3 4 255\n",
    "jp2": b"\0\0\0\x0cjP  \r\n\x87\n",
    "j2k": b"\xff\x4f\xff\x51\0",
    "gif": b"GIF89a",  # which cannot be read, and is to be told for that
    "heic": b"\0\0\0\x18ftypheic",
    "avif": b"\0\0\0\x1cftypavif",
}
NO_IMAGES = {
    "text": b"just some text\n",
    "a note on P5": b"P5 is the fifth part\n",
    "a note on BM": b"BMW has ordered forty more of these parts.\n",
    "json": b"{}",
    "empty": b"",
    "a video": b"\0\0\0\x18ftypmp42",
    "sound": b"RIFF\x10\0\0\0WAVEfmt ",
    "a program": b"\x7fELF",
}


def names(folder: Path, **options: Any) -> list[str]:
    return [str(path.relative_to(folder)) for path in list_folder(folder, **options).images]


def note(folder: Path, **options: Any) -> str | None:
    """What is said, from "left out" on."""
    sentence = list_folder(folder, **options).note()
    return sentence and sentence.split(": left out ")[1]


def encoded(image: NDArray[np.uint8], extension: str = ".png") -> bytes:
    return cv2.imencode(extension, image)[1].tobytes()


@pytest.mark.parametrize("name", ["photo", "photo.dat", "photo.001", "photo.txt", "photo.png.bak", "photo.JPEG "])
@pytest.mark.parametrize("kind", [*BEGINNINGS, *NO_IMAGES])
def test_where_a_name_says_nothing_the_content_does(tmp_path: Path, kind: str, name: str) -> None:
    (tmp_path / name).write_bytes({**BEGINNINGS, **NO_IMAGES}[kind])
    assert names(tmp_path) == ([name] if kind in BEGINNINGS else [])
    assert note(tmp_path) == (None if kind in BEGINNINGS else f"1 no image ({name}).")


def test_names_of_pictures_in_any_case(tmp_path: Path) -> None:
    """Whatever lies in them: a file that is called a picture and cannot be read is told of, not left out."""
    taken = [f"x.{name}" for name in ("BMP", "dib", "jfif", "jpe", "Jpeg", "JPG", "PNG", "TIF", "TiFf", "WebP", "jp2")]
    taken += [f"x.{name}" for name in ("J2K", "pgm", "pnm", "ppm", "gif", "HEIC", "avif", "nef")]
    for name in taken:
        (tmp_path / name).touch()
    assert sorted(names(tmp_path)) == sorted(taken)
    assert note(tmp_path) is None


def test_a_name_that_says_enough_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders of a hundred thousand photos, and shares: a look into each file would take minutes."""
    for number in range(3):
        (tmp_path / f"{number}.png").touch()
    opened: list[str] = []
    monkeypatch.setattr(os, "open", lambda path, *rest: opened.append(path))
    monkeypatch.setattr(os, "stat", lambda path, *rest, stat=os.stat: opened.append(path) or stat(path))  # type: ignore[func-returns-value]
    assert len(find_images(tmp_path)) == 3
    assert opened == [str(tmp_path)]


def test_what_is_left_out_is_counted_and_named(tmp_path: Path) -> None:
    for name in ("1.png", "2.png", ".a.png", "._1.png", "a.txt", "b.xml", "c.csv", "d", "3.jpg.part", "4.png.tmp"):
        (tmp_path / name).touch()
    (tmp_path / ".cache").mkdir()
    assert list_folder(tmp_path).note() == (
        f"Took 2 of 10 files in {tmp_path}: left out 2 hidden (._1.png, .a.png), 1 hidden folder (.cache), "
        "4 no images (a.txt, b.xml, c.csv, …), 2 unfinished (3.jpg.part, 4.png.tmp)."
    )
    assert "(1.png" not in str(note(tmp_path))


def test_what_systems_leave_in_every_folder_alone_is_not_told(tmp_path: Path) -> None:
    for name in ("1.png", "Thumbs.db", ".DS_Store", "desktop.ini"):
        (tmp_path / name).touch()
    assert note(tmp_path) is None
    (tmp_path / "notes.txt").touch()
    assert note(tmp_path) == "1 no image (notes.txt), 3 of the system (.DS_Store, desktop.ini, Thumbs.db)."
    assert list_folder(tmp_path).files == 5


def test_links_are_followed_and_each_folder_is_read_once(tmp_path: Path) -> None:
    photos, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    for path in (photos / "b" / "1.png", elsewhere / "2.png", elsewhere / "deep" / "3.png", tmp_path / "secret.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (photos / "a").symlink_to(photos / "b")  # comes first by its name, and is the same folder
    (photos / "c").symlink_to(elsewhere)
    (photos / "d").symlink_to(elsewhere / "deep")
    (photos / "4.png").symlink_to(elsewhere / "2.png")
    (photos / "unnamed").symlink_to(elsewhere / "2.png")  # by its own name, which says nothing, and no byte tells it
    assert names(photos) == ["4.png", "b/1.png", "c/2.png", "c/deep/3.png"]
    assert note(photos) == "1 no image (unnamed), 2 linked folders that are read already or lead up (a, d)."
    assert names(photos, recursive=False) == ["4.png"]


@pytest.mark.parametrize("target", [".", "..", "/", "b", "c"])
def test_links_that_lead_up_or_in_circles(tmp_path: Path, target: str) -> None:
    photos = tmp_path / "photos"
    for path in (photos / "b" / "1.png", photos / "c" / "2.png", tmp_path / "beside.png", tmp_path / "other" / "3.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (photos / "b" / "loop").symlink_to(photos / target)
    expected = ["b/1.png", "c/2.png"]
    assert names(photos) == expected
    assert note(photos) == "1 linked folder that is read already or leads up (b/loop)."
    (photos / "other").symlink_to(tmp_path / "other")  # and from there back
    (tmp_path / "other" / "back").symlink_to(photos)
    (tmp_path / "other" / "up").symlink_to(tmp_path)
    assert names(photos) == [*expected, "other/3.png"]


def special_files(folder: Path) -> list[str]:
    """A FIFO, a socket, a device and links to nothing and to a device, all called pictures."""
    os.mkfifo(folder / "fifo.png")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(folder)  # a socket's path is short
        try:
            listener.bind("socket.png")
        finally:
            os.chdir(here)
    os.mkfifo(folder / "fifo")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "nowhere.png").symlink_to(folder / "nothing")
    (folder / "round.png").symlink_to(folder / "round.png")
    return ["fifo", "fifo.png", "socket.png", "zero.png", "nowhere.png", "round.png"]


LEFT_OUT = "4 no regular files (fifo, fifo.png, socket.png, …), 2 links that lead nowhere (nowhere.png, round.png)."


def test_nothing_but_regular_files_is_read(tmp_path: Path) -> None:
    special_files(tmp_path)
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(3 << 30)  # of whose 3 GB the first bytes are enough
    assert names(tmp_path) == []
    assert note(tmp_path) == f"1 no image (sparse), {LEFT_OUT}"


def test_a_file_that_turns_into_a_fifo_before_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").touch()
    real = os.open

    def late(path: str, flags: int, *rest: Any) -> int:
        os.unlink(path)
        os.mkfifo(path)
        return real(path, flags, *rest)

    monkeypatch.setattr(os, "open", late)
    assert note(tmp_path) == "1 no regular file (x)."


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").touch()

    def refuse(*_: Any) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # root may read everything
    assert note(tmp_path) == "1 without permission to read (x)."


def test_folders_that_are_left_out_are_not_spoken_of(tmp_path: Path) -> None:
    for name in ("1.png", "out/1.png.overlay.png", "out/notes.txt", "outside/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "linked").symlink_to(tmp_path / "out")
    (tmp_path / "linked.png").symlink_to(tmp_path / "out" / "1.png.overlay.png")
    assert names(tmp_path, leave_out=[tmp_path / "linked"]) == ["1.png", "outside/2.png"]
    with pytest.raises(ImageError, match="Cannot list the folder"):
        list_folder(tmp_path / "none")


def test_names_without_the_extensions_of_images() -> None:
    for name, stem in {"a.png": "a", "a.b.JPG": "a.b", "a.1": "a.1", "a": "a", "a.1.png": "a.1"}.items():
        assert image_stem(Path(name)) == stem


# In the commands


@pytest.fixture
def odd(tmp_path: Path, good: NDArray[np.uint8], bad: NDArray[np.uint8]) -> Path:
    """Good parts under odd names, a defect behind a link, and what is none of them."""
    folder, store = tmp_path / "odd", tmp_path / "store"
    folder.mkdir()
    store.mkdir()
    for name in ("1.png", "2", "3.001", "4.PNG"):
        (folder / name).write_bytes(encoded(good))
    (store / "5.png").write_bytes(encoded(bad))
    (folder / "linked").symlink_to(store)
    (folder / "notes.txt").write_text("no image")
    special_files(folder)
    return folder


def told(folder: Path, taken: int = 5) -> str:
    return f"Took {taken} of {taken + 7} files in {folder}: left out 1 no image (notes.txt), {LEFT_OUT}"


def test_infer_says_what_it_leaves_out(model: Path, odd: Path) -> None:
    for options in ([], ["--json"]):
        result = command_line("infer", odd, "--model", model, *options)
        assert result.exit_code == 1
        assert result.stderr == f"{told(odd)}\n"
        lines = result.stdout.splitlines()
        if options:
            judged = {Path(line["path"]).name: line["is_anomalous"] for line in map(json.loads, lines)}
            assert judged == {"1.png": False, "2": False, "3.001": False, "4.PNG": False, "5.png": True}
        else:
            assert len(lines) == 6


def test_infer_judges_what_can_be_read_whatever_it_is_called(
    model: Path, tmp_path: Path, bad: NDArray[np.uint8]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    made = {"a.webp": ".webp", "b.jfif": ".jpg", "c.jpe": ".jpg", "d.pgm": ".pgm", "e.ppm": ".ppm", "f.jp2": ".jp2"}
    made |= {"g.DIB": ".bmp", "h": ".webp", "i.dat": ".jp2", "j.001": ".pgm", "k.png": ".jpg"}
    for name, extension in made.items():
        (photos / name).write_bytes(encoded(bad[..., 0] if extension == ".pgm" else bad, extension))
    with open(photos / "sparse.bmp", "wb") as file:
        file.write(b"BM")
        file.truncate(3 << 30)
    result = command_line("infer", photos, "--json", "--model", model)
    assert result.exit_code == 3
    lines = list(map(json.loads, result.stdout.splitlines()))
    judged = {Path(line["path"]).name: line.get("is_anomalous") for line in lines}
    assert judged == {**dict.fromkeys(made, True), "sparse.bmp": None}
    assert result.stderr.startswith(f"Error: Cannot read {photos / 'sparse.bmp'}: ")


def test_infer_tells_of_pictures_that_it_cannot_read(model: Path, odd: Path) -> None:
    for name in ("6.gif", "7"):
        (odd / name).write_bytes(b"GIF89a" + bytes(100))
    result = command_line("infer", odd, "--model", model)
    assert result.exit_code == 3
    for name in ("6.gif", "7"):
        assert f"Error: Cannot read {odd / name}: " in result.stderr
    assert "5 images: " not in result.stdout
    assert "7 images: 4 normal, 1 anomalous, 0 invalid, 2 failed" in result.stdout


def test_a_folder_of_nothing_but_others(model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    result = command_line("infer", tmp_path / "empty", "--model", model)
    assert result.exit_code == 2
    assert result.stderr == (
        f"Error: There are no images in the folder {tmp_path / 'empty'}: left out 1 no image (notes.txt).\n"
    )


def test_bench_says_what_it_leaves_out(model: Path, odd: Path) -> None:
    result = command_line("bench", odd, "--model", model, "--runs", 1)
    assert (result.exit_code, result.stderr) == (0, f"{told(odd)}\n")
    assert "5 files" in result.stdout


@pytest.fixture
def odd_parts(parts: Path, tmp_path: Path) -> Path:
    """The rendered parts, where photos and masks have odd names, and what is none of them lies between."""
    folder = tmp_path / "parts"
    shutil.copytree(parts, folder)
    good = folder / "train" / "good"
    (good / "003.png").rename(good / "003")
    (good / "004.png").rename(tmp_path / "004.png")
    (good / "004.png").symlink_to(tmp_path / "004.png")
    (good / "notes.txt").write_text("no image")
    special_files(good)
    test = folder / "test"
    kind = next(path.name for path in sorted(test.iterdir()) if path.name != "good")
    (photo,) = (test / kind).iterdir()
    (mask,) = (folder / "ground_truth" / kind).iterdir()
    photo.rename(test / kind / "000.001")
    mask.rename(mask.with_name("000.001_mask"))
    (test / kind / "notes.txt").write_text("no image")
    os.mkfifo(test / "good" / "fifo.png")
    return folder


def test_train_and_audit_say_what_they_leave_out(
    odd_parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from small_training import short_stages

    monkeypatch.chdir(tmp_path)
    good = odd_parts / "train" / "good"
    options = [odd_parts, "--size", 64]
    with short_stages():
        result = command_line("train", *options, "--epochs", 1, "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[-1] == told(good, 12)
    (run,) = (tmp_path / "runs").iterdir()
    config = json.loads((run / "config.json").read_text())
    learned = {file[0] for key in ("train", "holdout", "aside") for file in config[key]}
    assert learned == {path.name for path in find_images(good)}
    assert {"003", "004.png"} <= learned
    result = command_line("audit", *options, "--json", tmp_path / "found.json")
    assert result.exit_code in (0, 1)
    assert told(good, 12) in result.stdout.splitlines()
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["left_out"] == [told(good, 12)]
    assert found["readable"] == 12
    (good / "013.gif").write_bytes(b"GIF89a" + bytes(100))
    result = command_line("audit", *options)
    assert result.exit_code == 3
    assert "013.gif" in result.stdout


def test_evaluate_and_verify_say_what_they_leave_out(odd_parts: Path, workplace: Workplace) -> None:
    result = command_line("evaluate", odd_parts, "--model", workplace.model)
    assert result.exit_code == 0, result.stderr
    kind = next(path.name for path in sorted((odd_parts / "test").iterdir()) if path.name != "good")
    assert result.stdout.splitlines()[-2:] == [
        f"Took 1 of 2 files in {odd_parts / 'test' / kind}: left out 1 no image (notes.txt).",
        f"Took 4 of 5 files in {odd_parts / 'test' / 'good'}: left out 1 no regular file (fifo.png).",
    ]
    good = odd_parts / "train" / "good"
    result = command_line("verify", good, "--model", workplace.model, "--run", workplace.run)
    assert result.exit_code == 0
    assert result.stderr.startswith(f"{told(good, 12)}\n")
    assert result.stdout.startswith("12 images; ")
