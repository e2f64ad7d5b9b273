"""Aravis' own fake camera on loopback: make test-aravis, with Debian's packages libaravis-0.8-0 and aravis-tools."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_camera import FakeCamera
from live_source import Source
from waiting import until
from workplace import command_line

from rstpm_edge.errors import SourceError
from rstpm_edge.sources import live
from rstpm_edge.sources.aravis import capture
from rstpm_edge.sources.aravis.capture import AravisCapture
from rstpm_edge.sources.live import Live

pytestmark = pytest.mark.aravis

WAITING = [",trigger=Line0", ",TriggerSelector=FrameStart,TriggerMode=On,TriggerSource=Line0"]  # for a line


@pytest.fixture
def camera() -> Iterator[FakeCamera]:
    with FakeCamera() as camera:
        yield camera


def test_frames_arrive_and_are_judged(camera: FakeCamera, model: Path) -> None:
    result = command_line("infer", f"{camera.source},format=Mono8", "--limit", 5, "--json", "--model", model)
    assert result.exit_code in (0, 1), result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(lines) == 5
    assert {line["path"] for line in lines} == {f"{camera.source},format=Mono8"}
    assert lines[-1]["frame"] >= 4
    assert lines[-1]["damaged"] == 0
    assert result.stderr.startswith("5 images: ")


@pytest.mark.parametrize(
    ("name", "dtype", "grey"),
    [
        ("Mono8", np.uint8, True),
        ("Mono16", np.uint16, True),
        ("RGB8", np.uint8, False),
        ("BayerRG8", np.uint8, False),
        ("BayerGR8", np.uint8, False),
        ("BayerGB8", np.uint8, False),
        ("BayerBG8", np.uint8, False),
    ],
)
def test_pixel_formats(camera: FakeCamera, name: str, dtype: type, grey: bool) -> None:
    with Source("camera", f"{camera.source},format={name},size=320x240,exposure=10000,gain=0", deep=True) as source:
        image = source.next().image
    assert (image.shape, image.dtype) == ((240, 320, 3), dtype)
    assert bool(np.ptp(image, axis=2).max() == 0) is grey
    assert np.ptp(image) > 200  # a ramp


def test_frames_of_16_bits_are_scaled_where_nobody_knows_their_range(camera: FakeCamera) -> None:
    with Source("camera", f"{camera.source},format=Mono16") as source:
        assert source.next().image.dtype == np.uint8


def test_exposure_and_gain_take_effect(camera: FakeCamera) -> None:
    def brightness(settings: str) -> float:
        found = AravisCapture(f"{camera.source},format=Mono8,size=512x256,{settings}")
        try:
            for _ in range(10):  # on a busy machine a frame may come incomplete
                assert found.grab()
                whole, image = found.retrieve()
                if whole and image is not None:
                    return float(image.mean())
            pytest.fail("No frame of ten is whole.")
        finally:
            found.release()

    shorter = brightness("exposure=5000,gain=0")
    assert shorter < 0.8 * brightness("exposure=10000,gain=0")
    assert brightness("exposure=5000,gain=5") > 1.2 * shorter
    assert brightness("ExposureTimeAbs=5000,GainRaw=0") == pytest.approx(shorter, rel=0.01)  # as GenICam features


def test_the_rate_takes_effect(camera: FakeCamera) -> None:
    for typed, rate in (("fps=10", 10), ("fps=40", 40), ("trigger=software,fps=8", 8)):
        found = AravisCapture(f"{camera.source},size=64x64,{typed}")
        try:
            found.grab()
            start = time.monotonic()
            for _ in range(12):
                assert found.grab()
            assert 12 / (time.monotonic() - start) == pytest.approx(rate, rel=0.25)
        finally:
            found.release()


@pytest.mark.parametrize("typed", WAITING)
def test_a_line_that_nobody_pulls_gives_no_frame_and_no_loss(
    camera: FakeCamera, typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "SILENCE", 0.1)
    found = AravisCapture(camera.source + typed)
    try:
        assert [found.grab() for _ in range(10)] == [None] * 10
    finally:
        found.release()


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (",format=Mono12", r"has no format Mono12; it offers BayerBG8, .*, Mono8, RGB8\.$"),
        (",trigger=Line7", r"has no trigger Line7; it offers Line0, Software\.$"),
        (",exposure=1", r"takes exposure from 10 to 1e\+07 µs, not 1\.$"),
        (",gain=11", r"takes gain from 0 to 10, not 11\.$"),
        (",size=4000x3000", r"does not do size=4000x3000; it takes 1x1 to 2048x2048\.$"),
        (",Nonsense=1", r"^Cannot set up the camera aravis:127\.0\.0\.1: .*Nonsense"),
    ],
)
def test_what_the_camera_does_not_do(camera: FakeCamera, typed: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        Live("camera", camera.source + typed)
    Live("camera", camera.source).close()  # it was let go


def test_what_the_picture_for_a_roi_shows(camera: FakeCamera, tmp_path: Path) -> None:
    result = command_line("roi", f"{camera.source},size=320x240", "-o", tmp_path / "roi.png")
    assert result.exit_code == 0, result.stderr
    assert "(320×240 pixels)" in result.stdout


def test_a_camera_that_is_not_there_and_those_that_are(camera: FakeCamera, model: Path) -> None:
    result = command_line("infer", "aravis:Basler-1234", "--model", model)
    assert result.exit_code == 3
    assert result.stderr == (
        "Error: Cannot open it: there is no camera aravis:Basler-1234; found: Aravis-Fake-TEST (127.0.0.1).\n"
    )
    result = command_line("infer", "aravis:", "--model", model)
    assert result.exit_code == 3
    assert "name the camera, as aravis:NAME; found: Aravis-Fake-TEST (127.0.0.1)." in result.stderr


def test_a_camera_that_another_program_has(camera: FakeCamera) -> None:
    with Source("camera", camera.source) as source:
        source.next()
        with pytest.raises(SourceError, match=r"^Cannot (open|set up) the camera aravis:127\.0\.0\.1: "):
            AravisCapture(camera.source)
        source.next()


def test_packets_that_are_lost_are_counted_and_their_frames_never_judged() -> None:
    typed = ",format=Mono8,size=512x512,exposure=10000,gain=0"
    with FakeCamera(lost=3) as camera, Source("camera", camera.source + typed) as source:
        frames = [source.next()]
        until(lambda: source.live.damaged >= 5)
        frames += [source.next() for _ in range(5)]
        for frame in frames:
            assert frame.image.min(axis=(1, 2)).max() < 60  # a ramp in each row, and no row of zeros alone
            assert np.all(frame.image.max(axis=(1, 2)) > 200)
        assert frames[-1].damaged >= 5
        assert frames[-1].dropped >= frames[-1].damaged
        assert f" {source.live.damaged} of them damaged" in source.live.summary()


def test_one_that_is_asked_rarely_does_not_hang(camera: FakeCamera, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "HANGS", 1.5)  # of which the rate is less than one
    with Source("camera", f"{camera.source},trigger=software,fps=0.25") as source:
        first, second = source.next(), source.next()
        assert second.number == 1
        assert second.taken - first.taken == pytest.approx(4, rel=0.25)
        assert source.reports == []


@pytest.mark.parametrize("typed", ["", *WAITING])
def test_unplugged_and_plugged_in_again(typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "FIRST_WAIT", 0.1)
    with FakeCamera() as camera, Source("camera", camera.source + typed) as source:
        if not typed:
            source.next()
        camera.unplug()
        until(lambda: len(source.reports) == 1)
        assert source.reports == [(f"{camera.source}{typed} is lost; trying to get it back.", False)]
        camera.plug_in()
        until(lambda: len(source.reports) == 2)
        assert source.reports[1] == (f"{camera.source}{typed} is back.", True)
        assert source.live.reconnections == 1
        if not typed:
            source.next()


def test_the_command_line_goes_on_after_a_loss(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "FIRST_WAIT", 0.1)
    lost = threading.Event()
    report = Live._note_back

    def note_back(self: Live, was_lost: bool) -> bool:
        if was_lost:
            lost.set()
        return report(self, was_lost)

    monkeypatch.setattr(Live, "_note_back", note_back)
    with FakeCamera() as camera:

        def pull() -> None:
            time.sleep(0.5)
            camera.unplug()
            camera.plug_in()

        thread = threading.Thread(target=pull)
        thread.start()
        result = command_line("infer", f"{camera.source},fps=5", "--limit", 12, "--json", "--model", model)
        thread.join()
    assert result.exit_code in (0, 1)
    assert len(result.stdout.splitlines()) == 12
    assert lost.is_set()
    assert result.stderr.splitlines()[0] == f"{camera.source},fps=5 is lost; trying to get it back."
    assert result.stderr.splitlines()[1] == f"{camera.source},fps=5 is back."
    assert result.stderr.splitlines()[-1].endswith("; 1 reconnection")
