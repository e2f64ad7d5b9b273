"""What a source is, and images that come from files: photos and videos."""

import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

from rstpm_edge.errors import ImageError, UsageError
from rstpm_edge.image.decode import read_stored
from rstpm_edge.printable import without_password
from rstpm_edge.sources.aravis.settings import PREFIX as ARAVIS
from rstpm_edge.sources.frames import Every, Failure, Frame, Item
from rstpm_edge.sources.video import Video, open_regular, problem_in_video

VIDEOS = frozenset({".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv"})
STREAMS = frozenset({"rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "srt"})
_LIKE_AN_ADDRESS = re.compile(rf"(?is)(?:{'|'.join(STREAMS)})(?::/|//)|[^/]*:.*@")
V4L_MAJOR = 81  # of Linux's video devices, by whatever name udev made for them
SHORT = 0.98  # a video whose frames cover less than this share of what its header says was cut short

Kind = Literal["camera", "stream", "pipeline", "video", "image", "folder"]


def kind_of(source: str) -> Kind:
    """What a source named on the command line is. Raises UsageError for an address of an unknown kind."""
    device = source.split(",")[0]
    if device.startswith(("camera:", ARAVIS, "/dev/video", "/dev/v4l/")) or _is_video_device(device):
        return "camera"
    if os.path.isdir(source):
        return "folder"
    if not os.path.exists(source):
        scheme, separator, _ = source.partition("://")
        if separator and " " not in scheme:
            if scheme.lower() not in STREAMS:
                raise UsageError(f"Cannot read {without_password(source)}: streams are {', '.join(sorted(STREAMS))}.")
            return "stream"
        if " ! " in source:
            return "pipeline"
        if _LIKE_AN_ADDRESS.match(source):  # told as a file that is missing, its password would be shown
            raise UsageError(
                f"There is no file {without_password(source)!r}; an address is rtsp://user:password@host/path, with "
                f":// after one of {', '.join(sorted(STREAMS))}."
            )
    # Whatever else it is called, it is read as an image; that will tell.
    return "video" if Path(source).suffix.lower() in VIDEOS else "image"


class Files:
    """Photos and videos in their order: of each its kind, its path, and what is written for it is called.

    `every` says which frames of the videos are due.
    """

    def __init__(self, files: Sequence[tuple[Kind, Path, str]], every: Every) -> None:
        self._files = files
        self._every = every

    def __iter__(self) -> Iterator[Item]:
        for kind, path, output in self._files:
            if kind == "video":
                yield from video_frames(path, output, self._every)
            else:
                yield image_frame(path, output)

    def summary(self) -> str:
        """Nothing: each file that cannot be judged is told by itself."""
        return ""

    def close(self) -> None:
        """Nothing stays open."""


def image_frame(path: Path, output: str, taken: float | None = None) -> Frame | Failure:
    """Read an image file."""
    start = time.perf_counter()
    try:
        image = read_stored(path)
    except ImageError as error:
        return Failure(str(path), str(error))
    return Frame(str(path), image, output, (time.perf_counter() - start) * 1000, taken=taken)


def video_frames(path: Path, output: str, every: Every) -> Iterator[Item]:
    """The frames of a video file that are due, in order.

    A failure for each that is damaged, and where the video cannot be read, or not to its end.
    """
    source = str(path)
    try:
        with open_regular(path) as file:
            problem = problem_in_video(file)
            if problem is None:
                yield from _due_frames(file, path, output, every)
                return
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name, or no video
        problem = str(getattr(error, "strerror", None) or error)
    yield Failure(source, f"Cannot read {path}: {problem}.")


def _due_frames(file: BinaryIO, path: Path, output: str, every: Every) -> Iterator[Item]:
    source, number, seconds, slot = str(path), -1, 0.0, -1
    video = Video(file)
    start = time.perf_counter()
    for grab in video.grabs():
        if grab is not None:
            number, seconds = grab.number, grab.seconds
        if grab is None or every.slot(number, seconds) == slot:
            yield None
        else:
            slot = every.slot(number, seconds)
            image = video.picture(grab)
            if image is None:
                yield Failure(source, f"Frame {number} of {path} is damaged.", number)
            else:
                milliseconds = (time.perf_counter() - start) * 1000
                yield Frame(source, image, f"{output}.{number:06d}", milliseconds, number, seconds)
        start = time.perf_counter()
    # Some containers have no count, which OpenCV then estimates, so frames and time must both fall short.
    enough = SHORT * video.frames
    if number < 0:
        yield Failure(source, f"Cannot read {path}: it has no frames that OpenCV decodes.")
    elif video.rate > 0 and number + 1 < enough and seconds + 1 / video.rate < enough / video.rate:
        yield Failure(source, f"{path} ends after {number + 1} of {video.frames} frames; copy it again.")


def _is_video_device(path: str) -> bool:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return False
    return stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) == V4L_MAJOR
