"""Cameras, streams and pipelines as they are typed: how they are opened, and what cannot be."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
from click.testing import Result
from live_source import FakeCapture, Source
from mjpeg_server import MjpegServer
from workplace import command_line

from rstpm_edge.errors import SourceError, UsageError
from rstpm_edge.sources.live import Live


@pytest.fixture
def run(model: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("RSTPM_EDGE_MODEL", str(model))
    return lambda *arguments: command_line("infer", *arguments)


# What cannot be opened


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("camera:97", "Cannot open the camera camera:97: there is no device /dev/video97."),
        ("/dev/video98,fps=30", "Cannot open the camera /dev/video98,fps=30: there is no device /dev/video98."),
        (
            "rtsp://admin:secret@127.0.0.1:9/1",
            "Cannot open rtsp://admin:***@127.0.0.1:9/1: there is no answer, no video, or it takes another user or "
            "password.",
        ),
        (
            "videotestsrc ! appsink",
            "This OpenCV was built without GStreamer, as those on PyPI are; use that of your system.",
        ),
    ],
)
def test_sources_that_do_not_open(run: Any, source: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda backend: False)
    result = run(source)
    assert result.exit_code == 3
    assert (result.stdout, result.stderr) == ("", f"Error: {message}\n")
    line = json.loads(run(source, "--json").stdout)
    assert line["error"] == message
    assert "secret" not in line["path"]


def test_a_stream_that_is_no_video(run: Any, server: MjpegServer) -> None:
    server.online = False
    result = run(server.url)
    assert result.exit_code == 3
    assert result.stderr.startswith(f"Error: Cannot open {server.url}: there is no answer, no video, ")


@pytest.mark.parametrize(
    "source",
    ["camera:", "camera:x", "camera:0,size=big", "camera:0,fps=1,size=1x1", "/dev/video0,", "camera:0,format=MJPEGS"],
)
def test_cameras_that_cannot_be(run: Any, source: str) -> None:
    result = run(source)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: A camera is camera:0 or /dev/video0, and after it any of ,format=MJPG ")
    assert len(result.stderr.splitlines()) == 1


def test_a_pipeline_without_an_end(run: Any) -> None:
    result = run("rtspsrc location=rtsp://u:pw@host/ user-pw=pw ! decodebin")
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: The pipeline 'rtspsrc location=rtsp://u:***@host/ user-pw=*** ! decodebin' must end in ` ! appsink`.\n"
    )


def test_names_that_are_no_text() -> None:
    with pytest.raises(UsageError, match="is no UTF-8"):
        Live("stream", "rtsp://host/\udcff")


# Cameras, as far as they can be had without one


def test_a_camera_is_set_up_and_let_go(camera: FakeCapture) -> None:
    with Source("camera", "camera:2,format=MJPG,size=1280x720,fps=29.97") as source:
        assert source.next().image.shape == (4, 6, 3)  # grey cameras, too
    assert camera.arguments == ("/dev/video2", cv2.CAP_V4L2)
    assert camera.properties == {
        cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*"MJPG"),
        cv2.CAP_PROP_FRAME_WIDTH: 1280,
        cv2.CAP_PROP_FRAME_HEIGHT: 720,
        cv2.CAP_PROP_FPS: 29.97,
    }
    assert camera.order[0] == cv2.CAP_PROP_FOURCC  # it decides which sizes there are
    assert camera.released


def test_a_camera_that_gives_another_size(camera: FakeCapture) -> None:
    with pytest.raises(SourceError, match=r"does not do that; see `v4l2-ctl -d /dev/video0 --list-formats-ext`\.$"):
        Live("camera", "camera:0,size=4000x3000")
    assert camera.released


def test_a_camera_without_permission(camera: FakeCapture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(SourceError, match=r"no permission; is this user in the group video\?$"):
        Live("camera", "/dev/video0")


def test_a_camera_in_use(camera: FakeCapture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeCapture, "isOpened", lambda self: False)
    with pytest.raises(SourceError, match=r"/dev/video0 is in use, or no camera\.$"):
        Live("camera", "camera:0")
