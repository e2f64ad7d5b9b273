"""What a training asks for follows from what a short one took."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from small_training import CPU

from rstpm_edge.training.fleet_train.resources import MARGIN, MemoryUse, kind_of_memory, measure_memory, resources_of
from rstpm_edge.training.learning.memory import available_memory, limited_to, peak_memory
from rstpm_edge.training.learning.options import TrainingOptions

GB = 1 << 30
USE = MemoryUse((256, 256), GB, 400_000, 0, 0)
OPTIONS = TrainingOptions(augment="none")


def memory(**changes: object) -> int:
    given = {"use": USE, "options": OPTIONS, "size": (256, 256), "photos": 300, "threads": 1, "node_memory": 64 * GB}
    return resources_of(**{**given, **changes}).memory  # type: ignore[arg-type]


def test_more_photos_copies_and_pixels_ask_for_more() -> None:
    assert memory() > MARGIN * GB + 300 * 400_000
    assert memory(photos=600) > memory()
    assert memory(options=TrainingOptions(augment="flip"), photos=100) > memory(photos=100)
    assert memory(size=(512, 256)) > memory(size=(256, 256))
    headless = dataclasses.replace(OPTIONS.preset, segmentation_head=False)
    assert memory(options=dataclasses.replace(OPTIONS, preset=headless)) < memory()


def test_no_more_than_a_node_has() -> None:
    assert memory(node_memory=2 * GB) == 2 * GB


def test_a_share_of_the_gpu() -> None:
    def share(gpu: int) -> float:
        use = dataclasses.replace(USE, gpu=gpu, gpu_in_all=100 * GB)
        return resources_of(use, OPTIONS, (256, 256), 300, 2, GB).gpus

    assert share(0) == 0
    assert share(10 * GB) == 0.12
    assert share(99 * GB) == 1
    assert resources_of(USE, OPTIONS, (256, 256), 300, 2, GB).cpus == 2


def test_what_changes_memory_makes_another_kind() -> None:
    same = dataclasses.replace(OPTIONS, epochs=3, seed=4, alpha=0.2, augment="flip")
    assert kind_of_memory(same) == kind_of_memory(OPTIONS)
    larger = dataclasses.replace(OPTIONS, preset=dataclasses.replace(OPTIONS.preset, batch_size=64))
    assert kind_of_memory(larger) != kind_of_memory(OPTIONS)


def test_a_process_keeps_to_its_limit() -> None:
    free = available_memory()
    with limited_to(1 << 50):
        assert available_memory() > free / 2
        with limited_to(1000):  # it has more already
            assert available_memory() == 0
    assert available_memory() > free / 2


@pytest.mark.slow
def test_a_short_training_is_measured(parts: Path) -> None:
    photos = sorted((parts / "train" / "good").iterdir())
    use = measure_memory(TrainingOptions(epochs=9), (64, 64), photos, CPU, 1)
    assert use.size == (64, 64)
    assert 100_000_000 < use.base <= peak_memory()
    # Of both teachers at strides 8, 16 and 32, two bytes a value.
    assert use.features == 2 * 2 * (8 * 8 * 40 + 4 * 4 * 112 + 2 * 2 * 320)
