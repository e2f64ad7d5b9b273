"""How many photos are INVALID: good ones, defects, other products, and good ones that were badly taken.

python tools/invalid_rates.py DATA...         # folders in the MVTec AD layout, each a product of its own

The limits are those that `rstpm-edge train` learns from train/good, a fifth of it held out. Nothing else is trained,
since nothing else has a part in them: teacher 1 alone looks at each photo. Changes are made at the size of the input.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from rstpm_edge.image.decode import read_stored
from rstpm_edge.image.placement import Placement
from rstpm_edge.image.preprocess import InputFormat
from rstpm_edge.postprocess.novelty import NoveltyCheck
from rstpm_edge.training.data.holdout import split
from rstpm_edge.training.data.images import good_images, images_in
from rstpm_edge.training.data.input_size import choose_size, sampled_sizes
from rstpm_edge.training.data.learned_photos import PhotoCounter, load_learned
from rstpm_edge.training.learning.novelty import learn_novelty
from rstpm_edge.training.model.presets import EDGE
from rstpm_edge.training.model.rstpm import RSTPM, embedding
from rstpm_edge.validity_check import ValidityCheck

Image = NDArray[np.uint8]
OTHERS, CHANGED = 20, 20  # photos of each other product, and good ones that are changed
BATCH = 8


def light(gain: float) -> Callable[[Image], Image]:
    return lambda image: np.clip(image * np.float32(gain), 0, 255).astype(np.uint8)


def blur(sigma: float) -> Callable[[Image], Image]:
    return lambda image: np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def noise(deviation: float) -> Callable[[Image], Image]:
    def changed(image: Image) -> Image:
        drawn = np.random.default_rng(0).normal(0, deviation, (*image.shape[:2], 1))
        return np.clip(image + drawn, 0, 255).astype(np.uint8)

    return changed


def patch(share: float, level: int) -> Callable[[Image], Image]:
    """A flat rectangle of this share of the image, in its middle: the largest of defects."""

    def changed(image: Image) -> Image:
        height, width = (round(side * share**0.5) for side in image.shape[:2])
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        image = image.copy()
        image[top : top + height, left : left + width] = level
        return image

    return changed


CHANGES: dict[str, Callable[[Image], Image]] = {
    **{f"light {gain:.0%}": light(gain) for gain in (0.1, 0.25, 0.5, 0.8, 1.25, 1.6, 2, 3)},
    **{f"blur {sigma:g} px": blur(sigma) for sigma in (1, 1.5, 2, 3, 5, 10)},
    **{f"noise {deviation:g}": noise(deviation) for deviation in (8, 25, 60)},
    "black": lambda image: np.full_like(image, 2),
    "white": lambda image: np.full_like(image, 254),
    "flat": lambda image: np.full_like(image, round(float(image.mean()))),
    "yellow light": lambda image: (image * np.array([1, 0.85, 0.4])).astype(np.uint8),
    "a quarter turn": lambda image: np.asarray(cv2.resize(np.rot90(image), image.shape[1::-1]), np.uint8),
    **{f"patch {share:.0%}": patch(share, 128) for share in (0.1, 0.25, 0.5)},
}


def spread(paths: Sequence[Path], most: int) -> list[Path]:
    return [paths[i * len(paths) // most] for i in range(most)] if len(paths) > most else list(paths)


def middle_level(model: RSTPM) -> int:
    return model.strides1.index(model.preset.strides[1])


@torch.no_grad()
def seen(model: RSTPM, images: Sequence[Image]) -> Iterator[torch.Tensor]:
    """Teacher 1's middle level of some images at a time, not standardised."""
    for start in range(0, len(images), BATCH):
        yield model.teacher1_alone(torch.from_numpy(np.stack(images[start : start + BATCH])))[middle_level(model)]


def standardize(model: RSTPM, images: Sequence[Image]) -> None:
    """As a training does for the photos that it learns from."""
    features = torch.cat(list(seen(model, images)))
    std, mean = torch.std_mean(features, (0, 2, 3), correction=0)
    model.standardize1.set(middle_level(model), mean, std)


@torch.no_grad()
def embeddings(model: RSTPM, images: Sequence[Image]) -> NDArray[np.float32]:
    level = middle_level(model)
    return np.concatenate([embedding(model.standardize1.one(level, raw)).numpy() for raw in seen(model, images)])


def rows(data: Path, others: Sequence[Path], model: RSTPM) -> Iterator[tuple[str, Counter[str]]]:
    """Each kind of photo, and how often it had which reason; "" for none."""
    files = good_images(data)
    size = choose_size(sampled_sizes(files, None), 32)
    photos = load_learned(files, size, "stretch")
    inputs, profile, limits = photos.inputs, photos.profile, photos.limits
    held_out, learned = split(len(inputs), 0.2, 0, ())
    print(f"{data.name}: {len(learned)} photos learned from, {len(held_out)} held out, input {size}", file=sys.stderr)
    standardize(model, list(inputs[learned]))
    found = embeddings(model, list(inputs))
    novelty = NoveltyCheck(learn_novelty(found[learned], len(learned), found[held_out]))
    check, form = ValidityCheck(limits, profile), InputFormat(size, "stretch", 16)

    def prepared(path: Path) -> Image:
        return form.prepare(read_stored(path), None, path, channels="bgr")[0]

    def count(images: Sequence[Image]) -> Counter[str]:
        novel = novelty.reasons(embeddings(model, images))
        why = [check.look(image).reason or one or "" for image, one in zip(images, novel, strict=True)]
        return Counter(one.split(":")[0].split(",")[0].split(" every")[0] for one in why)

    good = [prepared(path) for path in images_in(data / "test" / "good")]
    yield "good", count(good)
    kinds = sorted(path for path in (data / "test").iterdir() if path.name != "good")
    yield "defective", sum((count([prepared(p) for p in images_in(kind)]) for kind in kinds), Counter[str]())
    for other in others:
        yield other.name, count([prepared(path) for path in spread(good_images(other), OTHERS)])
    some = [good[i * len(good) // CHANGED] for i in range(CHANGED)] if len(good) > CHANGED else good
    for name, change in CHANGES.items():
        yield name, count([change(image) for image in some])


def colour_rows(data: Path) -> Iterator[tuple[str, Counter[str]]]:
    """The same of a product in colour, which these are not: all photos are tinted. By how they were taken alone."""
    files = good_images(data)
    size = choose_size(sampled_sizes(files, None), 32)
    form, counter = InputFormat(size, "stretch", 16), PhotoCounter()

    def tinted(path: Path) -> Image:
        image, _ = form.prepare(read_stored(path), None, path, channels="bgr")
        return np.asarray(image * np.array([1, 0.85, 0.7]), np.uint8)

    for path in files:
        counter.add(image := tinted(path), image, Placement(0, 0, *size))
    check = ValidityCheck(counter.limits(), counter.profile(8))

    def count(images: Sequence[Image]) -> Counter[str]:
        return Counter((check.look(image).reason or "").split(":")[0] for image in images)

    test = data / "test"
    good = [tinted(path) for path in images_in(test / "good")]
    defective = [tinted(path) for kind in sorted(test.iterdir()) if kind.name != "good" for path in images_in(kind)]
    yield "tinted, good", count(good)
    yield "tinted, defective", count(defective)
    yield "and exchanged", count([np.ascontiguousarray(image[..., ::-1]) for image in [*good, *defective]])
    yield "and made grey", count([np.repeat(image[..., 1:2], 3, axis=2) for image in [*good, *defective]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--only", metavar="NAME", help="learn from this one alone; the others are other products")
    parser.add_argument("--colours", action="store_true", help="look at the colours of tinted photos instead")
    options = parser.parse_args()
    torch.manual_seed(0)
    model = RSTPM(EDGE).eval()
    for data in options.data:
        if options.only in (None, data.name):
            others = [other for other in options.data if other != data]
            for name, reasons in colour_rows(data) if options.colours else rows(data, others, model):
                invalid = reasons.total() - reasons[""]
                told = ", ".join(f"{count} {why}" for why, count in reasons.most_common() if why)
                print(f"{data.name:16} {name:18} {invalid:4} of {reasons.total():4}  {told}", flush=True)


if __name__ == "__main__":
    main()
