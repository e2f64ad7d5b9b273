"""Small videos whose verdicts are known."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

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
