"""A synthetic inspection data set: one milled aluminium cover plate, good parts and six kinds of defect.

    write_dataset(Path("demo-data"))     # MVTec AD layout, about 170 pictures

For trying the whole chain without a data set of one's own, and for tests. A part is a height field with
colour, gloss and print (`Surface`); defects edit that; light, shadow, lens and sensor make a photograph of it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.atomic_files import new_file

from ..data.noise import Field
from .part_defects import DEFECTS, Surface
from .part_surface import new_part
from .photograph import Camera, Light, Pose, Shot, add_noise, photograph, project, tone

Image = NDArray[np.uint8]

DEFECT_KINDS: tuple[str, ...] = tuple(DEFECTS)

_MIN_CHANGE = 9.0  # grey levels: about four times the sensor noise, where a careful eye starts to see it
_MIN_CONTRAST = 17.0  # mean change over the mask; fainter defects are drawn again, stronger
_MIN_AREA = 3e-4  # of the shorter side squared: 30 pixels at 320


def render_part(
    seed: int | np.random.Generator, *, size: tuple[int, int] = (320, 320), defect: str | None = None
) -> tuple[Image, Image]:
    """Photograph one part: the image, uint8 (H, W, 3) BGR, and the defect's mask, uint8 (H, W), 0 or 255.

    The same integer seed gives the same part, pose, light and noise with any `defect`, or with none. A
    generator gives a new part at each call. `size` is (height, width).
    """
    if defect is not None and defect not in DEFECTS:
        raise ValueError(f"unknown defect {defect!r}; choose from {', '.join(DEFECT_KINDS)}")
    if min(size) < 128:
        raise ValueError(f"size is {size}; a scratch needs at least 128 pixels each way to show")
    part_rng, scene_rng, defect_rng, noise_rng = np.random.default_rng(seed).spawn(4)
    surface = new_part(part_rng, size)
    shot = Shot(size, Pose.draw(scene_rng), Light.draw(scene_rng), Camera.draw(scene_rng))
    scene = photograph(surface, shot)
    mask = np.zeros(size, np.uint8)
    if defect is not None:
        scene, mask = _spoil(surface, scene, shot, defect, defect_rng)
    return np.rint(tone(add_noise(scene, shot.camera, noise_rng))).astype(np.uint8), mask


def write_dataset(
    folder: Path,
    *,
    seed: int = 0,
    train: int = 120,
    test_good: int = 20,
    test_per_kind: int = 5,
    size: tuple[int, int] = (320, 320),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write a data set in MVTec AD layout: train/good, test/good, test/KIND, ground_truth/KIND.

    A picture depends on the seed, its folder and its number alone: asking for more leaves the others alone. `progress`
    gets (done, total) after each.
    """
    done, total = 0, train + test_good + test_per_kind * len(DEFECT_KINDS)
    groups = [("train", "good", train), ("test", "good", test_good)]
    groups += [("test", kind, test_per_kind) for kind in DEFECT_KINDS]
    for split, kind, count in groups:
        for index in range(count):
            rng = np.random.default_rng([seed, zlib.crc32(f"{split}/{kind}".encode()), index])
            image, mask = render_part(rng, size=size, defect=None if kind == "good" else kind)
            _write(folder / split / kind / f"{index:03}.png", image)
            if kind != "good":
                _write(folder / "ground_truth" / kind / f"{index:03}_mask.png", mask)
            done += 1
            progress(done, total)


def _spoil(surface: Surface, good: Field, shot: Shot, kind: str, rng: np.random.Generator) -> tuple[Field, Image]:
    """The photograph with a defect, and the mask of it; drawn again, stronger, until it can be seen."""
    before = tone(good)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
    for strength in 1.25 ** np.arange(12):
        spoilt, support = DEFECTS[kind](surface, rng, float(strength))
        scene = photograph(spoilt, shot)
        near = project(support, shot) > 0.25
        change = np.abs(tone(scene) - before).max(axis=2)
        seen = (change > _MIN_CHANGE) & near
        # Closed, because a defect includes what lies between its edges; an outline of a dent is not the dent.
        mask = np.asarray(cv2.morphologyEx(seen.astype(np.uint8), cv2.MORPH_CLOSE, kernel), np.uint8)
        mask &= near.astype(np.uint8)
        if mask.sum() >= _MIN_AREA * min(shot.size) ** 2 and change[mask > 0].mean() >= _MIN_CONTRAST:
            return scene, mask * np.uint8(255)
    raise RuntimeError(f"could not draw a visible {kind}")


def _write(path: Path, image: Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    done, encoded = cv2.imencode(".png", image)
    if not done:
        raise OSError(f"could not encode {path}")
    with new_file(path) as file:
        file.write(encoded.tobytes())
