"""anomalib's side of compare_accuracy.py: which methods there are, what they are given, and having them trained."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
from anomalib_venv import run_quietly

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

METHODS = {"padim": "PaDiM", "patchcore": "PatchCore", "stfpm": "STFPM"}  # the slowest last
TEACHER_STRIDES = (4, 8, 16, 32)
PYRAMIDS = ((4, 8, 16), (8, 16, 32))  # as in the others' papers, and as in our preset
PADIM_FEATURES = 100  # of the teacher's channels, drawn at random: what its paper takes of ResNet-18
BATCH_SIZE = 32  # anomalib's default
WORKER = Path(__file__).with_name("compare_accuracy_worker.py")
# What our own training asks of the C library, by mallopt: to keep freed memory, not to fault it in again at each step.
# Only for the method that has steps: the two that collect features would hold some of them twice.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str((1 << 31) - 1)}


@dataclass(frozen=True)
class Contender:
    """One of anomalib's methods, and the strides of the teacher's features that it looks at."""

    method: str
    strides: tuple[int, ...]

    @property
    def name(self) -> str:
        """As its folder is called: stfpm-4-8-16."""
        return "-".join([self.method, *map(str, self.strides)])

    @property
    def title(self) -> str:
        """As people read it: STFPM, strides 4, 8, 16."""
        return f"{METHODS[self.method]}, strides {', '.join(map(str, self.strides))}"


def lineup(methods: Sequence[str]) -> list[Contender]:
    """Every method at both pyramids. PatchCore takes the upper two levels, as its paper does of ResNet's three."""
    return [
        Contender(method, pyramid[1:] if method == "patchcore" else pyramid)
        for method in METHODS
        if method in methods
        for pyramid in PYRAMIDS
    ]


def layer_names(feature_info: Sequence[Mapping[str, Any]], strides: Sequence[int]) -> list[str]:
    """timm's names of the layers whose features have these strides; ClickException where there is none."""
    names = {int(info["reduction"]): str(info["module"]) for info in feature_info}
    missing = [stride for stride in strides if stride not in names]
    if missing:
        have = ", ".join(map(str, sorted(names)))
        raise click.ClickException(f"The teacher has no features at stride {missing[0]}, only at {have}.")
    return [names[stride] for stride in strides]


def write_inputs(folder: Path, data: Path, test: NDArray[np.uint8], teacher_name: str) -> dict[str, Any]:
    """Write what all contenders are given; the part of a job that is the same for all.

    train.npy, test.npy      (N, H, W, 3) uint8 RGB; `test` as given
    teacher.safetensors      the teacher's weights, by timm's names
    features.npz             "image", normalised, and our teacher's features of it by layer

    Raises RstpmEdgeError.
    """
    import numpy as np
    import torch
    from safetensors.torch import save_file

    from rstpm_edge.atomic_files import make_folder
    from rstpm_edge.training.data.images import good_images, load_inputs
    from rstpm_edge.training.model.teachers import PACKAGES, load_teacher

    if teacher_name not in PACKAGES:
        raise click.ClickException(f"The teacher is one of {', '.join(PACKAGES)}, whose weights are in packages.")
    make_folder(folder)
    train, _, _ = load_inputs(good_images(data), (test.shape[1], test.shape[2]), "stretch")
    np.save(folder / "train.npy", train)
    np.save(folder / "test.npy", test)
    teacher = load_teacher(teacher_name, TEACHER_STRIDES)
    save_file(teacher.backbone.state_dict(), folder / "teacher.safetensors")
    layers = layer_names(list(cast(Iterable[Mapping[str, Any]], teacher.backbone.feature_info)), TEACHER_STRIDES)
    mean, std = (torch.tensor(each)[:, None, None] for each in (teacher.mean, teacher.std))
    image = (torch.from_numpy(train[:1]).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.no_grad():
        features = {layer: level.numpy() for layer, level in zip(layers, teacher(image), strict=True)}
    np.savez(folder / "features.npz", image=image.numpy(), **features)
    return {
        "inputs": hashlib.sha256(train.tobytes() + test.tobytes()).hexdigest(),
        "weights": teacher.record.sha256,
        "backbone": teacher_name,
        "pyramid": dict(zip(map(str, TEACHER_STRIDES), layers, strict=True)),
        "mean": list(teacher.mean),
        "std": list(teacher.std),
        "size": list(test.shape[1:3]),
    }


def job_of(contender: Contender, common: Mapping[str, Any], epochs: int, coreset: float) -> dict[str, Any]:
    """What the worker reads: `common`, and the settings of this method alone, so that those of others may change."""
    own: dict[str, dict[str, Any]] = {
        "padim": {"epochs": 1, "n_features": PADIM_FEATURES},
        "patchcore": {"epochs": 1, "coreset": coreset},
        "stfpm": {"epochs": epochs},
    }
    return {
        **common,
        **own[contender.method],
        "method": contender.method,
        "layers": [common["pyramid"][str(stride)] for stride in contender.strides],
        "batch_size": BATCH_SIZE,
    }


def is_done(result: Path, job: Mapping[str, Any]) -> bool:
    """Whether an earlier run has done this very job to the end."""
    try:
        return bool(json.loads(result.read_text())["job"] == job)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def fit(contender: Contender, python: Path, output: Path, job: dict[str, Any], threads: int) -> dict[str, Any]:
    """Have anomalib train, judge and export into output/NAME, unless it has; what its worker says of it.

    Raises ClickException with the worker's last words.
    """
    folder = output / contender.name
    result = folder / "result.json"
    if not is_done(result, job):
        click.echo(f"{contender.title} … (anomalib talks to {folder / 'log.txt'})", err=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "job.json").write_text(json.dumps(job))
        run_quietly(
            [str(python), str(WORKER), "fit", str(folder)],
            f"{contender.title} could not be trained",
            log=folder / "log.txt",
            env={**os.environ, "OMP_NUM_THREADS": str(threads), **(KEEP_MEMORY if contender.method == "stfpm" else {})},
        )
    outcome: dict[str, Any] = json.loads(result.read_text())
    return outcome
