"""What a photo says of itself beside the others of its set: odd size, out of focus, badly exposed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

OCTAVES = 3
LONGEST = 1024  # a blur that cannot be seen at this size is far below what a model sees
# A set in which an image lies this many robust deviations out, and by a difference that an eye can see: both, since
# the deviation is small where photos are all alike, and large where they are not.
FAR = 5.0
BLUR_LOSS = 4.0  # times less energy in fine detail than is usual
BRIGHTNESS_RATIO = 1.4
CLIPPED_SHARE = 0.15  # of the pixels, more than is usual
ASPECT_RATIO = 1.1
COMMON = 0.8  # a size that so many share is the size of the set


@dataclass(frozen=True)
class Measures:
    """Figures of one photo; those after its size are of the part that is looked at."""

    height: int
    width: int
    brightness: float  # mean grey level, 0 to 255
    white: float  # share of pixels that are burnt out (250 and above)
    black: float  # and of those that are drowned (5 and below)
    detail: tuple[float, ...]  # log energy of the Laplacian beside the brightness, finest of three octaves first


@dataclass(frozen=True)
class Remark:
    """Why a photo was named. `kind` is one of size, blurred, exposure, copy, duplicate, unusual, unreadable."""

    kind: str
    text: str


def measure_quality(image: NDArray[np.uint8], part: NDArray[np.uint8]) -> Measures:
    """The figures of an image and of the part of it that is looked at, (H, W, 3) uint8 RGB each."""
    grey: NDArray[Any] = np.asarray(cv2.cvtColor(part, cv2.COLOR_RGB2GRAY))
    brightness, white, black = float(grey.mean()), float((grey >= 250).mean()), float((grey <= 5).mean())
    while max(grey.shape) > LONGEST:
        grey = _halved(grey)
    detail, level = [], grey.astype(np.float32)
    for _ in range(OCTAVES):
        energy = float(np.square(cv2.Laplacian(level, cv2.CV_32F)).mean())
        # Beside the square of the brightness, so that a longer exposure is no sharper photo.
        detail.append(float(np.log((energy + 1e-3) / (brightness + 8) ** 2)))
        level = _halved(level)
    return Measures(image.shape[0], image.shape[1], brightness, white, black, tuple(detail))


def judge_quality(photos: Sequence[Measures]) -> list[list[Remark]]:
    """What is odd about each photo beside the others; an empty list for most."""
    remarks: list[list[Remark]] = [[] for _ in photos]
    for judge in (_judge_size, _judge_detail, _judge_exposure):
        for row, remark in judge(photos):
            remarks[row].append(remark)
    return remarks


def robust_z(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Deviations from the median, in units of the standard deviation that the middle half suggests; 0 if all agree."""
    away = values - np.median(values)
    scale = 1.4826 * float(np.median(np.abs(away)))
    if scale == 0:  # more than half are equal
        scale = 1.2533 * float(np.abs(away).mean())
    return away / scale if scale > 0 else np.zeros_like(away)


def _judge_size(photos: Sequence[Measures]) -> list[tuple[int, Remark]]:
    counts = Counter((photo.height, photo.width) for photo in photos)
    common, count = counts.most_common(1)[0]
    if count >= COMMON * len(photos):
        text = f"{{1}}×{{0}} pixels, where most have {common[1]}×{common[0]}"
        return [
            (row, Remark("size", text.format(photo.height, photo.width)))
            for row, photo in enumerate(photos)
            if (photo.height, photo.width) != common
        ]
    aspect = np.log([photo.width / photo.height for photo in photos])
    usual = float(np.median(aspect))
    far = (np.abs(robust_z(aspect)) > FAR) & (np.abs(aspect - usual) > np.log(ASPECT_RATIO))
    return [
        (
            row,
            Remark(
                "size",
                f"{photos[row].width}×{photos[row].height} pixels: {np.exp(aspect[row]):.2f} times as wide as high, "
                f"where {np.exp(usual):.2f} is usual",
            ),
        )
        for row in np.flatnonzero(far).tolist()
    ]


def _judge_detail(photos: Sequence[Measures]) -> list[tuple[int, Remark]]:
    detail = np.array([photo.detail for photo in photos])  # (N, octaves)
    z = np.stack([robust_z(octave) for octave in detail.T], axis=1)
    loss = np.exp(np.median(detail, axis=0) - detail)
    blurred = (z < -FAR) & (loss > BLUR_LOSS)
    return [
        (row, Remark("blurred", f"fine detail is {loss[row][blurred[row]].max():.0f} times weaker than usual"))
        for row in np.flatnonzero(blurred.any(axis=1)).tolist()
    ]


def _judge_exposure(photos: Sequence[Measures]) -> list[tuple[int, Remark]]:
    found = []
    brightness = np.log([photo.brightness + 1 for photo in photos])
    ratio = np.exp(brightness - np.median(brightness))
    z = robust_z(brightness)
    for row in np.flatnonzero(np.abs(z) > FAR).tolist():
        if max(ratio[row], 1 / ratio[row]) > BRIGHTNESS_RATIO:
            word = "bright" if ratio[row] > 1 else "dark"
            usual = float(np.exp(np.median(brightness)) - 1)
            text = f"too {word}: mean grey level {photos[row].brightness:.0f}, where {usual:.0f} is usual"
            found.append((row, Remark("exposure", text)))
    for name, what in (("white", "burnt out (white)"), ("black", "drowned (black)")):
        shares = np.array([getattr(photo, name) for photo in photos])
        usual = float(np.median(shares))
        for row in np.flatnonzero((robust_z(shares) > FAR) & (shares - usual > CLIPPED_SHARE)).tolist():
            text = f"{100 * shares[row]:.0f} % of it is {what}, where {100 * usual:.0f} % is usual"
            found.append((row, Remark("exposure", text)))
    return found


def _halved(image: NDArray[Any]) -> NDArray[Any]:
    size = (max(image.shape[1] // 2, 1), max(image.shape[0] // 2, 1))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
