"""From the features of students and teachers to a model's outputs."""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from .distances import CosineDistance, Distance, NormalizedResidual, make_distance, without_channel
from .presets import Preset
from .segmentation_head import SegmentationHead


class AnomalyMaps(nn.Module):
    """The six distances and, where the preset has one, the segmentation head."""

    def __init__(self, preset: Preset, names: Sequence[str], channels: Sequence[int]) -> None:
        """`names` and `channels` of the six levels: pair 1's, finest first, then pair 2's."""
        super().__init__()
        distances = [make_distance(preset, count, is_coarsest=i % 3 == 2) for i, count in enumerate(channels)]
        self.distances = nn.ModuleDict(dict(zip(names, distances, strict=True)))
        self.head = SegmentationHead(channels) if preset.has_segmentation_head else None

    def forward(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> list[Tensor]:
        """Six features (B, C, h, w) each -> maps (B, h, w): six, six of errors, two of angles, the head's.

        As far as there are.
        """
        distances = cast(list[Distance], list(self.distances.values()))
        levels = list(zip(distances, students, teachers, strict=True))
        cosines = [one(student, teacher) for one, student, teacher in levels if isinstance(one, CosineDistance)]
        if cosines:
            return cosines
        anomalies, errors, angles, inputs = [], [], [], []
        for i, (distance, student, teacher) in enumerate(levels):
            assert isinstance(distance, NormalizedResidual)
            residual = distance.measure(student, teacher)
            maps = distance.normalize(student, residual)
            anomalies.append(without_channel(maps.anomaly))
            errors.append(without_channel(maps.error))
            if maps.angle is not None:
                angles.append(without_channel(maps.angle))
            if self.head is not None:
                inputs.append(self.head.inputs(self.head.project(i, teacher - student, residual), maps.anomaly))
        heads = [] if self.head is None else [without_channel(self.head(inputs))]
        return [*anomalies, *errors, *angles, *heads]
