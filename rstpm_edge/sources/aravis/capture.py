"""A camera of Aravis, as a live source takes its frames: grabbed, retrieved, and released."""

import contextlib
import ctypes
import math
import time
from ctypes import byref, c_int, c_size_t
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.errors import ImageError, SourceError
from rstpm_edge.sources.aravis.binding import Aravis, AravisError, load_aravis
from rstpm_edge.sources.aravis.pixels import FORMATS, to_array
from rstpm_edge.sources.aravis.settings import FREE, PREFIX, SOFTWARE, AravisSettings, parse_settings

MOST_BUFFERS, FEWEST_BUFFERS = 8, 3
ROOM = 1 << 29  # bytes of all buffers, where that is enough for the fewest
MOST_BYTES = 1 << 30  # of a frame
POLL = 0.2  # seconds in one call for a frame
SILENCE = 5.0  # seconds without a frame, beside exposure and rate, after which a camera that should give one is lost
NO_WHOLE = 30.0  # seconds of incomplete frames, after which the stream is opened anew
CHECK = 1.0  # seconds without a frame, after which it is asked whether the camera is still there
ANSWER = 10.0  # seconds in one call, after which the caller hears that a slow camera is there: who says nothing hangs
MOST_MISSING = 1000  # a jump in the numbers of frames beyond that is no loss, but a camera that began anew
CONTINUOUS, AUTO_OFF, SUCCESS, LAST_OF_16_BITS = 0, 0, 0, 0xFFFF
PICTURES = (0x0001, 0x0005, 0x000A)  # kinds of payload: an image, one with chunks behind it, one of several parts


class AravisCapture:
    """What OpenCV's captures are for other cameras. Raises SourceError where the camera cannot be had so."""

    def __init__(self, source: str) -> None:
        self._settings = parse_settings(source)
        self._name = PREFIX + self._settings.name
        self._aravis = load_aravis()
        self._camera = self._stream = 0
        self._frame: int | None = None  # the number that the camera gave to the last frame
        self._missing = 0  # frames before the one in `_buffer` that never came
        self._buffer = 0
        self._now = 0  # the buffer that was grabbed, or 0 for a frame that never came
        self._camera = self._open()
        try:
            setup = _Setup(self._aravis, self._camera, self._name, self._settings)
            setup.run()
            self._patience = setup.patience()
            self._start()
        except AravisError as error:
            self.release()
            raise SourceError(f"Cannot set up the camera {self._name}: {error}.") from error
        except SourceError:
            self.release()
            raise

    def grab(self) -> bool | None:
        """Take the next frame; None while a camera that is there has none yet, and False where the camera is lost.

        None comes while the camera waits for its trigger, and after ten seconds of one that takes frames rarely.

        A frame that never came, as the numbers of frames tell, is grabbed and cannot be retrieved.
        """
        self._give_back()
        if not self._stream:
            return False
        if not self._buffer:
            try:
                found = self._next_buffer()
            except AravisError:
                return False
            if not found:
                return None if found is None else False
        if self._missing:
            self._missing -= 1
            return True
        self._now, self._buffer = self._buffer, 0
        return True

    def retrieve(self) -> tuple[bool, NDArray[Any] | None]:
        """The frame that was grabbed, (H, W) grey or (H, W, 3) BGR; (False, None) for one that is not whole."""
        call = self._aravis.call
        buffer = self._now
        if not buffer or call("arv_buffer_get_status", buffer) != SUCCESS:
            return False, None
        if call("arv_buffer_get_payload_type", buffer) not in PICTURES:
            return False, None
        size = c_size_t()
        address = call("arv_buffer_get_data", buffer, byref(size))
        content = np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_uint8)), (size.value,))
        code, width, height = (
            call(f"arv_buffer_get_image_{what}", buffer) for what in ("pixel_format", "width", "height")
        )
        try:
            return True, to_array(content, code, width, height)
        except ImageError:
            return False, None

    def get(self, prop: int) -> float:
        """No property of OpenCV's."""
        return 0.0

    def release(self) -> None:
        """Stop the camera and let it go; once more does nothing."""
        self._give_back()
        call = self._aravis.call
        if self._stream:
            with contextlib.suppress(AravisError):  # a camera that is gone
                call("arv_camera_stop_acquisition", self._camera)
            if self._buffer:
                call("arv_stream_push_buffer", self._stream, self._buffer)
            call("g_object_unref", self._stream)
        if self._camera:
            call("g_object_unref", self._camera)
        self._camera = self._stream = self._buffer = 0

    def _open(self) -> int:
        settings, call = self._settings, self._aravis.call
        if settings.name:
            try:
                return int(call("arv_camera_new", settings.name.encode(errors="surrogateescape")) or 0)
            except AravisError as error:
                why, shown = str(error).rstrip("."), self._aravis.cameras()
                if any(settings.name in one for one in shown):  # it is there, and another program has it
                    raise SourceError(f"Cannot open the camera {self._name}: {why}.") from error
        else:
            shown = self._aravis.cameras()
        what = f"there is no camera {self._name}" if settings.name else f"name the camera, as {PREFIX}NAME"
        if not shown:
            raise SourceError(
                f"Cannot open it: {what}, and none was found at all; a GigE camera needs an address in a network of "
                "this machine, a USB3 camera the permission of udev."
            )
        raise SourceError(f"Cannot open it: {what}; found: {', '.join(sorted(shown))}.")

    def _start(self) -> None:
        call = self._aravis.call
        payload = call("arv_camera_get_payload", self._camera)
        if not 0 < payload <= MOST_BYTES:
            raise SourceError(f"The camera {self._name} sends frames of {payload} bytes, not of 1 to {MOST_BYTES}.")
        self._stream = call("arv_camera_create_stream", self._camera, None, None)
        for _ in range(min(max(ROOM // payload, FEWEST_BUFFERS), MOST_BUFFERS)):
            call("arv_stream_push_buffer", self._stream, call("arv_buffer_new_allocate", payload))
        call("arv_camera_start_acquisition", self._camera)
        self._last = self._whole = self._asked = time.monotonic()
        self._triggered = -float("inf")

    def _next_buffer(self) -> bool | None:
        """Wait for a buffer: True when one is there, None where the camera is there and has none, False when lost."""
        started = time.monotonic()
        while True:
            due = self._settings.trigger != SOFTWARE or self._trigger()
            buffer = self._aravis.call("arv_stream_timeout_pop_buffer", self._stream, int(POLL * 1e6))
            now = time.monotonic()
            if buffer:
                self._last = self._asked = now
                self._take(buffer)
                if self._aravis.call("arv_buffer_get_status", buffer) == SUCCESS:
                    self._whole = now
                return now - self._whole < NO_WHOLE
            if now - self._asked > CHECK:
                self._asked = now
                if not self._is_there():
                    return False
            if now - self._last > self._patience:
                return False
            if not due or self._patience == math.inf or now - started > ANSWER:
                if now - self._last > SILENCE:
                    self._whole = now  # silence is no row of incomplete frames; a moment between two of them is none
                return None

    def _take(self, buffer: int) -> None:
        """Keep the buffer, and count how many frames should have come before it."""
        number = self._aravis.call("arv_buffer_get_frame_id", buffer)
        self._buffer, self._missing = buffer, 0
        if self._frame is not None:
            missing = number - self._frame - 1
            if number < self._frame <= LAST_OF_16_BITS:  # GigE Vision's first version counts from 1 to 65535, and again
                missing += LAST_OF_16_BITS
            if 0 < missing <= MOST_MISSING:
                self._missing = missing
        self._frame = number

    def _trigger(self) -> bool:
        """Ask for a frame, no sooner than the rate allows, and once more where none has come; whether one is due.

        One is that was asked for and has not come: while the rate allows no other, it is still waited for.
        """
        now, rate = time.monotonic(), self._settings.rate
        waits_for = self._triggered > self._last  # for the frame that was asked for last
        if now - self._triggered < (SILENCE / 2 if waits_for else 0):
            return True
        rest = 1 / rate - (now - self._triggered) if rate else 0
        if rest > POLL:
            return waits_for
        time.sleep(max(rest, 0))
        self._triggered = time.monotonic()
        self._aravis.call("arv_camera_software_trigger", self._camera)
        return True

    def _is_there(self) -> bool:
        """Whether the camera still answers, and to us: one that was without power has forgotten who controls it."""
        call = self._aravis.call
        if call("arv_camera_is_gv_device", self._camera):
            return bool(call("arv_gv_device_is_controller", call("arv_camera_get_device", self._camera)))
        call("arv_camera_get_payload", self._camera)  # AravisError where it does not
        return True

    def _give_back(self) -> None:
        if self._now:
            self._aravis.call("arv_stream_push_buffer", self._stream, self._now)
            self._now = 0


class _Setup:
    """Sets up a camera as it was typed, in an order that cameras take. Raises SourceError and AravisError."""

    def __init__(self, aravis: Aravis, camera: int, name: str, settings: AravisSettings) -> None:
        self._aravis, self._camera, self._name, self._settings = aravis, camera, name, settings

    def run(self) -> None:
        settings, camera, call = self._settings, self._camera, self._aravis.call
        if settings.pixel_format:
            self._choose("format", settings.pixel_format, "pixel_formats", "arv_camera_set_pixel_format_from_string")
        self._check_format()
        if settings.size:
            self._set_size(settings.size)
        call("arv_camera_set_acquisition_mode", camera, CONTINUOUS)
        call("arv_camera_clear_triggers", camera)
        if settings.exposure is not None:
            self._set("exposure", "exposure_time", settings.exposure, "µs")
        if settings.gain is not None:
            self._set("gain", "gain", settings.gain, "")
        if settings.rate is not None and settings.trigger == FREE:
            self._set("fps", "frame_rate", settings.rate, "frames a second")
        if settings.trigger == SOFTWARE:
            self._choose("trigger", "Software", "trigger_sources", "arv_camera_set_trigger")
        elif settings.trigger != FREE:
            self._choose("trigger", settings.trigger, "trigger_sources", "arv_camera_set_trigger")
        if settings.features:
            device = call("arv_camera_get_device", camera)
            text = " ".join(f"{key}={value}" for key, value in settings.features)
            call("arv_device_set_features_from_string", device, text.encode())

    def patience(self) -> float:
        """After how many seconds without a frame the camera is lost; infinite where it waits for somebody's trigger."""
        settings = self._settings
        asked_for = settings.trigger == SOFTWARE
        if settings.trigger not in (FREE, SOFTWARE) or (not asked_for and self._is_triggered()):
            return math.inf
        exposure = settings.exposure or self._told("exposure_time")
        rate = settings.rate or (0 if asked_for else self._told("frame_rate"))
        return SILENCE + exposure / 1e6 + (1 / rate if rate > 0 else 0)

    def _is_triggered(self) -> bool:
        """Whether the camera says that a trigger is on, as features may have it, or a set of them in the camera."""
        call, device = self._aravis.call, self._aravis.call("arv_camera_get_device", self._camera)
        get, put = "arv_device_get_string_feature_value", "arv_device_set_string_feature_value"
        modes = []
        with contextlib.suppress(AravisError):  # it has no triggers
            modes.append(call(get, device, b"TriggerMode"))
        with contextlib.suppress(AravisError):  # no choice of them
            chosen = call(get, device, b"TriggerSelector")
            try:
                for trigger in self._aravis.texts("arv_camera_dup_available_triggers", self._camera):
                    with contextlib.suppress(AravisError):  # one that cannot be chosen now, or has no mode
                        call(put, device, b"TriggerSelector", trigger.encode())
                        modes.append(call(get, device, b"TriggerMode"))
            finally:
                call(put, device, b"TriggerSelector", chosen)
        return b"On" in modes

    def _told(self, what: str) -> float:
        """What the camera says of itself; 0 where it does not."""
        try:
            return float(self._aravis.call(f"arv_camera_get_{what}", self._camera))
        except AravisError:
            return 0.0

    def _check_format(self) -> None:
        if self._aravis.call("arv_camera_get_pixel_format", self._camera) in FORMATS:
            return
        offered = set(self._aravis.texts("arv_camera_dup_available_pixel_formats_as_strings", self._camera))
        known = sorted(offered & {one.name for one in FORMATS.values()})
        raise SourceError(
            f"The camera {self._name} sends a pixel format that is not supported; "
            f"{'set format= to one of ' + ', '.join(known) if known else 'it offers none that is'}."
        )

    def _choose(self, key: str, value: str, listed: str, setter: str) -> None:
        ending = "_as_strings" if listed == "pixel_formats" else ""
        offered = self._aravis.texts(f"arv_camera_dup_available_{listed}{ending}", self._camera)
        if offered and value not in offered:
            raise SourceError(f"The camera {self._name} has no {key} {value}; it offers {', '.join(sorted(offered))}.")
        self._aravis.call(setter, self._camera, value.encode())

    def _set(self, key: str, what: str, value: float, unit: str) -> None:
        call, camera = self._aravis.call, self._camera
        if not call(f"arv_camera_is_{what}_available", camera):
            raise SourceError(f"The camera {self._name} has no {key} to set; leave {key}= out.")
        least, most = self._aravis.bounds(f"arv_camera_get_{what}_bounds", camera)
        if not least <= value <= most:
            raise SourceError(
                f"The camera {self._name} takes {key} from {least:g} to {most:g}{unit and ' ' + unit}, not {value:g}."
            )
        automatic = what.removesuffix("_time")
        if what != "frame_rate" and call(f"arv_camera_is_{automatic}_auto_available", camera):
            call(f"arv_camera_set_{what}_auto", camera, AUTO_OFF)
        call(f"arv_camera_set_{what}", camera, value)

    def _set_size(self, size: tuple[int, int]) -> None:
        call, camera = self._aravis.call, self._camera
        (narrow, wide), (low, high) = (
            self._aravis.bounds(f"arv_camera_get_{side}_bounds", camera, c_int) for side in ("width", "height")
        )
        region = [c_int() for _ in range(4)]
        if narrow <= size[0] <= wide and low <= size[1] <= high:
            call("arv_camera_get_region", camera, *map(byref, region))
            call("arv_camera_set_region", camera, region[0].value, region[1].value, *size)
            call("arv_camera_get_region", camera, *map(byref, region))
        if (region[2].value, region[3].value) != size:
            steps = "" if region[2].value == 0 else ", in steps"
            raise SourceError(
                f"The camera {self._name} does not do size={size[0]}x{size[1]}; "
                f"it takes {narrow}x{low} to {wide}x{high}{steps}."
            )
