"""Frames of damaged videos and streams are not judged, but counted and told; those of whole ones are as they were."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import Result
from mjpeg_server import MjpegServer
from videos import images, packets, write_moving
from workplace import command_line

from rstpm_edge.sources import capture
from rstpm_edge.sources import video as video_file
from rstpm_edge.sources.files import video_frames
from rstpm_edge.sources.frames import Every, Failure, Frame, Item
from rstpm_edge.sources.live import Live

KEY = 12  # frames from one key frame to the next in MPEG-4
MPEG4 = [("v.mp4", "mp4v"), ("v.mkv", "mp4v"), ("v.avi", "XVID")]
MJPEG = [("v.avi", "MJPG"), ("v.mkv", "MJPG"), ("v.mov", "MJPG")]
OTHERS = [("v.mpg", "PIM1"), ("v.ts", "mp2v"), ("v.wmv", "WMV2"), ("v.avi", "MPNG"), ("v.webm", "VP80")]


@pytest.fixture
def run(model: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("RSTPM_EDGE_MODEL", str(model))
    return lambda *arguments: command_line("infer", *arguments)


def read(path: Path, every: Every | None = None) -> tuple[dict[int, Frame], list[int | None]]:
    """Frames by their number, and the numbers of those that failed."""
    items: list[Item] = list(video_frames(path, "name", every or Every()))
    frames = {item.number: item for item in items if isinstance(item, Frame) and item.number is not None}
    return frames, [item.number for item in items if isinstance(item, Failure)]


def overwrite(path: Path, start: int, new: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(start)
        file.write(new)


def noise(length: int) -> bytes:
    return np.random.default_rng(1).integers(0, 256, length, dtype=np.uint8).tobytes()


@pytest.mark.parametrize(("name", "codec"), MPEG4 + MJPEG + OTHERS)
def test_a_whole_video_gives_what_it_gave(tmp_path: Path, name: str, codec: str) -> None:
    path = write_moving(tmp_path / name, codec)
    frames, failed = read(path)
    wanted = images(path)
    assert failed == []
    assert list(frames) == list(range(len(wanted)))
    assert len(wanted) == 48
    assert all(np.array_equal(frames[number].image, image) for number, image in enumerate(wanted))


@pytest.mark.parametrize("kind", ["noise", "zeros", "cut short"])
@pytest.mark.parametrize(("name", "codec"), MPEG4)
def test_what_is_made_of_a_damaged_frame_is_damaged(tmp_path: Path, name: str, codec: str, kind: str) -> None:
    path = write_moving(tmp_path / name, codec)
    before = images(path)
    start, end = packets(path)[15]
    half = (start + end) // 2
    overwrite(path, half, {"noise": noise(60), "zeros": bytes(end - half), "cut short": b"\xff" * (end - half)}[kind])
    frames, failed = read(path)
    assert failed == list(range(15, 2 * KEY))  # up to the next key frame, and no further
    assert all(np.array_equal(frame.image, before[number]) for number, frame in frames.items())
    assert not np.array_equal(images(path)[15], before[15])  # which is what was judged


@pytest.mark.parametrize("kind", ["noise", "zeros", "cut short"])
@pytest.mark.parametrize(("name", "codec"), MJPEG)
def test_a_damaged_jpeg_is_damaged_alone(tmp_path: Path, name: str, codec: str, kind: str) -> None:
    path = write_moving(tmp_path / name, codec)
    before = images(path)
    start, end = packets(path)[15]
    half = (start + end) // 2
    new = {"noise": noise(40), "zeros": bytes(end - half), "cut short": b"\xff\xd9" + bytes(end - half - 2)}[kind]
    overwrite(path, half, new)
    frames, failed = read(path)
    assert failed == [15]
    assert all(np.array_equal(frame.image, before[number]) for number, frame in frames.items())


@pytest.mark.parametrize(("name", "codec"), [("v.mp4", "mp4v"), ("v.mov", "MJPG")])
def test_frames_that_are_gone_keep_their_numbers(tmp_path: Path, name: str, codec: str) -> None:
    path = write_moving(tmp_path / name, codec)
    before = images(path)
    places = packets(path)
    for number in (17, 18, 19):
        overwrite(path, places[number][0], bytes(places[number][1] - places[number][0]))
    frames, failed = read(path)
    assert failed == ([17, 18, 19] if codec == "MJPG" else list(range(17, 2 * KEY)))
    assert all(np.array_equal(frame.image, before[number]) for number, frame in frames.items())
    assert len(frames) + len(failed) == 48
    _, failed = read(path, Every(6))
    assert failed == [18]


def test_a_key_frame_that_is_missing(tmp_path: Path) -> None:
    path = write_moving(tmp_path / "v.mp4", "mp4v")
    start, end = packets(path)[KEY]
    overwrite(path, start, bytes(end - start))
    assert read(path)[1] == list(range(KEY, 2 * KEY))
    path = write_moving(tmp_path / "first.avi", "XVID")
    start, end = packets(path)[0]
    overwrite(path, start, bytes(end - start))
    frames, failed = read(path)
    assert len(failed) >= KEY - 1
    assert all(number >= KEY - 1 for number in frames)


def test_on_the_command_line(run: Any, tmp_path: Path) -> None:
    path = write_moving(tmp_path / "v.mp4", "mp4v")
    start, end = packets(path)[44]
    overwrite(path, start + 20, bytes(end - start - 20))
    result = run(path, "--json")
    assert result.exit_code == 3
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["frame"] for line in lines] == list(range(48))
    assert [line["frame"] for line in lines if "error" in line] == [44, 45, 46, 47]
    assert lines[44] == {
        "path": str(path),
        "frame": 44,
        "verdict": "failed",
        "error": f"Frame 44 of {path} is damaged.",
    }
    result = run(path)
    assert ", 4 failed; " in result.stdout
    assert result.stderr.splitlines()[0] == f"Error: Frame 44 of {path} is damaged."


def test_videos_that_are_no_files(run: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "zero.avi").symlink_to("/dev/zero")
    (tmp_path / "folder.mkv").mkdir()
    with open(tmp_path / "sparse.mov", "wb") as sparse:
        sparse.truncate(3 << 30)
    for name, message in {
        "pipe.mp4": "it is not a regular file",
        "zero.avi": "it is not a regular file",
        "sparse.mov": "it is damaged, or no video that OpenCV decodes",
    }.items():
        result = run(tmp_path / name)
        assert (result.exit_code, result.stderr) == (3, f"Error: Cannot read {tmp_path / name}: {message}.\n")


# Streams


def halved(jpeg: bytes) -> bytes:
    return jpeg[: len(jpeg) // 2]


def closed(jpeg: bytes) -> bytes:
    """With its end mark, as if it were whole."""
    return jpeg[:-30] + b"\xff\xd9"


@pytest.mark.parametrize("damage", [halved, closed])
def test_damaged_frames_of_a_stream_are_counted(run: Any, damage: Callable[[bytes], bytes]) -> None:
    with MjpegServer() as server:
        server.damage = lambda number, jpeg: damage(jpeg) if number > 2 and number % 2 else jpeg
        result = run(server.url, "--limit", 20, "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert not any(line["frame"] % 2 for line in lines if line["frame"] > 2)
    assert lines[-1]["dropped"] >= lines[-1]["damaged"] >= 8
    note = result.stderr.splitlines()[-1].split("; ")[-1]
    assert note.startswith(f"{int(note.split()[0])} frames dropped, ")
    assert note.endswith(" of them damaged")


def test_a_stream_of_damaged_frames_only_is_no_silence() -> None:
    """Whoever waits for a frame is given None, and sees the count rise."""
    with MjpegServer() as server:
        server.damage = lambda number, jpeg: halved(jpeg) if number > 5 else jpeg
        live = Live("stream", server.url)
        try:
            for item in live:
                if live.damaged > 3 and item is None:
                    break
        finally:
            live.close()
    assert live.dropped >= live.damaged > 3


# What FFmpeg says


def test_complaints_of_other_threads_are_not_ours(tmp_path: Path) -> None:
    path = write_moving(tmp_path / "v.avi", "MJPG", frames=4)
    start, end = packets(path)[1]
    overwrite(path, (start + end) // 2, bytes((end - start) // 2))
    own = capture.Damage(capture.open_video(str(path), threads=1))
    before = capture.complaints()
    thread = threading.Thread(target=read, args=(path,))
    thread.start()
    thread.join()
    assert capture.complaints() > before
    assert not own.update()
    assert not own.damaged


def test_a_key_frame_read_before_the_damage_does_not_heal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where frames are reordered, a decoder is some packets ahead of what it shows."""
    # One frame of delay: in the second grab the damaged key packet is read, and in the third its frame is shown.
    counts, keys, kinds = [0, 1, 1, 1, 1], [False, True, False, True, False], "PPIPI"
    number = 0
    monkeypatch.setattr(capture._native, "complaints_in_thread", lambda: counts[number])

    class Reordering:
        def get(self, prop: int) -> float:
            if prop == cv2.CAP_PROP_LRF_HAS_KEY_FRAME:
                return float(keys[number])
            return float(ord(kinds[number])) if prop == cv2.CAP_PROP_FRAME_TYPE else 0.0

    damage = capture.Damage(Reordering())  # type: ignore[arg-type]
    found = []
    for number in range(5):  # noqa: B007
        damage.update()
        found.append(damage.damaged)
    assert found == [False, True, True, True, False]


def test_the_rest_of_an_endless_video_without_pictures_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless:
        def grab(self) -> bool:
            return False

        def get(self, prop: int) -> float:
            return 25.0

    complaints = iter(range(10**6))
    monkeypatch.setattr(capture._native, "complaints_in_thread", lambda: next(complaints))
    monkeypatch.setattr(video_file, "MOST_LOST", 10)
    assert len(list(video_file._checked(Endless()))) == 11  # type: ignore[arg-type]
