"""A teacher whose coarsest level has the cells of the level before it, by dilated convolutions.

As in Yu and Koltun (arXiv 1511.07122) and DeepLab: the convolution that would halve the resolution does not, and those
after it skip every other cell, so that the pretrained weights see what they always saw, at four times as many places.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rstpm_edge.errors import UsageError

from .teachers import TeacherNetwork

TRIED = 4  # cells a side of the coarsest level, when convolutions are looked for


def dilate(teacher: TeacherNetwork, name: str) -> None:
    """Dilate all of `teacher` (called `name`) that computes at its coarsest stride.

    Raises UsageError where that does not give its features at half the stride, as where something else halves them.
    """
    stride = teacher.strides[-1]
    for conv, before, after in _convolutions(teacher, stride):
        if before == 2 * TRIED and after == TRIED:
            conv.stride = (1, 1)
        elif before == TRIED:
            conv.dilation = (2, 2)
            # 0 is that of a 1×1 convolution, or of TensorFlow's kind, which pads by itself.
            conv.padding = tuple(2 * int(side) for side in conv.padding)
    try:
        sides = {tuple(feature.shape[2:]) for feature in _features(teacher, stride)[-2:]}
    except RuntimeError:  # shapes that do not fit any more, where a pooling halves what stands beside a convolution
        sides = set()
    if sides != {(2 * TRIED, 2 * TRIED)}:
        raise UsageError(f"`preset.dilation=2` does not work with {name}: choose another teacher, or dilation=1.")


def _convolutions(teacher: TeacherNetwork, stride: int) -> list[tuple[nn.Conv2d, int, int]]:
    """Those that it computes with, in order, and the height of what each takes and gives."""
    found = []

    def keep(conv: nn.Module, taken: tuple[Tensor], given: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        found.append((conv, taken[0].shape[2], given.shape[2]))

    with _hooked(teacher, keep):
        _features(teacher, stride)
    return found


@contextmanager
def _hooked(teacher: TeacherNetwork, hook: object) -> Iterator[None]:
    convolutions = [layer for layer in teacher.modules() if isinstance(layer, nn.Conv2d)]
    handles = [layer.register_forward_hook(hook) for layer in convolutions]  # type: ignore[arg-type]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def _features(teacher: TeacherNetwork, stride: int) -> list[Tensor]:
    found: list[Tensor] = teacher(torch.zeros(1, 3, TRIED * stride, TRIED * stride))
    return found
