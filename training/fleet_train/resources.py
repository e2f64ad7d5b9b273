"""What a training asks Ray for: processors, a share of a GPU, and memory, by what a short one took."""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import torch

from rstpm_edge.cpu import limited_cores

from ..export.export import export
from ..learning.augmentation import run_preset, versions
from ..learning.head_training import ROOM_OF_PAINTED, painted_for_head
from ..learning.machine import Machine
from ..learning.memory import peak_memory
from ..learning.options import TrainingOptions
from ..learning.train import train
from ..learning.trained_model import load_model

MARGIN = 1.15  # of what was measured: an allocator keeps more, or less, of what was freed
HELD_OUT = 5  # photos of the short training that are not learned from


@dataclass(frozen=True)
class MemoryUse:
    """Measured with a batch of photos at an input of `size` (height, width).

    base: the most bytes that a process has in all stages but the segmentation head. features: bytes of the teachers'
    features of one image. gpu: bytes on the GPU, and `gpu_in_all` how many it has; 0 without one.
    """

    size: tuple[int, int]
    base: int
    features: int
    gpu: int
    gpu_in_all: int


@dataclass(frozen=True)
class Resources:
    """As Ray counts them; `memory` in bytes, `gpus` may be a share of one."""

    cpus: int
    gpus: float
    memory: int


def kind_of_memory(options: TrainingOptions) -> str:
    """Options of one kind take the same memory with the same photos at the same size."""
    preset = replace(run_preset(options), epochs=1, augmentation="none")
    return f"{sorted(asdict(preset).items())} {sorted(options.weights.items())}"


def measure_memory(
    options: TrainingOptions, size: tuple[int, int], photos: Sequence[Path], machine: Machine, threads: int
) -> MemoryUse:
    """Train and export with a batch of `photos` for one epoch, in a process that has done nothing else.

    Raises what `train` and `export` raise.
    """
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    preset = replace(options.preset, segmentation_head=False)  # whose time is long, and whose memory can be told
    some = list(photos[: preset.batch_size + HELD_OUT])
    short = TrainingOptions(
        preset=preset,
        augment="none",
        epochs=1,
        size=size,
        resize=options.resize,
        roi=options.roi,
        holdout=HELD_OUT / (preset.batch_size + HELD_OUT),
        skip_unreadable=True,
        weights=options.weights,
        allow_size_change=True,
    )
    with tempfile.TemporaryDirectory(prefix="rstpm-") as folder, limited_cores(threads):
        run = train(some, short, machine, folder=Path(folder) / "run")
        export(run, Path(folder) / "model.onnx")
        model = load_model(run)
    with torch.no_grad():
        one, two = model.teachers(torch.zeros(1, *size, 3, dtype=torch.uint8))
    features = sum(2 * level.numel() for level in (*one, *two))
    gpu = in_all = 0
    if torch.cuda.is_available() and machine.device != "cpu":
        gpu, in_all = torch.cuda.max_memory_reserved(), torch.cuda.get_device_properties(0).total_memory
    return MemoryUse(size, peak_memory(), features, gpu, in_all)


def resources_of(
    use: MemoryUse, options: TrainingOptions, size: tuple[int, int], photos: int, threads: int, node_memory: int
) -> Resources:
    """What a training on `photos` at an input of `size` asks for, at most all memory of a node.

    Arrays are counted: photos and their copies, the teachers' features, and the images of the segmentation head. Each
    of the two latter is given twice its room, since a training takes half of what it finds free.
    """
    preset, pixels = run_preset(options), size[0] * size[1]
    features = use.features * pixels / (use.size[0] * use.size[1])
    copies = versions(preset, photos)
    inputs = 3 * pixels * photos * (2 + copies)
    cached = features * photos * copies
    painted = painted_for_head(photos, size) * ROOM_OF_PAINTED * features if preset.has_segmentation_head else 0.0
    memory = MARGIN * use.base + inputs + max(2 * cached, cached + 2 * painted)
    share = math.ceil(100 * MARGIN * use.gpu / use.gpu_in_all) / 100 if use.gpu_in_all else 0.0
    return Resources(threads, min(share, 1.0), min(math.ceil(memory), node_memory))
