"""Videos, and what a source is."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import Result
from videos import BAD, write_video
from workplace import command_line

from rstpm_edge.errors import UsageError
from rstpm_edge.image.decode import read_image
from rstpm_edge.sources.files import kind_of, video_frames
from rstpm_edge.sources.frames import Every, Failure, Frame, Item


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "video.avi")


@pytest.fixture
def run(model: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("RSTPM_EDGE_MODEL", str(model))
    return lambda *arguments: command_line("infer", *arguments)


def frames_of(items: list[Item]) -> list[Frame]:
    return [item for item in items if isinstance(item, Frame)]


def failures_of(items: list[Item]) -> list[str]:
    return [item.message for item in items if isinstance(item, Failure)]


# Videos


@pytest.mark.parametrize("name", ["v.avi", "v.mp4", "v.MKV", "v.mov"])
def test_every_frame_of_a_video_is_judged(run: Any, tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name)
    result = run(path, "--json")
    assert result.exit_code == 1
    assert result.stderr == ""
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["frame"] for line in lines] == list(range(30))
    assert {line["path"] for line in lines} == {str(path)}
    assert [line["seconds"] for line in lines] == pytest.approx([n / 25 for n in range(30)], abs=0.002)
    assert [line["frame"] for line in lines if line["is_anomalous"]] == list(BAD)
    assert "dropped" not in lines[0]
    *lines, summary = run(path).stdout.splitlines()
    assert lines[11].split() == ["ANOMALOUS", "score", *lines[11].split()[2:-2], str(path), "#11"]
    assert summary.startswith("30 images: 27 normal, 3 anomalous, 0 invalid, 0 failed; threshold 0.99; ")


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        (Every(), list(range(30))),
        (Every(7), [0, 7, 14, 21, 28]),
        (Every(100), [0]),
        (Every(seconds=0.2), [0, 5, 10, 15, 20, 25]),
        (Every(seconds=0.5), [0, 13, 25]),  # no drift: the next frame after 0.5 s, and the one at 1 s
        (Every(seconds=0.001), list(range(30))),
    ],
)
def test_only_frames_that_are_due(video: Path, every: Every, expected: list[int]) -> None:
    items = list(video_frames(video, "name", every))
    assert [frame.number for frame in frames_of(items)] == expected
    assert len(items) == 30  # None for each of the others, so that a caller is never kept waiting


def test_options_for_videos(run: Any, video: Path, photos: Path, tmp_path: Path) -> None:
    result = run(video, photos, "--every", "0.2s", "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line.get("frame") for line in lines] == [0, 5, 10, 15, 20, 25, None, None, None]
    assert "4 images" in run(video, "--limit", 4).stdout
    assert "2 images: 2 normal" in run(photos, "--limit", 2).stdout
    result = run(video, "--save-overlay", tmp_path / "out", "--save-map", tmp_path / "out", "--rejects-only")
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == sorted(f"video.avi.{n:06d}.{kind}.png" for n in BAD for kind in ("map", "overlay"))
    assert read_image(tmp_path / "out" / "video.avi.000010.map.png").shape == (120, 160, 3)


def test_a_frame_that_cannot_be_judged_is_told_with_its_number(run: Any, video: Path) -> None:
    result = run(video, "--roi", "100,100,100,100", "--json", "--limit", 3)
    assert result.exit_code == 3
    assert [json.loads(line)["frame"] for line in result.stdout.splitlines()] == [0, 1, 2]


def test_videos_that_were_cut_short(run: Any, tmp_path: Path) -> None:
    for name in ("v.avi", "v.mp4"):
        content = write_video(tmp_path / name).read_bytes()
        for share in (0.3, 0.9, 0.995):
            (tmp_path / name).write_bytes(content[: int(share * len(content))])
            result = run(tmp_path / name)
            assert result.exit_code == 3
            assert result.stderr == f"Error: Cannot read {tmp_path / name}: the file is truncated; copy it again.\n"
    # Matroska says how long it is: what is there is judged, and then it is told.
    content = write_video(tmp_path / "v.mkv").read_bytes()
    (tmp_path / "v.mkv").write_bytes(content[: len(content) // 2])
    result = run(tmp_path / "v.mkv", "--json")
    assert result.exit_code == 3
    *lines, last = [json.loads(line) for line in result.stdout.splitlines()]
    assert 10 < len(lines) < 20
    assert last["error"] == f"{tmp_path / 'v.mkv'} ends after {len(lines)} of 30 frames; copy it again."


def test_a_video_whose_recorder_was_stopped_is_judged_to_its_end(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi")
    content = bytearray(path.read_bytes())
    for length in (0, 0xFFFFFFFF):  # what writers put there first
        content[4:8] = struct.pack("<I", length)
        path.write_bytes(content)
        assert len(frames_of(list(video_frames(path, "name", Every())))) == 30


def test_files_that_are_no_videos(run: Any, tmp_path: Path, photos: Path) -> None:
    (tmp_path / "text.mp4").write_text("this is text\n" * 100)
    (tmp_path / "empty.avi").touch()
    (tmp_path / "folder.mkv.d").mkdir()
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/secret.ts\n#EXT-X-ENDLIST\n"
    (tmp_path / "playlist.mp4").write_text(playlist)
    for name, message in {
        "text.mp4": "it is damaged, or no video that OpenCV decodes",
        "playlist.mp4": "it is damaged, or no video that OpenCV decodes",
        "empty.avi": "the file is empty",
        "none.webm": "No such file or directory",
        "nu\0ll.avi": "the name has a null byte",
    }.items():
        failures = failures_of(list(video_frames(tmp_path / name, "name", Every())))
        assert failures == [f"Cannot read {tmp_path / name}: {message}."]
    result = run(tmp_path / "text.mp4", photos / "1.png")
    assert result.exit_code == 3
    assert "1 normal, 0 anomalous, 0 invalid, 1 failed" in result.stdout  # the others are judged all the same
    assert len(result.stderr.splitlines()) == 1


def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.avi"))
    path.write_bytes(write_video(tmp_path / "v.avi").read_bytes())
    assert len(frames_of(list(video_frames(path, "name", Every())))) == 30


# What a source is


def test_kinds(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "rtsp:").mkdir()
    odd = tmp_path / "a ! b.png"
    odd.touch()
    for source, kind in {
        "camera:0": "camera",
        "camera:12,size=640x480": "camera",
        "/dev/video3": "camera",
        "/dev/v4l/by-id/usb-x": "camera",
        "aravis:10.0.0.7,format=Mono8": "camera",
        "aravis:": "camera",
        "/dev/null": "image",
        "rtsp://user:pw@host/1": "stream",
        "HTTP://host/video.mjpg": "stream",
        "v4l2src ! videoconvert ! appsink": "pipeline",
        "rtspsrc location=rtsp://host/1 ! decodebin ! appsink": "pipeline",
        str(photos): "folder",
        "part.png": "image",
        "part": "image",
        "part.MP4": "video",
        str(odd): "image",
    }.items():
        assert kind_of(source) == kind, source
    with pytest.raises(UsageError, match=r"^Cannot read gopher://host/1: streams are http, https, rtmp, "):
        kind_of("gopher://host/1")
    with pytest.raises(UsageError, match=r"^Cannot read ftp://me:\*\*\*@host/1: "):
        kind_of("ftp://me:secret@host/1")


def test_what_does_not_go_together(run: Any, photos: Path, video: Path) -> None:
    example = "x,y,width,height in pixels of the photo, such as 100,50,640,480"
    no_image = "it is not a PNG, JPEG, BMP or TIFF image"
    for arguments, message in [
        ([photos, "--every", 2], "--every is for videos, cameras and streams."),
        ([video, "--every", "often"], "--every is a number of frames or a time, such as 10 or 0.5s, not 'often'."),
        ([photos, "camera:0"], "A camera or stream must be the only source: start rstpm-edge once for each."),
        ([video, "--watch"], "--watch takes one folder."),
        ([photos, photos, "--watch"], "--watch takes one folder."),
        ([photos, "--roi", "1,2,3"], f"--roi is {example}, or full, not '1,2,3'."),
        ([photos, "--mask", video], f"The mask {video} cannot be used. Cannot read {video}: {no_image}."),
    ]:
        result = run(*arguments)
        assert result.exit_code == 2
        assert (result.stdout, result.stderr) == ("", f"Error: {message}\n")
    assert run(photos, "--limit", 0).exit_code == 2


# ROI and mask on the command line


def test_roi_and_mask(run: Any, tmp_path: Path, photos: Path, bad: Any) -> None:
    path = photos / "sub" / "2.jpg"
    line = json.loads(run(path, "--roi", "40,20,100,80", "--json").stdout)
    assert line["is_anomalous"]
    assert line["roi"] == [40, 20, 100, 80]
    assert 80 <= line["position"][0] < 120
    assert run(path, "--roi", "0,60,70,60").exit_code == 0
    assert "roi" not in json.loads(run(path, "--roi", "full", "--json").stdout)
    result = run(path, "--roi", "100,100,100,100")
    assert result.exit_code == 3
    assert result.stderr == (
        f"Error: Cannot judge {path}: The ROI 100,100,100,100 reaches beyond the image, which has 160×120 pixels.\n"
    )
    mask = np.full((120, 160), 255, np.uint8)
    mask[10:80, 60:140] = 0
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    assert run(path).exit_code == 1
    assert run(path, "--mask", tmp_path / "mask.png").exit_code == 0
    result = run(photos, "--mask", tmp_path / "mask.png")  # of another shape than two of the photos
    assert result.exit_code == 3
    assert result.stderr == "".join(
        f"Error: Cannot judge {photos / name}: The mask {tmp_path / 'mask.png'} measures 160×120 pixels, which fits no "
        "photo of 70×50: draw the mask on such a photo.\n"
        for name in ("1.png", "10.png")
    )
    assert "3 images: 1 normal, 0 anomalous, 0 invalid, 2 failed" in result.stdout
