"""From the features of students and teachers to a model's outputs."""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from .distances import Distance, NormalizedResidual, make_distance, without_channel
from .presets import Preset
from .segmentation_head import SegmentationHead


class AnomalyMaps(nn.Module):
    """The six distances and, where the preset has one, the segmentation head."""

    def __init__(self, preset: Preset, names: Sequence[str], channels: Sequence[int]) -> None:
        """`names` and `channels` of the six levels: pair 1's, finest first, then pair 2's."""
        super().__init__()
        distances = [make_distance(preset, count) for count in channels]
        self.distances = nn.ModuleDict(dict(zip(names, distances, strict=True)))
        self.head = SegmentationHead(channels) if preset.has_segmentation_head else None

    def forward(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> list[Tensor]:
        """Six features (B, C, h, w) each -> maps (B, h, w): six, six of angles, the head's, as far as there are."""
        distances = cast(list[Distance], list(self.distances.values()))
        levels = list(zip(distances, students, teachers, strict=True))
        if self.head is None:
            each = [distance(student, teacher) for distance, student, teacher in levels]
            return [m for kind in zip(*each, strict=True) for m in kind]
        errors, angles, inputs = [], [], []
        for i, (distance, student, teacher) in enumerate(levels):
            assert isinstance(distance, NormalizedResidual)  # presets with a head have no others
            residual = distance.measure(student, teacher)
            error, angle = distance.normalize(student, residual)
            inputs.append(self.head.inputs(self.head.project(i, student, teacher, residual), error))
            errors.append(without_channel(error))
            angles.append(without_channel(angle))
        return [*errors, *angles, without_channel(self.head(inputs))]
