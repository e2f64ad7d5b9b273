"""Cameras and streams: the newest frame is judged, what is dropped is counted, what is lost comes back."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import Result
from live_source import FakeCapture, Source
from mjpeg_server import MjpegServer, number_of
from waiting import until
from workplace import command_line, finish, running

from rstpm_edge.errors import SourceError
from rstpm_edge.printable import without_password
from rstpm_edge.sources import camera as opening
from rstpm_edge.sources import live
from rstpm_edge.sources.frames import Every
from rstpm_edge.sources.live import output_name


@pytest.fixture
def run(model: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("RSTPM_EDGE_MODEL", str(model))
    return lambda *arguments: command_line("infer", *arguments)


# Frames


def test_the_newest_frame_wins_and_the_others_are_counted(server: MjpegServer) -> None:
    with Source("stream", server.url) as source:
        frames = [source.next()]
        for _ in range(5):
            before = server.sent
            until(lambda before=before: server.sent > before + 20)  # type: ignore[misc]
            sent = server.sent
            frames.append(source.next())
            assert number_of(frames[-1].image) >= sent - 10  # what was on its way, and not what waited
        last = frames[-1]
    assert [frame.number for frame in frames] == sorted({frame.number for frame in frames})
    assert last.number == number_of(last.image)
    assert last.dropped == last.number - len(frames) + 1 > 50
    assert last.taken == pytest.approx(time.time(), abs=10)
    assert last.image.shape == (120, 160, 3)


def test_frames_that_are_not_due_are_not_dropped(server: MjpegServer) -> None:
    with Source("stream", server.url, every=Every(10)) as source:
        numbers = [source.next().number for _ in range(4)]
        assert numbers == [0, 10, 20, 30]
        assert source.live.dropped == 0
    with Source("stream", server.url, every=Every(seconds=0.3)) as source:
        times = [source.next().taken for _ in range(4)]
    gaps = np.diff(times)
    assert gaps[1:].min() > 0.1
    assert 0.2 < gaps[1:].mean() < 1


def test_on_the_command_line(run: Any, server: MjpegServer, tmp_path: Path) -> None:
    server.rate = 200  # more than is judged
    result = run(server.url, "--limit", 20, "--json", "--save-overlay", tmp_path / "out")
    assert result.exit_code == 0
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(lines) == 20
    assert {line["path"] for line in lines} == {server.url}
    assert lines[-1]["frame"] >= 19
    assert lines[-1]["dropped"] <= lines[-1]["frame"] - 19
    assert datetime.fromisoformat(lines[0]["time"]).tzinfo == timezone.utc
    assert result.stderr.startswith("20 images: 20 normal, 0 anomalous, 0 invalid, 0 failed; threshold 0.99; ")
    assert len(list((tmp_path / "out").iterdir())) == 20

    server.defect = True
    result = run(server.url, "--limit", 3)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0].startswith("ANOMALOUS")
    assert result.stdout.splitlines()[3].startswith("3 images: 0 normal, 3 anomalous, 0 invalid, 0 failed; ")
    assert result.stderr == ""


def test_dropped_frames_are_in_the_summary(run: Any, server: MjpegServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from rstpm_edge.detector import Detector

    judge = Detector.__call__

    def slowly(detector: Detector, image: Any) -> Any:
        before = server.sent
        until(lambda: server.sent > before + 5)
        return judge(detector, image)

    monkeypatch.setattr(Detector, "__call__", slowly)
    result = run(server.url, "--limit", 5, "--json")
    dropped = int(result.stderr.split("; ")[-1].removesuffix(" frames dropped\n"))
    assert dropped >= json.loads(result.stdout.splitlines()[-1])["dropped"] > 5


# What is lost


def test_a_stream_that_is_lost_comes_back(server: MjpegServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "FIRST_WAIT", 0.05)
    with Source("stream", server.url) as source:
        for round in (1, 2):
            number = source.next().number
            server.online = False
            until(lambda: len(source.reports) % 2 == 1)
            refused = server.refused
            until(lambda refused=refused: server.refused > refused + 2)  # type: ignore[misc]  # of which nothing is said
            server.online = True
            until(lambda: len(source.reports) % 2 == 0)
            assert source.live.reconnections == round
            assert source.next().number > number
        assert (
            source.reports
            == [
                (f"{server.url} is lost; trying to get it back.", False),
                (f"{server.url} is back.", True),
            ]
            * 2
        )


def test_a_stream_that_falls_silent_is_lost(server: MjpegServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "TIMEOUT_MS", 500)
    monkeypatch.setattr(live, "FIRST_WAIT", 0.05)
    with Source("stream", server.url) as source:
        source.next()
        server.stalled = True
        until(lambda: len(source.reports) == 1)
        server.stalled = False
        until(lambda: len(source.reports) == 2)
        source.next()


def test_each_attempt_waits_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting(threading.Event):
        waits: list[float] = []  # noqa: RUF012

        def wait(self, timeout: float | None = None) -> bool:
            if timeout is None:  # Python's own, when a thread starts
                return super().wait()
            self.waits.append(timeout)
            return super().wait(0)

    monkeypatch.setattr(threading, "Event", Counting)
    monkeypatch.setattr(live, "open_capture", lambda kind, source: FakeCapture(frames=0))
    with Source("camera", "camera:0") as source:
        until(lambda: len(Counting.waits) > 9)
    assert Counting.waits[:9] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert len(source.reports) == 1


def test_a_reconnection_is_in_the_summary(run: Any, server: MjpegServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "FIRST_WAIT", 0.05)
    server.rate = 10

    def cut() -> None:
        until(lambda: server.sent >= 5)
        server.online = False
        until(lambda: server.refused > 0)
        server.online = True

    thread = threading.Thread(target=cut)
    thread.start()
    result = run(server.url, "--limit", 15, "--json")
    thread.join()
    assert result.exit_code == 0
    lost, back, summary = result.stderr.splitlines()
    assert (lost, back) == (f"{server.url} is lost; trying to get it back.", f"{server.url} is back.")
    assert summary.endswith("; 1 reconnection")


# What cameras give, and what goes wrong in their drivers


def test_a_driver_that_hangs(run: Any, camera: FakeCapture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "HANGS", 0.5)
    monkeypatch.setattr(live, "CLOSING", 0.1)
    camera.blocks.clear()
    result = run("camera:0")
    assert result.exit_code == 3
    assert result.stderr.startswith("Error: camera:0 hangs: its driver has not answered for ")
    camera.blocks.set()
    until(lambda: camera.released)


def test_what_cameras_give_becomes_eight_bits_and_three_channels(
    camera: FakeCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bgr = np.full((2, 3, 3), (10, 20, 30), np.uint8)
    for given, expected in (
        (np.full((2, 3), 0x1234, np.uint16), np.full((2, 3, 3), 18, np.uint8)),
        (np.dstack([bgr, bgr[..., :1]]), bgr),
        (bgr, bgr),
    ):
        monkeypatch.setattr(FakeCapture, "retrieve", lambda self, given=given: (True, given))
        with Source("camera", "camera:0") as source:
            np.testing.assert_array_equal(source.next().image, expected)
    monkeypatch.setattr(FakeCapture, "retrieve", lambda self: (True, np.full((2, 3), 0x1234, np.uint16)))
    with Source("camera", "camera:0", deep=True) as source:
        np.testing.assert_array_equal(source.next().image, np.full((2, 3, 3), 0x1234, np.uint16))
    monkeypatch.setattr(FakeCapture, "retrieve", lambda self: (True, np.zeros((2, 3), np.float32)))
    with Source("camera", "camera:0") as source:
        until(lambda: source.live.dropped > 3)


def test_damaged_frames_are_dropped(camera: FakeCapture, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([(False, None), (True, None), (True, np.zeros((2, 2, 3), np.uint8))])

    def retrieve(self: FakeCapture) -> Any:
        answer = next(answers, None)
        if answer is None:
            raise cv2.error("damaged")
        return answer

    monkeypatch.setattr(FakeCapture, "retrieve", retrieve)
    with Source("camera", "camera:0") as source:
        frame = source.next()
        assert (frame.number, frame.dropped) == (2, 2)
        until(lambda: source.live.dropped > 3)


def test_a_damaged_frame_leaves_its_turn_to_the_next_one(camera: FakeCapture, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = [True, True]
    whole = np.full((4, 6), 127, np.uint8)
    monkeypatch.setattr(camera, "retrieve", lambda: (False, None) if damaged and damaged.pop() else (True, whole))
    with Source("camera", "camera:0", every=Every(10**6)) as source:
        frame = source.next()
        assert (frame.number, frame.damaged) == (2, 2)


def test_what_goes_wrong_in_the_thread_is_told(camera: FakeCapture, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: FakeCapture) -> bool:
        raise MemoryError("no room")

    monkeypatch.setattr(FakeCapture, "grab", broken)
    with Source("camera", "camera:0") as source, pytest.raises(SourceError, match=r"^Reading camera:0 failed: no room"):
        source.next()


# Names


def test_passwords_are_not_shown() -> None:
    for source, shown in {
        "rtsp://admin:p@ss:word@10.0.0.1:554/1": "rtsp://admin:***@10.0.0.1:554/1",
        "rtsp://10.0.0.1/user=admin&password=secret&channel=1": "rtsp://10.0.0.1/user=admin&password=***&channel=1",
        "rtsp://10.0.0.1:554/a:b@c": "rtsp://10.0.0.1:554/a:b@c",
        "camera:0": "camera:0",
    }.items():
        assert without_password(source) == shown


def test_output_names_are_file_names() -> None:
    assert output_name("camera:0", 1769860800.2504) == "camera_0-20260131T120000.250Z"
    name = output_name("rtsp://user:***@host/../" + "x" * 300, 0)
    assert name.startswith("rtsp_user_host_x")
    assert "/" not in name
    assert len(name) < 120


# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("defect", [False, True])
def test_a_signal_ends_a_live_source_as_usual(
    server: MjpegServer, model: Path, tmp_path: Path, number: int, defect: bool
) -> None:
    server.defect = defect
    arguments = ["infer", server.url, "--json", "--model", model]
    with open(tmp_path / "output", "w") as output, running(*arguments, stdout=output) as process:
        until(lambda: (tmp_path / "output").stat().st_size > 0)
        process.send_signal(number)
        code, _, errors = finish(process, 60)
    assert code == int(defect)
    lines = [json.loads(line) for line in (tmp_path / "output").read_text().splitlines()]
    assert all(line["is_anomalous"] is defect for line in lines)
    (summary,) = errors.splitlines()
    assert summary.startswith(f"{len(lines)} image")
