"""Cameras of Aravis without the library, or with one that is made up: what is said, and what counts as lost."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from live_source import Source
from waiting import until
from workplace import command_line

from rstpm_edge.errors import SourceError
from rstpm_edge.sources import live
from rstpm_edge.sources.aravis import binding, capture
from rstpm_edge.sources.aravis.binding import AravisError, load_aravis
from rstpm_edge.sources.aravis.capture import AravisCapture
from rstpm_edge.sources.capture import Capture

MONO8, INCOMPLETE = 0x01080001, 3


@pytest.fixture
def unloaded() -> Iterator[None]:
    load_aravis.cache_clear()
    yield
    load_aravis.cache_clear()


def test_a_machine_without_the_library(unloaded: None, monkeypatch: pytest.MonkeyPatch, model: Any) -> None:
    monkeypatch.setattr(binding, "LIBRARY", "libaravis-of-nobody.so.0")
    result = command_line("infer", "aravis:a", "--model", model)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == (
        "Error: Cameras of GigE Vision and USB3 Vision need the library Aravis, which is not installed: "
        "apt install libaravis-0.8-0.\n"
    )


def test_a_library_that_lacks_functions(unloaded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "LIBRARY", "libc.so.6")
    with pytest.raises(
        SourceError, match=r"^This machine's Aravis is too old: .*arv_update_device_list; 0\.8\.20 will"
    ):
        AravisCapture("aravis:a")


def test_wrong_use_is_told_before_anything_is_opened(model: Any) -> None:
    result = command_line("infer", "aravis:a,exposure=fast", "--model", model)
    assert (result.exit_code, result.stderr) == (2, "Error: exposure is a number, such as 5000, not 'fast'.\n")


class MadeUp:
    """A library whose camera sends `frames`: (number, status), None for a moment without any, or an error."""

    def __init__(self, frames: list[Any], tells: dict[str, Any] | None = None) -> None:
        self.frames, self.tells = frames, tells or {}
        self.called: list[str] = []
        self._current: Any = None
        self._bytes = (ctypes.c_uint8 * 16)(*range(16))

    def call(self, name: str, *arguments: Any) -> Any:
        self.called.append(name)
        if name == "arv_stream_timeout_pop_buffer":
            self._current = self.frames.pop(0) if self.frames else None
            if isinstance(self._current, Exception):
                raise self._current
            return 0 if self._current is None else 5
        if name == "arv_device_get_string_feature_value":
            return self.tells.get(arguments[1].decode())
        if name == "arv_buffer_get_data":
            arguments[1]._obj.value = 16
            return ctypes.addressof(self._bytes)
        return {
            "arv_buffer_get_frame_id": self._current and self._current[0],
            "arv_buffer_get_status": self._current and self._current[1],
            "arv_buffer_get_payload_type": 1,
            "arv_buffer_get_image_pixel_format": MONO8,
            "arv_buffer_get_image_width": 4,
            "arv_buffer_get_image_height": 4,
            "arv_camera_get_pixel_format": MONO8,
            "arv_camera_get_payload": 16,
            "arv_camera_new": 1,
            "arv_camera_create_stream": 2,
            "arv_buffer_new_allocate": 3,
            **self.tells,
        }.get(name, 0)

    def texts(self, name: str, camera: int) -> list[str]:
        return ["Line1", "Software"]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AravisCapture]:
    def of(frames: list[Any], typed: str = "", **tells: Any) -> AravisCapture:
        monkeypatch.setattr(capture, "load_aravis", lambda: MadeUp(frames, tells))
        return AravisCapture("aravis:a" + typed)

    return of


def judged(found: Capture, count: int) -> list[bool]:
    """Of so many frames that are grabbed, which can be retrieved."""
    result = []
    for _ in range(count):
        assert found.grab() is True
        result.append(found.retrieve()[0])
    return result


def test_incomplete_frames_and_those_that_never_came_are_no_pictures(opened: Any) -> None:
    found = opened([(7, 0), (8, INCOMPLETE), (9, 0), (12, 0), (13, 0)])
    assert judged(found, 7) == [True, False, True, False, False, True, True]


def test_numbers_of_16_bits_begin_again(opened: Any) -> None:
    assert judged(opened([(65534, 0), (65535, 0), (1, 0), (2, 0)]), 4) == [True] * 4
    assert judged(opened([(65534, 0), (2, 0)]), 4) == [True, False, False, True]
    # One that began anew, and one whose numbers are of 64 bits.
    assert judged(opened([(500, 0), (0, 0), (1, 0)]), 3) == [True] * 3
    assert judged(opened([(65535, 0), (65536, 0), (65538, 0)]), 4) == [True, True, False, True]


def test_a_camera_that_falls_silent_is_lost(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "SILENCE", 0.0)
    found = opened([(1, 0), None, None])
    assert judged(found, 1) == [True]
    assert found.grab() is False
    found.release()
    found.release()
    assert found.grab() is False
    assert found._aravis.called.count("g_object_unref") == 2


def test_one_that_waits_for_its_trigger_is_not(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "SILENCE", 0.0)
    found = opened([None, None, (1, 0), None], ",trigger=Line1")
    assert [found.grab() for _ in range(4)] == [None, None, True, None]
    monkeypatch.setattr(capture, "CHECK", -1.0)
    monkeypatch.setattr(AravisCapture, "_is_there", lambda self: False)
    assert found.grab() is False


def test_one_whose_features_turn_a_trigger_on_waits_too(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "SILENCE", 0.0)
    typed = ",TriggerMode=On,TriggerSource=Line1"
    assert opened([], typed, TriggerMode=b"Off").grab() is False
    found = opened([None, (1, 0), None], typed, TriggerMode=b"On", TriggerSelector=b"FrameStart")
    assert [found.grab() for _ in range(3)] == [None, True, None]
    monkeypatch.setattr(capture, "CHECK", -1.0)
    monkeypatch.setattr(AravisCapture, "_is_there", lambda self: False)
    assert found.grab() is False


def test_a_trigger_that_tells_no_mode_hides_no_other(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the one that the features chose is chosen again."""
    chosen, modes = ["FrameStart"], {"FrameStart": b"Off", "Line1": b"On"}  # Software has none
    call = MadeUp.call

    def of_camera(made_up: MadeUp, name: str, *arguments: Any) -> Any:
        if name == "arv_device_set_string_feature_value":
            chosen.append(arguments[2].decode())
        elif name == "arv_device_get_string_feature_value" and arguments[1] == b"TriggerSelector":
            return chosen[-1].encode()
        elif name == "arv_device_get_string_feature_value":
            if chosen[-1] not in modes:
                raise AravisError("not available")
            return modes[chosen[-1]]
        return call(made_up, name, *arguments)

    monkeypatch.setattr(capture, "SILENCE", 0.0)
    monkeypatch.setattr(MadeUp, "call", of_camera)
    assert opened([]).grab() is None
    assert chosen == ["FrameStart", "Line1", "Software", "FrameStart"]


def test_no_call_waits_for_a_rate_below_one_a_minute(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call of more than a minute is one of a driver that hangs."""
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"{seconds} seconds") if seconds > 1 else None)
    found = opened([(1, 0)], ",trigger=software,fps=0.01")
    assert [found.grab() for _ in range(3)] == [True, None, None]
    assert found._aravis.called.count("arv_camera_software_trigger") == 1


@pytest.mark.parametrize("tells", [{"arv_camera_get_frame_rate": 0.01}, {"arv_camera_get_exposure_time": 9e7}])
def test_a_camera_that_runs_slowly_by_itself_is_waited_for(
    opened: Any, monkeypatch: pytest.MonkeyPatch, tells: dict[str, float]
) -> None:
    monkeypatch.setattr(capture, "SILENCE", 0.0)
    monkeypatch.setattr(capture, "ANSWER", 0.0)
    monkeypatch.setattr(capture, "NO_WHOLE", 0.1)
    found = opened([(1, 0), None], "", **tells)
    assert [found.grab() for _ in range(3)] == [True, None, None]
    found._last -= 101
    assert found.grab() is False


def test_only_incomplete_frames_are_a_loss(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "NO_WHOLE", 0.0)
    found = opened([(1, INCOMPLETE)])
    assert found.grab() is False


@pytest.mark.parametrize("typed", [",trigger=Line1", ",trigger=software,fps=1"])
def test_moments_between_incomplete_frames_are_no_silence(opened: Any, typed: str) -> None:
    found = opened([(1, INCOMPLETE), None, (2, INCOMPLETE)], typed)
    assert found.grab() is True
    found._whole -= capture.NO_WHOLE
    assert found.grab() is None
    assert found.grab() is False


def test_a_frame_that_was_asked_for_is_waited_for(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera that gives none is lost, and in the meantime nobody hears that it waits for anything."""
    monkeypatch.setattr(capture, "SILENCE", 0.1)
    monkeypatch.setattr(capture, "POLL", 0.01)
    assert opened([], ",trigger=software,fps=2").grab() is False


def test_an_error_of_the_library_is_a_loss(opened: Any) -> None:
    assert opened([AravisError("timeout")]).grab() is False


def test_a_line_that_the_camera_lacks(opened: Any) -> None:
    with pytest.raises(SourceError, match=r"^The camera aravis:a has no trigger Line9; it offers Line1, Software\.$"):
        opened([], ",trigger=Line9")


def test_a_format_that_is_not_known(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "FORMATS", {})
    with pytest.raises(
        SourceError, match=r"^The camera aravis:a sends a pixel format that is not supported; it offers"
    ):
        opened([])


@pytest.mark.parametrize("payload", [0, (1 << 30) + 1])
def test_frames_of_an_impossible_size(opened: Any, monkeypatch: pytest.MonkeyPatch, payload: int) -> None:
    call = MadeUp.call
    monkeypatch.setattr(
        MadeUp, "call", lambda self, name, *rest: payload if name.endswith("payload") else call(self, name, *rest)
    )
    with pytest.raises(SourceError, match=rf"sends frames of {payload} bytes, not of 1 to 1073741824\.$"):
        opened([])


# In a live source


def test_a_camera_that_waits_is_back_without_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "FIRST_WAIT", 0.01)

    class Waiting:
        def __init__(self, answers: list[bool | None]) -> None:
            self.answers = answers

        def grab(self) -> bool | None:
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

        def release(self) -> None:
            pass

    captures = [Waiting([None, False]), Waiting([None])]
    monkeypatch.setattr(live, "open_capture", lambda kind, source: captures.pop(0))
    with Source("camera", "aravis:a,trigger=Line1") as source:
        until(lambda: len(source.reports) == 2)
        assert source.reports == [
            ("aravis:a,trigger=Line1 is lost; trying to get it back.", False),
            ("aravis:a,trigger=Line1 is back.", True),
        ]
        assert source.live.summary() == "1 reconnection"
