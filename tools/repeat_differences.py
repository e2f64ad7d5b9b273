"""By how much copies of a photo differ, and true repeats, in the eyes of `rstpm-edge msa`: the table in docs/msa.md.

python tools/repeat_differences.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.image.decode import decode_stored
from rstpm_edge.msa.repeats import Exposure, exposure, least_difference
from rstpm_edge.training.demo.part_surface import new_part
from rstpm_edge.training.demo.photograph import Camera, Light, Pose, Shot, add_noise, photograph, tone

QUALITIES = (50, 75, 85, 90, 95, 98)
SIZE = (1200, 1600)
RENDERED = (256, 256)
PARTS = 8


def saved(name: str, pixels: NDArray[Any], *options: int, bits: int = 16) -> Exposure:
    """A photo, as a file of that name holds it."""
    content = cv2.imencode(Path(name).suffix, pixels, options)[1].tobytes()
    return exposure(Path(name), content, decode_stored(content, name), bits)


def jpeg(pixels: NDArray[Any], quality: int) -> Exposure:
    """The same as JPEG."""
    return saved("photo.jpg", pixels, cv2.IMWRITE_JPEG_QUALITY, quality)


def textures(rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Scenes without noise, (H, W, 3), 0 to 255."""
    blurred: NDArray[Any] = cv2.GaussianBlur(rng.normal(0, 1, (*SIZE, 3)), (0, 0), 2)
    soft = np.divide(blurred, blurred.std())
    grey = np.repeat(soft[..., :1], 3, axis=2)
    return {"even": np.full((*SIZE, 3), 120.0), "grey": 120 + 25 * grey, "colour": soft * 40 + [60, 120, 190]}


def eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Rounded, and cut off at black and white."""
    return np.asarray(np.rint(values).clip(0, 255), np.uint8)


def of_textures(rng: np.random.Generator) -> None:
    """Copies in other formats, and pairs of exposures with little noise."""
    for name, scene in textures(rng).items():
        for noise in (0.5, 1.0, 2.0):
            one, other = (scene + rng.normal(0, noise, scene.shape) for _ in range(2))
            twelve = np.asarray((one * 16).clip(0, 4095), np.uint16)
            first, second = eight_bits(one), eight_bits(other)
            copies = [least_difference(saved("a.png", first), jpeg(first, quality)) for quality in QUALITIES]
            bits = [
                least_difference(saved("a.png", twelve, bits=12), saved("b.png", copy))
                for copy in (np.asarray(twelve >> 4, np.uint8), eight_bits(twelve / 4095 * 255))
            ]
            pairs = [least_difference(jpeg(first, quality), jpeg(second, quality)) for quality in QUALITIES]
            as_png = least_difference(saved("a.png", first), saved("b.png", second))
            print(
                f"{name:6} noise {noise}: JPEG copies to {max(copies):.2f}, 12 and 8 bits to {max(bits):.2f}; two "
                f"exposures {as_png:.2f}, as JPEG "
                + ", ".join(f"{quality}: {pair:.2f}" for quality, pair in zip(QUALITIES, pairs, strict=True))
            )


def of_rendered_parts() -> None:
    """Pairs of exposures of the demo's part, at rest and put in anew."""
    for how in ("at rest", "put in anew"):
        found = []
        for seed in range(PARTS):
            rng = np.random.default_rng(seed)
            surface, light, camera, pose = new_part(rng, RENDERED), Light.draw(rng), Camera.draw(rng), Pose.draw(rng)
            photos = []
            for _ in range(2):
                pose = Pose.draw(rng) if how == "put in anew" else pose
                scene = photograph(surface, Shot(RENDERED, pose, light, camera))
                photos.append(eight_bits(tone(add_noise(scene, camera, rng))))
            found.append(least_difference(saved("a.png", photos[0]), saved("b.png", photos[1])))
            found += [least_difference(jpeg(photos[0], quality), jpeg(photos[1], quality)) for quality in QUALITIES]
        print(f"rendered part {how}: from {min(found):.2f}")


if __name__ == "__main__":
    of_textures(np.random.default_rng(0))
    of_rendered_parts()
