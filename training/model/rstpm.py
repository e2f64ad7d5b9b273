"""The whole of RSTPM as one module: images in, maps out: six, eight more for the score, one of a segmentation head; and
an embedding of the whole image."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from rstpm_edge.model.metadata import EMBEDDING, angle_map_names, head_names, map_names, score_map_names
from rstpm_edge.model.outputs import ModelOutputs

from .distances import Distance
from .model_outputs import AnomalyMaps
from .presets import Preset
from .segmentation_head import SegmentationHead
from .students import BackboneStudent, EdgeReconstructionStudent, EdgeStudent, PaperReconstructionStudent
from .teachers import TeacherNetwork, load_teacher

DEEPEST = 32  # the stride of teacher 1, relative to what it sees, at which student 2 starts


@dataclass(frozen=True)
class TeacherFeatures:
    """What the students start from and what they must give, standardised."""

    source: Tensor  # for student 1: the image (B, 3, H, W), normalised, or teacher 1's stem (B, C, H/s, W/s)
    deep: Tensor  # for student 2: teacher 1's (B, C, h, w), 32 · teacher1_shrink smaller than the image
    levels: list[Tensor]  # six targets: teacher 1's three levels, then teacher 2's, (B, C, H/stride, W/stride)


class RSTPM(nn.Module):
    """Two frozen teachers, two students, and the maps between them.

    Submodules are named as their nodes appear in the exported graph.
    """

    def __init__(self, preset: Preset, weights: Mapping[str, str] | None = None) -> None:
        super().__init__()
        strides, shrinks = preset.strides, (preset.teacher1_shrink, preset.teacher2_shrink)
        deepest = DEEPEST * shrinks[0]
        self.preset = preset
        self.map_names = map_names(strides)
        self.output_names: tuple[str, ...] = self.map_names
        if preset.distance == "normalized-residual":
            self.output_names += score_map_names(strides) + angle_map_names(strides)
        if preset.has_segmentation_head:
            self.output_names += head_names(strides)
        # Of features that are not standardised, an average says little.
        self.graph_outputs = (*self.output_names, EMBEDDING) if preset.standardize else self.output_names
        stem = [] if preset.shared_stem is None else [preset.shared_stem]
        self.strides1 = sorted({*stem, *strides, deepest})  # of teacher 1's features, relative to the image
        self.teacher1 = load_teacher(preset.teacher1, [stride // shrinks[0] for stride in self.strides1], weights)
        self.teacher2 = load_teacher(preset.teacher2, [stride // shrinks[1] for stride in strides], weights)
        channels1 = dict(zip(self.strides1, self.teacher1.channels, strict=True))
        targets1, targets2 = [channels1[stride] for stride in strides], self.teacher2.channels
        student1: nn.Module
        student2: nn.Module
        if preset.students == "edge":
            source = (channels1[stem[0]], stem[0]) if stem else (3, 1)
            student1 = EdgeStudent(*source, targets1, strides, preset.student1_widths, preset.student1_blocks)
            student2 = EdgeReconstructionStudent(
                channels1[deepest],
                targets2,
                strides,
                preset.student2_widths,
                preset.student2_blocks,
                deepest,
                attention=preset.attention,
            )
        else:
            student1 = BackboneStudent(preset.teacher1, strides)
            student2 = PaperReconstructionStudent(channels1[deepest], targets2, strides, attention=preset.attention)
        self.students = Students(student1, student2)
        self.standardize1 = ChannelStatistics(self.teacher1.channels if preset.standardize else ())
        self.standardize2 = ChannelStatistics(self.teacher2.channels if preset.standardize else ())
        self.normalize1 = Normalization(self.teacher1)
        self.normalize2 = Normalization(self.teacher2)
        self.maps = AnomalyMaps(preset, self.map_names, (*targets1, *targets2))

    @property
    def distances(self) -> list[Distance]:
        """The six distances in the order of `map_names`."""
        return cast(list[Distance], list(self.maps.distances.values()))

    @property
    def head(self) -> SegmentationHead | None:
        """The segmentation head, where the preset has one."""
        return self.maps.head

    def forward(self, image: Tensor) -> list[Tensor]:
        """`image` (B, H, W, 3), uint8 RGB -> maps (B, H/stride, W/stride) in the order of `output_names`, and the
        embedding (B, C): `graph_outputs`."""
        features = self.prepare(image, *self.teachers(image))
        students = self.students(features.source, features.deep, features.levels[3:])
        maps: list[Tensor] = self.maps(students, features.levels)
        return [*maps, embedding(features.levels[1])] if EMBEDDING in self.graph_outputs else maps

    @torch.no_grad()
    def outputs(self, images: NDArray[np.uint8]) -> ModelOutputs:
        """`forward` of images (N, H, W, 3), uint8 RGB, wherever the model is, as the runtime gives its outputs."""
        device = next(self.parameters()).device
        with _whole_float32():
            found = self(torch.from_numpy(images).to(device))
        return ModelOutputs.named(self.graph_outputs, [one.float().cpu().numpy() for one in found])

    def teachers(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """`image` (B, H, W, 3), uint8 RGB -> both teachers' features, as they come: what a cache may keep."""
        x = _channels_first(image)
        shrinks = (self.preset.teacher1_shrink, self.preset.teacher2_shrink)
        shrunk = {shrink: _shrunk(x, shrink) for shrink in shrinks}
        return self.teacher1(self.normalize1(shrunk[shrinks[0]])), self.teacher2(self.normalize2(shrunk[shrinks[1]]))

    def teacher1_alone(self, image: Tensor) -> list[Tensor]:
        """The first of what `teachers` gives, without the work of teacher 2."""
        features: list[Tensor] = self.teacher1(
            self.normalize1(_shrunk(_channels_first(image), self.preset.teacher1_shrink))
        )
        return features

    def prepare(self, image: Tensor, raw1: Sequence[Tensor], raw2: Sequence[Tensor]) -> TeacherFeatures:
        """What `teachers` gave for `image` -> what the students take and must give."""
        features1 = dict(zip(self.strides1, self.standardize1(raw1), strict=True))
        if self.preset.shared_stem is None:
            source = self.normalize1(_channels_first(image))
        else:
            source = features1[self.preset.shared_stem]
        levels1 = [features1[stride] for stride in self.preset.strides]
        return TeacherFeatures(source, features1[self.strides1[-1]], [*levels1, *self.standardize2(raw2)])


def embedding(middle: Tensor) -> Tensor:
    """What an image is like as a whole, (B, C): teacher 1's middle level (B, C, h, w), standardised, averaged over it.

    A defect is a small part of that average, and light, focus and product are all of it. Cut off at one deviation, no
    defect counts for more than its area.
    """
    return middle.clamp(-1, 1).mean((2, 3))


def _channels_first(image: Tensor) -> Tensor:
    """(B, H, W, 3), uint8 -> (B, 3, H, W), float32."""
    return image.float().permute(0, 3, 1, 2)  # in this order: TensorRT takes uint8 to nothing but a cast


def _shrunk(x: Tensor, shrink: int) -> Tensor:
    return functional.avg_pool2d(x, shrink) if shrink > 1 else x


class Students(nn.Module):
    """Both students: what is trained, and what a checkpoint holds."""

    def __init__(self, student1: nn.Module, student2: nn.Module) -> None:
        super().__init__()
        self.student1 = student1
        self.student2 = student2

    def forward(self, source: Tensor, deep: Tensor, levels2: Sequence[Tensor]) -> list[Tensor]:
        """Six features: imitations of teacher 1's, then reconstructions of teacher 2's (`levels2`, for the gates)."""
        return [*self.student1(source), *self.student2(deep, levels2)]


class ChannelStatistics(nn.Module):
    """Scales each channel of each level to mean 0 and deviation 1 over the training images.

    A distance sums over channels; without this, a few loud ones decide it. Made for no channels, it changes nothing.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.active = len(channels) > 0
        for i, count in enumerate(channels):
            self.register_buffer(f"offset_{i}", torch.zeros(1, count, 1, 1))
            self.register_buffer(f"scale_{i}", torch.ones(1, count, 1, 1))

    def set(self, level: int, mean: Tensor, std: Tensor) -> None:
        """Use these (C,) statistics; a channel that never varies keeps its scale."""
        std = torch.where(std > 1e-6, std, torch.ones_like(std))
        self.get_buffer(f"scale_{level}").copy_((1 / std)[None, :, None, None])
        self.get_buffer(f"offset_{level}").copy_((-mean / std)[None, :, None, None])

    def one(self, level: int, feature: Tensor) -> Tensor:
        """The feature (B, C, h, w) of one level, scaled."""
        if not self.active:
            return feature
        # As a depthwise convolution, which runtimes take as it lies between others, in their own layout.
        return functional.conv2d(
            feature,
            self.get_buffer(f"scale_{level}").view(-1, 1, 1, 1),
            self.get_buffer(f"offset_{level}").flatten(),
            groups=feature.shape[1],
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        return [self.one(level, feature) for level, feature in enumerate(features)]


class Normalization(nn.Module):
    """Brings an image (B, 3, H, W) from 0…255 to the range that a teacher was trained with."""

    mean: Tensor
    std: Tensor

    def __init__(self, teacher: TeacherNetwork) -> None:
        super().__init__()
        # Not persistent: they belong to the teacher, not to what was trained.
        self.register_buffer("mean", 255 * torch.tensor(teacher.mean)[:, None, None], persistent=False)
        self.register_buffer("std", 255 * torch.tensor(teacher.std)[:, None, None], persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        return (image - self.mean) / self.std


@contextmanager
def _whole_float32() -> Iterator[None]:
    """An NVIDIA GPU convolves in float32, as an exported model does, and not with the 10 bits of TF32: scores would be
    others than the detector's."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
