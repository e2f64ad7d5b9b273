"""anomalib's side of leaderboard.py: which methods there are, what they are given, and having them trained.

All see the same photos, brought to the model's input by our resize, and all but EfficientAD-S start from the weights of
our teacher (checked: both sides must give the same features).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
from anomalib_venv import PACKAGES as ANOMALIB
from anomalib_venv import ensure_anomalib, run_quietly
from leaderboard_hash import source_hash
from leaderboard_measure import JudgedPhotos

from rstpm_edge.errors import UsageError
from rstpm_edge.training.data.datasets import Category

TEACHER_STRIDES = (4, 8, 16, 32)
BATCH_SIZE = 32  # anomalib's default
UNIT = 32  # sides of the input are multiples of it
WORKER = Path(__file__).with_name("leaderboard_worker.py")
VERSION = ANOMALIB[0]  # what is installed is in each result
# What our own training asks of the C library, by mallopt: to keep freed memory, not to fault it in again at each step.
# Only for the method that has steps: the two that collect features would hold some of them twice.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str((1 << 31) - 1)}


@dataclass(frozen=True)
class PeerOptions:
    """What may be chosen for one of anomalib's methods; those of others do not count."""

    method: str
    size: tuple[int, int] | None = (256, 256)  # height, width; None: the photos' own aspect at the area of 256×256
    teacher: str = "tf_efficientnet_lite0"
    strides: tuple[int, ...] = (4, 8, 16)  # of its features; as in the papers, PatchCore takes the upper two levels
    features: int = 100  # of the channels, drawn at random: what PaDiM's paper takes of ResNet-18
    coreset: float = 0.1  # share of the patches that PatchCore keeps: anomalib's
    epochs: int = 100  # of STFPM: its paper's
    steps: int = 70_000  # of EfficientAD: its paper's
    own_teacher: str | None = None  # file of EfficientAD's weights, which no package has
    imagenette: str | None = None  # and folder of the images that it is to forget

    def counting(self) -> dict[str, Any]:
        """Those that this method looks at, by name."""
        of = {
            "padim": ("teacher", "strides", "features"),
            "patchcore": ("teacher", "strides", "coreset"),
            "stfpm": ("teacher", "strides", "epochs"),
            "efficientad": ("steps",),
        }
        return {name: value for name, value in asdict(self).items() if name in ("method", "size", *of[self.method])}


METHODS = {"padim": "PaDiM", "patchcore": "PatchCore", "stfpm": "STFPM", "efficientad": "EfficientAD-S"}


def peer_options(values: Mapping[str, str], options: PeerOptions) -> PeerOptions:
    """`options` with `values` as --variant gives them. Raises UsageError."""
    known = [field.name for field in fields(PeerOptions) if field.name != "method"]
    changes: dict[str, Any] = {}
    for name, text in values.items():
        if name not in known:
            raise UsageError(f"{METHODS[options.method]} has no option {name}; there are {', '.join(known)}.")
        try:
            if name == "size":
                changes[name] = None if text == "auto" else tuple(int(side) for side in (text.split("x") * 2)[:2])
            elif name == "strides":
                changes[name] = tuple(int(part) for part in text.split(","))
            elif name in ("teacher", "own_teacher", "imagenette"):
                changes[name] = text
            else:
                changes[name] = (float if name == "coreset" else int)(text)
        except ValueError:
            raise UsageError(f"{METHODS[options.method]} cannot have {name}={text}.") from None
    changed = replace(options, **changes)
    numbers = (changed.features, changed.epochs, changed.steps, *changed.strides, *(changed.size or ()))
    if min(numbers) < 1 or not 0 < changed.coreset <= 1 or any(side % UNIT for side in changed.size or ()):
        raise UsageError(
            f"Options of {METHODS[options.method]} are positive numbers, coreset is at most 1, and the sides of size "
            f"are multiples of {UNIT}."
        )
    return changed


def judge_peer(
    category: Category, options: PeerOptions, seed: int, venv: Path, fits: Path, model: Path, name: str
) -> tuple[JudgedPhotos, float, dict[str, str]]:
    """Have anomalib learn from the photos of `category` and judge its test photos, on this process's cores.

    What it came to stays in `fits`, by what was asked for, and is not computed again. Returns what it made of the test
    photos, core-minutes, and versions; `model` is its ONNX file.
    """
    import cv2

    from rstpm_edge.atomic_files import make_folder

    size = options.size or own_aspect(category)
    test, masks = read_test_photos(category, size)
    python = ensure_anomalib(venv)
    inputs, common = write_inputs(fits, category, test, options)
    job = job_of(options, {**common, "seed": seed})
    outcome, folder = fit(name, python, fits, inputs, job)
    maps = np.load(folder / "maps.npy")

    def map_at(i: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        assert masks is not None
        return np.asarray(cv2.resize(maps[i], masks[i].shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)

    make_folder(model.parent)
    with suppress(FileNotFoundError):  # it leaves none
        shutil.copyfile(folder / "model.onnx", model)
    defective = np.array([image.is_defective for image in category.test])
    scores = np.load(folder / "scores.npy").astype(np.float64)
    return JudgedPhotos(defective, scores, masks, map_at), outcome["core_minutes"], outcome.get("versions", {})


def own_aspect(category: Category, area: int = 256 * 256) -> tuple[int, int]:
    """Height and width in multiples of 32, in the proportions of the first photo, of about that area."""
    from rstpm_edge.image.decode import read_image

    height, width = read_image(category.train[0]).shape[:2]
    sides = (round((area * ratio) ** 0.5 / UNIT) * UNIT for ratio in (height / width, width / height))
    return max(UNIT, next(sides)), max(UNIT, next(sides))


def read_test_photos(
    category: Category, size: tuple[int, int]
) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], list[np.ndarray[Any, np.dtype[np.bool_]]] | None]:
    """All test photos, stretched to `size`, (N, H, W, 3) uint8 RGB, and their masks at their own sizes, or None.

    Raises RstpmEdgeError for photos or masks that cannot be read.
    """
    from rstpm_edge.image.decode import read_image
    from rstpm_edge.image.preprocess import to_input
    from rstpm_edge.training.data.images import read_mask

    masked = all(image.mask is not None for image in category.test if image.is_defective)
    inputs, masks = [], []
    for image in category.test:
        pixels = read_image(image.path)
        inputs.append(to_input(pixels, size, "stretch")[0])
        if masked:
            masks.append(read_mask(image, (pixels.shape[0], pixels.shape[1])))
    return np.stack(inputs), masks if masked else None


def layer_names(feature_info: Sequence[Mapping[str, Any]], strides: Sequence[int]) -> list[str]:
    """timm's names of the layers whose features have these strides; UsageError where there is none."""
    names = {int(info["reduction"]): str(info["module"]) for info in feature_info}
    missing = [stride for stride in strides if stride not in names]
    if missing:
        have = ", ".join(map(str, sorted(names)))
        raise UsageError(f"The teacher has no features at stride {missing[0]}, only at {have}.")
    return [names[stride] for stride in strides]


def write_inputs(
    fits: Path, category: Category, test: np.ndarray[Any, np.dtype[np.uint8]], options: PeerOptions
) -> tuple[Path, dict[str, Any]]:
    """Write what all methods are given to a folder below `fits`; the folder, and the part of a job that all share.

    train.npy, test.npy      (N, H, W, 3) uint8 RGB; `test` as given
    teacher.safetensors      the teacher's weights, by timm's names
    features.npz             "image", normalised, and our teacher's features of it by layer

    Raises RstpmEdgeError.
    """
    import torch
    from safetensors.torch import save_file

    from rstpm_edge.atomic_files import make_folder
    from rstpm_edge.training.data.images import load_inputs
    from rstpm_edge.training.model.teacher_weights import PACKAGES
    from rstpm_edge.training.model.teachers import load_teacher

    if options.teacher not in PACKAGES:
        raise UsageError(f"The teacher is one of {', '.join(PACKAGES)}, whose weights are in packages.")
    train, _, _ = load_inputs(category.train, (test.shape[1], test.shape[2]), "stretch")
    teacher = load_teacher(options.teacher, TEACHER_STRIDES)
    layers = layer_names(list(cast(Iterable[Mapping[str, Any]], teacher.backbone.feature_info)), TEACHER_STRIDES)
    common = {
        "inputs": hashlib.sha256(train.tobytes() + test.tobytes()).hexdigest(),
        "weights": teacher.record.sha256,
        "backbone": options.teacher,
        "pyramid": dict(zip(map(str, TEACHER_STRIDES), layers, strict=True)),
        "mean": list(teacher.mean),
        "std": list(teacher.std),
        "size": list(test.shape[1:3]),
    }
    folder = make_folder(fits) / f"inputs-{_digest(common)}"
    if not folder.exists():
        scratch = Path(tempfile.mkdtemp(dir=fits))
        np.save(scratch / "train.npy", train)
        np.save(scratch / "test.npy", test)
        save_file(teacher.backbone.state_dict(), scratch / "teacher.safetensors")
        mean, std = (torch.tensor(each)[:, None, None] for each in (teacher.mean, teacher.std))
        image = (torch.from_numpy(train[:1]).permute(0, 3, 1, 2) / 255 - mean) / std
        with torch.no_grad():
            features = {layer: level.numpy() for layer, level in zip(layers, teacher(image), strict=True)}
        np.savez(scratch / "features.npz", image=image.numpy(), **features)
        try:
            scratch.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(scratch)
    return folder, common


def job_of(options: PeerOptions, common: Mapping[str, Any]) -> dict[str, Any]:
    """What the worker reads: `common`, and what this method looks at, so that what others look at may change."""
    own: dict[str, dict[str, Any]] = {
        "padim": {"epochs": 1, "n_features": options.features},
        "patchcore": {"epochs": 1, "coreset": options.coreset},
        "stfpm": {"epochs": options.epochs},
        "efficientad": {
            "steps": options.steps,
            "own_teacher": options.own_teacher,
            "imagenette": options.imagenette,
        },
    }
    return {
        **common,
        **own[options.method],
        "method": options.method,
        "code": [VERSION, source_hash(WORKER.parent, [WORKER.name])],
        "layers": [common["pyramid"].get(str(stride), str(stride)) for stride in options.strides],
        "batch_size": BATCH_SIZE,
    }


def fit(title: str, python: Path, fits: Path, inputs: Path, job: Mapping[str, Any]) -> tuple[dict[str, Any], Path]:
    """Have anomalib train, judge and export, unless it has; what its worker says of it, and the folder.

    Raises ClickException with the worker's last words.
    """
    folder = fits / f"{job['method']}-{_digest(job)}"
    result = folder / "result.json"
    if not is_done(result, job):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "job.json").write_text(json.dumps(job))
        run_quietly(
            [str(python), str(WORKER), str(folder), str(inputs)],
            f"{title} could not be trained",
            log=folder / "log.txt",
            env={**os.environ, **(KEEP_MEMORY if job["method"] in ("stfpm", "efficientad") else {})},
        )
    try:
        outcome: dict[str, Any] = json.loads(result.read_text())
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{title} left no result in {folder}: {error}") from error
    return outcome, folder


def is_done(result: Path, job: Mapping[str, Any]) -> bool:
    """Whether an earlier run has done this very job to the end."""
    try:
        return bool(json.loads(result.read_text())["job"] == json.loads(json.dumps(job)))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
