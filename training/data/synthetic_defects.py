"""Defects painted into good photos: where there are no real ones, they say whether a change of the model loses any.

Not a substitute for real defects: no threshold rests on them, and the score of a model hardly. A segmentation head
learns from them what a residual may look like. Of all strengths, from what is hardly seen to what cannot be missed, so
that a score does not find them all:

patch    a piece of another photo, shifted, as in CutPaste (Li et al., arXiv 2104.04015)
texture  another photo's surface inside a cloudy region, as in DRAEM (Zavrtanik et al., arXiv 2108.07610)
scratch  a thin curved line, darker or brighter
blot     a soft spot, darker or brighter

and two of any extent, up to half of the photo, for the segmentation head alone:

region   another surface inside clouds: another photo's, this one's from elsewhere, smooth noise, or a blur of it
shade    clouds that are darker or brighter
"""

from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from .noise import Field, blur, float32, smooth_noise

Image = NDArray[np.uint8]

VISIBLE = 3.0  # grey values: a smaller change, over a few pixels, is no defect to anybody
Kind = Callable[[Field, Field, np.random.Generator], tuple[Field, Field]]


def spoiled(images: Sequence[Image], *, per_image: int, seed: int = 0) -> Iterator[Image]:
    """`per_image` defective versions of each of the good `images`, one after another, all kinds in turn.

    Images and results are (H, W, 3) uint8 of one size. The same images and seed give the same defects.
    """
    kinds = list(KINDS.values())
    for i, image in enumerate(images):
        for version in range(per_image):
            rng = np.random.default_rng((seed, i, version))
            donor = images[(i + int(rng.integers(1, max(len(images), 2)))) % len(images)]
            yield _spoil(image, donor, kinds[version % len(kinds)], rng)[0]


def with_masks(images: Sequence[Image], count: int, *, seed: int = 0) -> Iterator[tuple[Image, Field]]:
    """`count` defective versions of the good `images`, in turn, of all kinds, each with the mask of its defect.

    Masks are (H, W) float32, 0 to 1, of where it can be seen. The same images and seed give the same defects.
    """
    kinds = [*KINDS.values(), _region, _shade, _region]
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        image, donor = images[i % len(images)], images[int(rng.integers(0, len(images)))]
        spoilt, where = _spoil(image, donor, kinds[i % len(kinds)], rng)
        change = np.abs(spoilt.astype(np.float32) - image).mean(-1)
        yield spoilt, where * float32(blur(float32(change), 2.0) > VISIBLE)


def _spoil(image: Image, donor: Image, kind: Kind, rng: np.random.Generator) -> tuple[Image, Field]:
    good = float32(image)
    changed, where = kind(good, float32(donor), rng)  # (H, W, 3) and (H, W), 0 to 1
    strength = np.exp(rng.uniform(np.log(0.25), 0))
    mixed = good + float32(strength) * where[..., None] * (changed - good)
    return np.asarray(np.clip(np.rint(mixed), 0, 255), np.uint8), where


def _patch(good: Field, donor: Field, rng: np.random.Generator) -> tuple[Field, Field]:
    height, width = good.shape[:2]
    area = height * width * np.exp(rng.uniform(np.log(0.002), np.log(0.03)))
    ratio = np.exp(rng.uniform(-1, 1))
    tall = int(np.clip(np.sqrt(area * ratio), 2, height // 2))
    wide = int(np.clip(np.sqrt(area / ratio), 2, width // 2))
    (y, v), (x, u) = rng.integers(0, height - tall, 2), rng.integers(0, width - wide, 2)
    where = np.zeros((height, width), np.float32)
    where[y : y + tall, x : x + wide] = 1
    changed = good.copy()
    changed[y : y + tall, x : x + wide] = donor[v : v + tall, u : u + wide][::-1] * float32(rng.uniform(0.7, 1.3))
    return changed, where


def _texture(good: Field, donor: Field, rng: np.random.Generator) -> tuple[Field, Field]:
    height, width = good.shape[:2]
    clouds = smooth_noise(rng, (height, width), rng.uniform(0.05, 0.2) * min(height, width))
    where = float32(clouds > rng.uniform(1.5, 2.2)) * _spot(rng, height, width, 0.35)
    return donor[::-1, ::-1] * float32(rng.uniform(0.7, 1.3)), blur(where, 1.0)


def _scratch(good: Field, donor: Field, rng: np.random.Generator) -> tuple[Field, Field]:
    height, width = good.shape[:2]
    angle = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.06, 24))
    step = min(height, width) * rng.uniform(0.08, 0.4) / len(angle)
    path = np.cumsum(np.stack([np.cos(angle), np.sin(angle)], 1) * step, axis=0)  # x, y
    path += rng.uniform((0.1 * width, 0.1 * height), (0.9 * width, 0.9 * height)) - path.mean(0)
    where = np.zeros((height, width), np.float32)
    points = np.rint(path * 16).astype(np.int32)[:, None]  # in sixteenths of a pixel
    cv2.polylines(where, [points], False, 1.0, int(rng.integers(1, 4)), cv2.LINE_AA, 4)
    return good + _contrast(good, rng), where


def _blot(good: Field, donor: Field, rng: np.random.Generator) -> tuple[Field, Field]:
    height, width = good.shape[:2]
    return good + _contrast(good, rng), _spot(rng, height, width, rng.uniform(0.02, 0.12))


def _region(good: Field, donor: Field, rng: np.random.Generator) -> tuple[Field, Field]:
    height, width = good.shape[:2]
    clouds = smooth_noise(rng, (height, width), rng.uniform(0.02, 0.3) * min(height, width))
    where = blur(float32(clouds > np.quantile(clouds, rng.uniform(0.5, 0.98))), 1.0)
    surface = rng.integers(4)
    if surface == 0:
        changed = donor[::-1, ::-1] * float32(rng.uniform(0.7, 1.3))
    elif surface == 1:
        changed = np.roll(good, (rng.integers(8, height - 8), rng.integers(8, width - 8)), (0, 1))
    elif surface == 2:
        noise = smooth_noise(rng, (height, width), rng.uniform(1, 12))[..., None]
        changed = good.mean((0, 1)) * float32(rng.uniform(0.6, 1.4)) + noise * good.std() * float32(rng.uniform(0.3, 2))
    else:
        changed = blur(good, rng.uniform(1.5, 6))
    return float32(changed), where


def _shade(good: Field, donor: Field, rng: np.random.Generator) -> tuple[Field, Field]:
    height, width = good.shape[:2]
    clouds = smooth_noise(rng, (height, width), rng.uniform(0.05, 0.3) * min(height, width))
    lowest = np.quantile(clouds, rng.uniform(0.5, 0.97))
    steep = (clouds - lowest) / max(float(clouds.max() - lowest), 1e-6) * rng.uniform(1, 4)
    where = float32(np.clip(steep, 0, 1))
    return good * float32(np.exp(rng.choice([-1, 1]) * rng.uniform(0.2, 0.7))), where


def _contrast(good: Field, rng: np.random.Generator) -> Field:
    """Grey values to add: a multiple of the picture's own deviation, so that it is seen on dull parts and bright."""
    return float32(rng.choice([-1, 1]) * max(4 * float(good.std()), 40))


def _spot(rng: np.random.Generator, height: int, width: int, radius: float) -> Field:
    """A round soft spot (H, W) somewhere, 1 in its middle; its radius is a share of the shorter side."""
    y, x = rng.uniform(0, height), rng.uniform(0, width)
    rows, columns = np.arange(height)[:, None] - y, np.arange(width)[None, :] - x
    return float32(np.exp(-0.5 * (np.hypot(rows, columns) / (radius * min(height, width))) ** 2))


KINDS: dict[str, Kind] = {"patch": _patch, "texture": _texture, "scratch": _scratch, "blot": _blot}
