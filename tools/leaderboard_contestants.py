"""Who takes part in a leaderboard, on which photos, and the key of a result: what it was computed from, as a hash."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from leaderboard_hash import source_hash
from leaderboard_peers import METHODS, VERSION, PeerOptions, peer_options

import rstpm_edge
from rstpm_edge.cli.parameter_types import SIZE_OR_AUTO
from rstpm_edge.errors import DatasetError, UsageError
from rstpm_edge.training.benchmark.run import chosen_images
from rstpm_edge.training.data.datasets import Category
from rstpm_edge.training.data.images import TestImage
from rstpm_edge.training.data.input_size import choose_size, sampled_sizes
from rstpm_edge.training.learning.content import weights_fingerprint
from rstpm_edge.training.learning.options import TrainingOptions, check_options, size_unit
from rstpm_edge.training.model.preset_overrides import override
from rstpm_edge.training.model.presets import preset_with_teachers

QUICK_LEARNED, QUICK_TESTED, QUICK_EPOCHS = 100, 60, 15  # photos, photos of either kind, epochs
BASE = "edge"  # what variants are held against

# Each of --method's names, as --variant would write it.
CONTESTANTS: dict[str, dict[str, str]] = {
    "edge": {},
    "edge-small": {"preset": "edge-small"},
    "paper": {"preset": "paper"},
    "padim": {"method": "padim"},
    "padim-8-16-32": {"method": "padim", "strides": "8,16,32"},
    # A hundredth of the patches, which PatchCore's paper finds as good as anomalib's tenth: that takes hours to pick.
    "patchcore": {"method": "patchcore", "strides": "8,16", "coreset": "0.01"},
    "patchcore-16-32": {"method": "patchcore", "strides": "16,32", "coreset": "0.01"},
    "stfpm": {"method": "stfpm"},
    "stfpm-8-16-32": {"method": "stfpm", "strides": "8,16,32"},
    "efficientad": {"method": "efficientad"},
}
DEFAULT = ("edge", "edge-small", "padim", "patchcore", "stfpm", "efficientad")

# And those of --variant that need no settings: the default with one thing changed.
VARIANTS: dict[str, dict[str, str]] = {
    "no-standardisation": {"standardize": "false"},
    "no-head": {"segmentation_head": "false"},
    "paper-distance": {"distance": "cosine"},
    "all-errors": {"mining_share": "1"},
    "no-augmentation": {"augmentation": "none"},
    "shift": {"augmentation": "shift"},
    "rotate": {"augmentation": "rotate"},
    "flip": {"augmentation": "flip"},
    "pairs-alike": {"reconstruction_weight": "1"},
    "paper-fusion": {"fusion": "paper"},
    "paper-distance-and-fusion": {"distance": "cosine", "fusion": "paper"},
    "smoothed": {"smoothing_sigma": "2"},
    "no-attention": {"attention": "false"},
    "same-teachers": {"teacher2": "tf_efficientnet_lite0"},
    "teachers-swapped": {"teacher1": "tf_efficientnet_lite1", "teacher2": "tf_efficientnet_lite0"},
    "two-lite0-no-attention": {"teacher2": "tf_efficientnet_lite0", "attention": "false"},
    "teacher2-full-resolution": {"teacher2_shrink": "1"},
    "student1-from-image": {"shared_stem": "none", "student1_widths": "32,48,64,96,160"},
    "strides-4-8-16": {"strides": "4,8,16", "shared_stem": "none", "student1_widths": "32,48,64,96"},
    "narrow-students": {"student1_widths": "24,32,48,80", "student2_widths": "80,64,32"},
    "wide-students": {"student1_widths": "96,128,192,320", "student2_widths": "320,256,128"},
    **{f"area-{side}": {"area": str(side)} for side in (192, 224, 256, 320, 384, 512)},
}

# What ours comes from, below the root of a checkout. Reports, audits, INT8 and the demo have no part in it.
OUR_CODE = (
    *(f"training/{room}" for room in ("data", "model", "learning", "graph", "export", "evaluation")),
    *(f"rstpm_edge/{room}" for room in ("image", "model", "engine", "postprocess")),
    *(f"rstpm_edge/{name}.py" for name in ("calibration", "pipeline", "preprocessor")),
    "csrc",
    "tools/leaderboard_measure.py",
    "tools/leaderboard_ours.py",
)
PEER_CODE = (
    "training/evaluation/metrics.py",
    "training/evaluation/pixel_curves.py",
    "tools/leaderboard_measure.py",
    "tools/leaderboard_peers.py",
    "tools/leaderboard_worker.py",
)


@dataclass(frozen=True)
class Contestant:
    """One row of the table: ours with these options, or one of anomalib's methods with those."""

    name: str
    options: TrainingOptions | PeerOptions
    max_images: int | None = None  # learn from so many only
    precision: str = "auto"
    area: int | None = None  # pixels of the input's side, if it were a square: it has the photos' own shape

    @property
    def is_ours(self) -> bool:
        """Whether it is trained by this package."""
        return isinstance(self.options, TrainingOptions)

    def described(self) -> dict[str, Any]:
        """All that was chosen and counts, but for the seed, as JSON gives it back."""
        if isinstance(self.options, PeerOptions):
            chosen: dict[str, Any] = self.options.counting()
            if self.options.method == "efficientad":
                chosen["own_teacher"] = weights_fingerprint(self.options.own_teacher or "random")
        else:
            chosen = {"method": "rstpm", **asdict(self.options)}
            chosen["preset"].pop("name")  # tells what was changed, in no certain words
            del chosen["seed"]
            weights = self.options.weights.items()
            chosen["weights"] = {name: weights_fingerprint(source) for name, source in weights}
            chosen["precision"] = self.precision
            if self.area is not None:
                chosen["area"] = self.area
        read_again: dict[str, Any] = json.loads(json.dumps({**chosen, "max_images": self.max_images}))
        return read_again


@dataclass(frozen=True)
class Common:
    """What holds for all contestants that do not say otherwise."""

    size: str = "256"
    epochs: int | None = None
    weights: Mapping[str, str] | None = None
    precision: str = "auto"
    own_teacher: str | None = None
    imagenette: str | None = None


def parse_variant(text: str) -> tuple[str, dict[str, str]]:
    """NAME:KEY=VALUE,KEY=VALUE, or a name of `VARIANTS`; a value may hold commas. Raises UsageError."""
    name, colon, rest = text.partition(":")
    if not colon:
        if name not in VARIANTS:
            raise UsageError(f"There is no variant {name}; choose from {', '.join(VARIANTS)}, or say NAME:KEY=VALUE.")
        return name, VARIANTS[name]
    values: dict[str, str] = {}
    for part in rest.split(","):
        key, sign, value = part.partition("=")
        if sign and key.strip():
            last = key.strip()
            values[last] = value.strip()
        elif values and part.strip():
            values[last] += f",{part.strip()}"
        else:
            raise UsageError(f"--variant takes NAME:KEY=VALUE,KEY=VALUE, such as small:size=192, not {text!r}.")
    if not re.fullmatch(r"[\w.+-]+", name):
        raise UsageError(f"A variant's name is of letters, digits and - + . _, not {name!r}.")
    return name, values


def contestant(name: str, values: Mapping[str, str], common: Common) -> Contestant:
    """`values` are fields of the preset as `--set` takes them, options of training, or of one of anomalib's methods.

    Raises UsageError.
    """
    values = dict(values)
    method = values.pop("method", "rstpm")
    max_images = _number("max_images", values.pop("max_images", None), int)
    if method != "rstpm":
        if method not in METHODS:
            raise UsageError(f"There is no method {method}; choose from rstpm, {', '.join(METHODS)}.")
        usual = PeerOptions(method, own_teacher=common.own_teacher, imagenette=common.imagenette)
        given = {"size": common.size} | ({} if common.epochs is None else {"epochs": str(common.epochs)})
        return Contestant(name, peer_options({**given, **values}, usual), max_images)
    preset = preset_with_teachers(values.pop("preset", "edge"), None, None)
    size, resize = SIZE_OR_AUTO.convert(values.pop("size", common.size), None, None), values.pop("resize", "stretch")
    if resize not in ("stretch", "letterbox"):
        raise UsageError(f"resize is stretch or letterbox, not {resize!r}.")
    area, epochs = (_number(key, values.pop(key, None), int) for key in ("area", "epochs"))
    holdout = _number("holdout", values.pop("holdout", None), float)
    minutes = _number("max_minutes", values.pop("max_minutes", None), float)
    options = TrainingOptions(
        override(preset, values),
        epochs=common.epochs if epochs is None else epochs,
        max_minutes=minutes,
        size=size,
        resize="letterbox" if resize == "letterbox" else "stretch",
        weights=common.weights or {},
    )
    options = options if holdout is None else replace(options, holdout=holdout)
    check_options(options)
    return Contestant(name, options, max_images, common.precision, area)


def quick(category: Category) -> Category:
    """Some of its photos only, evenly spread: to learn from, and of good and defective test photos."""
    test = sorted(category.test, key=lambda image: image.is_defective)
    kinds = ([image for image in test if image.is_defective == kind] for kind in (False, True))
    chosen = [image for images in kinds for image in _spread(images, QUICK_TESTED)]
    return replace(category, train=tuple(_spread(category.train, QUICK_LEARNED)), test=tuple(chosen))


def whole(category: Category) -> Category:
    """All photos, the good ones of the test first."""
    return replace(category, test=tuple(sorted(category.test, key=lambda image: image.is_defective)))


def learned_from(category: Category, one: Contestant, seed: int) -> Category:
    """With the photos that this contestant learns from, of this seed."""
    return replace(category, train=tuple(chosen_images(category.train, one.max_images, seed)))


def on_photos(one: Contestant, category: Category) -> Contestant:
    """The contestant with the input that it has on these photos. Raises UsageError where it cannot work."""
    if one.area is None or isinstance(one.options, PeerOptions):
        return one
    sizes = sampled_sizes(category.train, None)
    scale = one.area / math.sqrt(statistics.median(height * width for height, width in sizes))
    scaled = [(round(scale * height), round(scale * width)) for height, width in sizes]
    options = replace(one.options, size=choose_size(scaled, size_unit(one.options.preset), one.area**2))
    check_options(options)
    return replace(one, options=options, area=None)


def result_key(category: Category, one: Contestant, seed: int) -> str:
    """The hash of all that a result comes from: photos by content, method, options, seed, code.

    `category` is as `learned_from` gives it. Raises DatasetError, WeightsError.
    """
    content = {
        "photos": _photos(category),
        "options": one.described(),
        "seed": seed,
        "code": _code(OUR_CODE) if one.is_ours else [VERSION, _code(PEER_CODE)],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def timing_key(one: Contestant) -> str:
    """What a latency belongs to: method and options alone."""
    return hashlib.sha256(json.dumps(one.described(), sort_keys=True).encode()).hexdigest()


@functools.cache
def _code(parts: tuple[str, ...]) -> str:
    return source_hash(Path(rstpm_edge.__file__).resolve().parent.parent, parts)


def _photos(category: Category) -> str:
    total = hashlib.sha256()
    for path in category.train:
        total.update(_digest(path))
    for image in category.test:
        total.update(image.kind.encode() + b"\0" + _digest(image.path) + _mask(image))
    return total.hexdigest()


def _mask(image: TestImage) -> bytes:
    return b"none" if image.mask is None else _digest(image.mask)


def _digest(path: Path) -> bytes:
    try:
        found = path.stat()
        return _digest_of(path, found.st_mtime_ns, found.st_size)
    except OSError as error:
        raise DatasetError(f"Cannot read {path}: {error.strerror or error}.") from error


@functools.cache
def _digest_of(path: Path, changed: int, size: int) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int))]


def _number(name: str, text: str | None, kind: type[int] | type[float]) -> Any:
    if text is None:
        return None
    try:
        number = kind(text)
    except ValueError:
        raise UsageError(f"{name} is a number, not {text!r}.") from None
    if not number > 0:
        raise UsageError(f"{name} must be above 0, not {text}.")
    return number
