"""The functions of the system's library Aravis 0.8 that a camera takes, called through ctypes.

Aravis is made for GObject introspection. But PyGObject has no wheels, so an edge box would need a compiler and GLib's
headers; and the PyGObject of a distribution serves the system's Python alone. These few functions have been the same
since Aravis 0.8.0, and are there for each Python as soon as `apt install libaravis-0.8-0` has been run. None takes a
callback, since those need memory that is writable and executable, which a hardened service does not have.
"""

import ctypes
import functools
from ctypes import POINTER, byref, c_char_p, c_double, c_int, c_size_t, c_uint, c_uint32, c_uint64, c_void_p
from typing import Any

from rstpm_edge.errors import SourceError

LIBRARY = "libaravis-0.8.so.0"

# Of each function what it returns, and what it takes; FAILS stands for the place where it leaves an error.
_FAILS = object()
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "arv_update_device_list": (None, ()),
    "arv_get_n_devices": (c_uint, ()),
    "arv_get_device_id": (c_char_p, (c_uint,)),
    "arv_get_device_address": (c_char_p, (c_uint,)),
    "arv_camera_new": (c_void_p, (c_char_p, _FAILS)),
    "arv_camera_get_device": (c_void_p, (c_void_p,)),
    "arv_camera_is_gv_device": (c_int, (c_void_p,)),
    "arv_gv_device_is_controller": (c_int, (c_void_p,)),
    "arv_device_get_string_feature_value": (c_char_p, (c_void_p, c_char_p, _FAILS)),
    "arv_device_set_string_feature_value": (None, (c_void_p, c_char_p, c_char_p, _FAILS)),
    "arv_device_set_features_from_string": (c_int, (c_void_p, c_char_p, _FAILS)),
    "arv_camera_set_pixel_format_from_string": (None, (c_void_p, c_char_p, _FAILS)),
    "arv_camera_get_pixel_format": (c_uint32, (c_void_p, _FAILS)),
    "arv_camera_dup_available_pixel_formats_as_strings": (c_void_p, (c_void_p, POINTER(c_uint), _FAILS)),
    "arv_camera_dup_available_triggers": (c_void_p, (c_void_p, POINTER(c_uint), _FAILS)),
    "arv_camera_dup_available_trigger_sources": (c_void_p, (c_void_p, POINTER(c_uint), _FAILS)),
    "arv_camera_get_region": (None, (c_void_p, *4 * (POINTER(c_int),), _FAILS)),
    "arv_camera_set_region": (None, (c_void_p, *4 * (c_int,), _FAILS)),
    "arv_camera_get_width_bounds": (None, (c_void_p, POINTER(c_int), POINTER(c_int), _FAILS)),
    "arv_camera_get_height_bounds": (None, (c_void_p, POINTER(c_int), POINTER(c_int), _FAILS)),
    "arv_camera_is_exposure_time_available": (c_int, (c_void_p, _FAILS)),
    "arv_camera_is_exposure_auto_available": (c_int, (c_void_p, _FAILS)),
    "arv_camera_set_exposure_time_auto": (None, (c_void_p, c_int, _FAILS)),
    "arv_camera_get_exposure_time_bounds": (None, (c_void_p, POINTER(c_double), POINTER(c_double), _FAILS)),
    "arv_camera_get_exposure_time": (c_double, (c_void_p, _FAILS)),
    "arv_camera_set_exposure_time": (None, (c_void_p, c_double, _FAILS)),
    "arv_camera_is_gain_available": (c_int, (c_void_p, _FAILS)),
    "arv_camera_is_gain_auto_available": (c_int, (c_void_p, _FAILS)),
    "arv_camera_set_gain_auto": (None, (c_void_p, c_int, _FAILS)),
    "arv_camera_get_gain_bounds": (None, (c_void_p, POINTER(c_double), POINTER(c_double), _FAILS)),
    "arv_camera_set_gain": (None, (c_void_p, c_double, _FAILS)),
    "arv_camera_is_frame_rate_available": (c_int, (c_void_p, _FAILS)),
    "arv_camera_get_frame_rate_bounds": (None, (c_void_p, POINTER(c_double), POINTER(c_double), _FAILS)),
    "arv_camera_get_frame_rate": (c_double, (c_void_p, _FAILS)),
    "arv_camera_set_frame_rate": (None, (c_void_p, c_double, _FAILS)),
    "arv_camera_set_acquisition_mode": (None, (c_void_p, c_int, _FAILS)),
    "arv_camera_clear_triggers": (None, (c_void_p, _FAILS)),
    "arv_camera_set_trigger": (None, (c_void_p, c_char_p, _FAILS)),
    "arv_camera_software_trigger": (None, (c_void_p, _FAILS)),
    "arv_camera_get_payload": (c_uint, (c_void_p, _FAILS)),
    "arv_camera_create_stream": (c_void_p, (c_void_p, c_void_p, c_void_p, _FAILS)),
    "arv_camera_start_acquisition": (None, (c_void_p, _FAILS)),
    "arv_camera_stop_acquisition": (None, (c_void_p, _FAILS)),
    "arv_stream_push_buffer": (None, (c_void_p, c_void_p)),
    "arv_stream_timeout_pop_buffer": (c_void_p, (c_void_p, c_uint64)),
    "arv_buffer_new_allocate": (c_void_p, (c_size_t,)),
    "arv_buffer_get_status": (c_int, (c_void_p,)),
    "arv_buffer_get_payload_type": (c_int, (c_void_p,)),
    "arv_buffer_get_frame_id": (c_uint64, (c_void_p,)),
    "arv_buffer_get_data": (c_void_p, (c_void_p, POINTER(c_size_t))),
    "arv_buffer_get_image_pixel_format": (c_uint32, (c_void_p,)),
    "arv_buffer_get_image_width": (c_int, (c_void_p,)),
    "arv_buffer_get_image_height": (c_int, (c_void_p,)),
    # Of GLib, which Aravis brings with it.
    "g_object_unref": (None, (c_void_p,)),
    "g_free": (None, (c_void_p,)),
    "g_error_free": (None, (c_void_p,)),
}


class AravisError(Exception):
    """What Aravis says of a call that failed."""


class _GError(ctypes.Structure):
    _fields_ = (("domain", c_uint32), ("code", c_int), ("message", c_char_p))


class Aravis:
    """The library; `call` a function of it by name."""

    def __init__(self, shared: ctypes.CDLL) -> None:
        self._functions = {}
        for name, (result, takes) in _FUNCTIONS.items():
            function = getattr(shared, name)
            function.restype = result
            function.argtypes = [POINTER(POINTER(_GError)) if kind is _FAILS else kind for kind in takes]
            self._functions[name] = (function, takes[-1:] == (_FAILS,))

    def call(self, name: str, *arguments: Any) -> Any:
        """What the function gives. Other threads go on meanwhile. Raises AravisError with the library's own words."""
        function, fails = self._functions[name]
        if not fails:
            return function(*arguments)
        error = POINTER(_GError)()
        result = function(*arguments, byref(error))
        if error:
            message = (error.contents.message or b"").decode(errors="replace")
            self.call("g_error_free", error)
            raise AravisError(message)
        return result

    def texts(self, name: str, camera: int) -> list[str]:
        """What a function that lists texts of a camera gives; empty where the camera cannot say."""
        count = c_uint()
        try:
            found = self.call(name, camera, byref(count))
        except AravisError:
            return []
        if not found:
            return []
        listed = ctypes.cast(found, POINTER(c_char_p))[: count.value]
        texts = [(text or b"").decode(errors="replace") for text in listed]
        self.call("g_free", found)  # the texts themselves belong to the camera
        return texts

    def bounds(self, name: str, camera: int, kind: Any = c_double) -> tuple[float, float]:
        """The least and the most of a setting of a camera."""
        least, most = kind(), kind()
        self.call(name, camera, byref(least), byref(most))
        return least.value, most.value

    def cameras(self) -> list[str]:
        """Each camera that answers now, as it may be typed: its name, and its address for people. Takes a second."""
        self.call("arv_update_device_list")
        found = []
        for index in range(self.call("arv_get_n_devices")):
            name, address = (self.call(f"arv_get_device_{what}", index) for what in ("id", "address"))
            if name:
                found.append(name.decode(errors="replace") + (f" ({address.decode()})" if address else ""))
        return found


@functools.cache
def load_aravis() -> Aravis:
    """The library, loaded once. Raises SourceError where the system lacks it."""
    try:
        return Aravis(ctypes.CDLL(LIBRARY))
    except OSError:
        raise SourceError(
            "Cameras of GigE Vision and USB3 Vision need the library Aravis, which is not installed: "
            "apt install libaravis-0.8-0."
        ) from None
    except AttributeError as error:
        raise SourceError(f"This machine's Aravis is too old: {error}; 0.8.20 will do.") from None
