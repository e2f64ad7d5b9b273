"""Cameras, streams and GStreamer pipelines, as they are typed, opened through OpenCV or Aravis."""

import os
import re
from typing import Literal

import cv2

from rstpm_edge.errors import SourceError, UsageError
from rstpm_edge.printable import without_password
from rstpm_edge.sources.aravis.settings import PREFIX as ARAVIS
from rstpm_edge.sources.capture import Capture, open_video

TIMEOUT_MS = 5000  # for opening a stream, and for each of its frames; then it counts as lost

LiveKind = Literal["camera", "stream", "pipeline"]

_CAMERA = re.compile(
    r"(?P<device>camera:[0-9]{1,4}|/dev/[^,]+)(,format=(?P<format>\w{4}))?"
    r"(,size=(?P<width>[0-9]{1,5})x(?P<height>[0-9]{1,5}))?(,fps=(?P<fps>[0-9]{1,4}(\.[0-9]+)?))?",
    re.ASCII,
)


def open_capture(kind: LiveKind, source: str) -> Capture:
    """Open a source. Raises SourceError when it cannot be opened, UsageError when it cannot be."""
    try:
        source.encode()
    except UnicodeEncodeError as error:  # on which OpenCV crashes
        raise UsageError(f"The source {without_password(source)!r} is no UTF-8.") from error
    if source.startswith(ARAVIS):
        from rstpm_edge.sources.aravis.capture import AravisCapture

        return AravisCapture(source)
    if kind == "camera":
        return _open_camera(source)
    name = without_password(source)
    if kind == "pipeline":
        if "appsink" not in source:
            raise UsageError(f"The pipeline {name!r} must end in ` ! appsink`.")
        if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
            raise SourceError("This OpenCV was built without GStreamer, as those on PyPI are; use that of your system.")
        capture = cv2.VideoCapture(source, cv2.CAP_GSTREAMER)
        if not capture.isOpened():
            raise SourceError(f"GStreamer cannot start the pipeline {name!r}; try it with gst-launch-1.0.")
        return capture
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT_MS]
    # One thread: it is then known which frame is damaged, and none waits in the decoder for those after it.
    capture = open_video(source, *timeouts, threads=1)
    if not capture.isOpened():
        raise SourceError(f"Cannot open {name}: there is no answer, no video, or it takes another user or password.")
    return capture


def _open_camera(source: str) -> cv2.VideoCapture:
    device, settings = _parse_camera(source)
    name = without_password(source)
    if not os.path.exists(device):
        raise SourceError(f"Cannot open the camera {name}: there is no device {device}.")
    if not os.access(device, os.R_OK | os.W_OK):
        raise SourceError(f"Cannot open the camera {name}: no permission; is this user in the group video?")
    capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
    if not capture.isOpened():
        raise SourceError(f"Cannot open the camera {name}: {device} is in use, or no camera.")
    for prop, value in settings:
        capture.set(prop, value)
    for prop, value in settings:
        if prop != cv2.CAP_PROP_FPS and capture.get(prop) != value:  # a camera may round its rate
            capture.release()
            raise SourceError(f"The camera {name} does not do that; see `v4l2-ctl -d {device} --list-formats-ext`.")
    return capture


def _parse_camera(source: str) -> tuple[str, list[tuple[int, float]]]:
    """The device, and OpenCV's properties to set in this order."""
    match = _CAMERA.fullmatch(source)
    if not match:
        raise UsageError(
            f"A camera is camera:0 or /dev/video0, and after it any of ,format=MJPG ,size=1920x1080 ,fps=30 "
            f"in this order, not {without_password(source)!r}."
        )
    device = re.sub("^camera:", "/dev/video", match["device"])
    settings: list[tuple[int, float]] = []
    if match["format"]:
        settings.append((cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*match["format"])))
    if match["width"]:
        settings.append((cv2.CAP_PROP_FRAME_WIDTH, int(match["width"])))
        settings.append((cv2.CAP_PROP_FRAME_HEIGHT, int(match["height"])))
    if match["fps"]:
        settings.append((cv2.CAP_PROP_FPS, float(match["fps"])))
    return device, settings
