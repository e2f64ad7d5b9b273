"""From the features of students and teachers to a model's outputs: all levels of both pairs at once."""

from collections.abc import Sequence
from itertools import accumulate
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .feature_distance import CosineDistance, Distance, NormalizedResidual, Residual, make_distance, normalize
from .presets import Preset
from .segmentation_head import REDUCED, SegmentationHead

SUMS = 3  # over channels, of a level: ‖F_T‖², ‖F_S‖², ⟨F_S, F_T⟩
PREDICTED = 3  # channels of `NormalizedResidual.prediction`
ROWS = (*(slice(row, row + 1) for row in range(SUMS)), slice(SUMS, SUMS + PREDICTED))  # where each lies in `_sums`


class AnomalyMaps(nn.Module):
    """The six distances and, where the preset has one, the segmentation head.

    A map has a few hundred numbers, and to start an operator takes a runtime longer than to compute it on them. So what
    follows the sums over channels is done once, on the positions of all levels side by side, not six times: 110
    operators fewer, one fiftieth of the time. `NormalizedResidual.forward`, one level alone, says what comes out.
    """

    no_bias: Tensor

    def __init__(self, preset: Preset, names: Sequence[str], channels: Sequence[int]) -> None:
        """`names` and `channels` of the six levels: pair 1's, finest first, then pair 2's."""
        super().__init__()
        distances = [make_distance(preset, count) for count in channels]
        self.distances = nn.ModuleDict(dict(zip(names, distances, strict=True)))
        self.head = SegmentationHead(channels) if preset.has_segmentation_head else None
        self.rows = SUMS + PREDICTED + (REDUCED if self.head else 0)  # channels of what `_sums` gives
        for i, count in enumerate(channels):
            for row in range(SUMS):
                weight = torch.zeros(self.rows, count, 1, 1)
                weight[row] = 1
                self.register_buffer(f"sum_{i}_{row}", weight, persistent=False)
            self.register_buffer(f"nothing_{i}", torch.zeros(SUMS, count, 1, 1), persistent=False)
        self.register_buffer("no_bias", torch.zeros(SUMS + REDUCED), persistent=False)

    def forward(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> list[Tensor]:
        """Six features (B, C, h, w) each -> maps (B, h, w): six, six of angles, the head's, as far as there are."""
        distances = cast(list[Distance], list(self.distances.values()))
        if any(isinstance(distance, CosineDistance) for distance in distances):
            levels = zip(distances, students, teachers, strict=True)
            each = [distance(student, teacher) for distance, student, teacher in levels]
            return [m for kind in zip(*each, strict=True) for m in kind]
        return self._normalized_residuals(cast(list[NormalizedResidual], distances), students, teachers)

    def _normalized_residuals(
        self, distances: Sequence[NormalizedResidual], students: Sequence[Tensor], teachers: Sequence[Tensor]
    ) -> list[Tensor]:
        sizes = [(feature.shape[2], feature.shape[3]) for feature in students]
        places = [rows * columns for rows, columns in sizes]  # P, over all six levels, is their sum

        def along(values: Sequence[Tensor]) -> Tensor:
            """What each level has for all of its positions, (1, k, 1, 1) -> (1, k, P)."""
            return torch.cat(
                [value[..., 0].expand(-1, -1, count) for value, count in zip(values, places, strict=True)], 2
            )

        def apart(values: Tensor) -> list[Tensor]:
            """(B, k, P) -> six (B, k, h·w)."""
            ends = list(accumulate(places))
            return [values[:, :, end - count : end] for end, count in zip(ends, places, strict=True)]

        sums = torch.cat(
            [self._sums(i, *level) for i, level in enumerate(zip(distances, students, teachers, strict=True))], 2
        )
        contrast, strength, product, prediction = (sums[:, rows] for rows in ROWS)  # (B, ·, P)
        member = along([row[None, :, None, None] for row in torch.eye(len(places), device=sums.device)])[0]  # (6, P)
        mean = (contrast @ (member / member.sum(1, keepdim=True)).T) @ member  # over each level's positions: (B, 1, P)
        residual = Residual.of(contrast, strength, product, mean)
        scales = [along([getattr(d, name) for d in distances]) for name in ("contrast_weight", "offset", "scale")]
        error, angle = normalize(residual, prediction, *scales)  # (B, 1, P)
        parts = zip([*apart(error), *apart(angle)], 2 * sizes, strict=True)
        maps = [part.reshape(-1, *size).contiguous() for part, size in parts]
        if self.head is not None:
            of_student = sums[:, SUMS + PREDICTED :]  # (B, REDUCED, P)
            layers = cast(list[nn.Conv2d], list(self.head.reduce))
            of_teacher = torch.cat(
                [functional.conv2d(t, layer.weight).flatten(2) for layer, t in zip(layers, teachers, strict=True)], 2
            )
            # The residual's projection, without the residual: a 1×1 convolution is linear, and has few channels.
            projected = (of_teacher - residual.multiple * of_student) / residual.contrast.sqrt()
            bias = along([cast(Tensor, layer.bias).view(1, -1, 1, 1) for layer in layers])
            inputs = zip(apart(self.head.inputs(projected + bias, error)), sizes, strict=True)
            odds = self.head([part.reshape(-1, part.shape[1], *size) for part, size in inputs])
            maps.append(odds.reshape(-1, *sizes[0]))
        return maps

    def _sums(self, i: int, distance: NormalizedResidual, student: Tensor, teacher: Tensor) -> Tensor:
        """Of a level, (B, rows, h·w): the sums, the prediction, and the student's part of what the head is given.

        As convolutions, which runtimes take as the features lie, in their own layout, and add up as they go.
        """
        weights = [self.get_buffer(f"nothing_{i}"), distance.prediction.weight]
        if self.head is not None:
            weights.append(cast(nn.Conv2d, self.head.reduce[i]).weight)
        bias = torch.cat([self.no_bias[:SUMS], cast(Tensor, distance.prediction.bias), self.no_bias[SUMS:]])
        total = functional.conv2d(student, torch.cat(weights), bias[: self.rows])
        for row, squares in enumerate((teacher * teacher, student * student, student * teacher)):
            total = total + functional.conv2d(squares, self.get_buffer(f"sum_{i}_{row}"))
        return total.flatten(2)
