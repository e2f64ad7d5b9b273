"""What each stage of a training will take: a few images go through its own code first."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from ..model.presets import Preset
from ..model.rstpm import RSTPM, TeacherFeatures
from .augmentation import versions
from .head_training import STEPS, measure_head_training, painted_for_head
from .job import Job
from .machine import SMALLER, enough_memory
from .residual_normalization import IMAGES
from .run_config import RunConfig
from .student_training import optimizer_of
from .synthetic_scores import synthetic_count
from .time_budget import Expected

PROBE = 8  # images that go through each stage
REPEATED = 2
SOLVING = 2.0  # the fit of the residual normalization, in times that its images take
FUSING = 2.0  # the calibration, in times that its images take
TRIES = 3  # measurements before a limit is said not to be kept
PAINTING = 1.25  # a synthetic defect that is painted and judged, in times that its image takes


def plan_stages(
    job: Job, config: RunConfig, model: RSTPM, learned: NDArray[np.uint8], held_out: NDArray[np.uint8]
) -> None:
    """Move `model` to the device, and let the budget of `job` plan with what the stages take there.

    `learned` and `held_out` are photos (N, H, W, 3). Where they take too long for the limit they are measured again,
    and the best counts: a box may be busy for a moment.
    """
    with enough_memory(job.fabric, SMALLER):
        model.to(job.fabric.device)
        images = len(learned) * versions(config.preset, len(learned))
        expected = measure_stages(job.fabric, model, learned, images, len(held_out))
        job.budget.expect(expected)
        for _ in range(TRIES - 1):
            if not job.fabric.broadcast(job.budget.is_tight):
                break
            expected = expected.at_best(measure_stages(job.fabric, model, learned, images, len(held_out)))
            job.budget.expect(expected)


def plan_again(job: Job, config: RunConfig, model: RSTPM, learned: NDArray[np.uint8]) -> None:
    """Let the budget plan anew, as `plan_stages` does, where what followed belies what was measured."""
    if job.fabric.broadcast(job.budget.is_belied):
        images = len(learned) * versions(config.preset, len(learned))
        job.budget.expect(measure_stages(job.fabric, model, learned, images, len(config.holdout)))


@dataclass(frozen=True)
class StageRates:
    """Seconds of one image in each stage, at the size that was measured.

    `teachers` is both of them, `step` the students' training, `look` the students alone, `painted` a synthetic defect
    for the segmentation head; `head_step` is one of that head's steps, with a batch of its own.
    """

    teachers: float
    step: float
    look: float
    painted: float
    head_step: float

    def expected(self, preset: Preset, size: tuple[int, int], photos: int, images: int, held_out: int) -> Expected:
        """What the stages take for so many photos, learned from in `images` versions; `size` is (height, width)."""
        head = painted_for_head(photos, size) if preset.has_segmentation_head else 0
        return Expected(
            teachers=images * self.teachers,
            epoch=photos * self.step,
            residuals=SOLVING * min(photos, IMAGES) * self.look if preset.distance == "normalized-residual" else 0.0,
            segmentation=head * self.painted + STEPS * self.head_step,
            calibration=(FUSING * held_out + PAINTING * synthetic_count(held_out)) * (self.teachers + self.look),
        )


def measure_stages(fabric: Fabric, model: RSTPM, photos: NDArray[np.uint8], images: int, held_out: int) -> Expected:
    """What the stages will take for `photos` (N, H, W, 3), learned from in `images` versions in all.

    Nothing of `model`, which is on the device of `fabric`, is changed. The same for all processes.
    """
    height, width = photos.shape[1:3]
    rates = measure_rates(fabric, model, photos)
    found: Expected = fabric.broadcast(rates.expected(model.preset, (height, width), len(photos), images, held_out))
    return found


def measure_rates(fabric: Fabric, model: RSTPM, photos: NDArray[np.uint8]) -> StageRates:
    """What one image takes in each stage, tried on a few of `photos` (N, H, W, 3).

    Nothing of `model`, which is on the device of `fabric`, is changed.
    """
    device, some = fabric.device, photos[:: max(1, len(photos) // PROBE)][:PROBE]
    was_training = model.training
    model.eval()
    with torch.random.fork_rng(devices=[]):
        image = torch.from_numpy(some).to(device)
        with torch.no_grad():
            both = _seconds(device, lambda: model.teachers(image)) / len(some)
            features = model.prepare(image, *model.teachers(image))
            look = _seconds(device, lambda: model.students(features.source, features.deep, features.levels[3:]))
        step = _seconds(device, _step(fabric, model, features)) / len(some)
        painted, of_step = measure_head_training(model, some, device)
    model.train(was_training)
    return StageRates(both, step, look / len(some), painted, of_step)


def _step(fabric: Fabric, model: RSTPM, features: TeacherFeatures) -> Callable[[], None]:
    """A step of the students' training, on a copy of them."""
    students = copy.deepcopy(model.students).train()
    optimizer = optimizer_of(students, model.preset)

    def run() -> None:
        with fabric.autocast():
            outputs = students(features.source, features.deep, features.levels[3:])
        levels = zip(model.distances, outputs, features.levels, strict=True)
        torch.stack([distance.loss(student.float(), teacher) for distance, student, teacher in levels]).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return run


def _seconds(device: torch.device, work: Callable[[], object]) -> float:
    """What `work` takes at best after a first time, which is slower; whatever else runs hits few of them."""
    work()
    times = []
    for _ in range(REPEATED):
        _finish(device)
        start = time.monotonic()
        work()
        _finish(device)
        times.append(time.monotonic() - start)
    return min(times)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
