"""Small videos whose verdicts are known."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

BAD = range(10, 13)  # frames of the videos that show a defect


def write_video(path: Path, frames: int = 30) -> Path:
    """160×120 pixels of grey, with a white spot in the frames BAD."""
    fourcc = cv2.VideoWriter.fourcc(*("mp4v" if path.suffix in (".mp4", ".mov") else "MJPG"))
    writer = cv2.VideoWriter(str(path), fourcc, 25, (160, 120))
    assert writer.isOpened()
    for number in range(frames):
        image = np.full((120, 160, 3), 127, np.uint8)
        if number in BAD:
            image[30:60, 80:120] = 255
        writer.write(image)
    writer.release()
    return path


def write_moving(path: Path, codec: str, frames: int = 48, size: tuple[int, int] = (320, 240)) -> Path:
    """Texture that moves, so that each frame needs what a decoder made of those before it; a key frame every 12."""
    width, height = size
    noise = np.random.default_rng(0).integers(0, 256, (height + frames, width + frames, 3), dtype=np.uint8)
    texture = cv2.GaussianBlur(noise, (0, 0), 2)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), 25, size)
    assert writer.isOpened()
    for number in range(frames):
        writer.write(np.ascontiguousarray(texture[number : number + height, number : number + width]))
    writer.release()
    return path


def packets(path: Path) -> list[tuple[int, int]]:
    """Where each packet of a video lies in its file (start, end), found by its bytes."""
    content, start, found = path.read_bytes(), 0, []
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    assert capture.set(cv2.CAP_PROP_FORMAT, -1)
    while capture.grab():
        packet = np.asarray(capture.retrieve()[1], np.uint8).tobytes()
        start = content.index(packet, start)
        found.append((start, start + len(packet)))
        start += len(packet)
    return found


def images(path: Path) -> list[NDArray[np.uint8]]:
    """What OpenCV makes of a video, frame by frame."""
    capture, found = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG), []
    while capture.grab():
        found.append(np.asarray(capture.retrieve()[1], np.uint8).copy())
    return found
