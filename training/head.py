"""The seventh map of the preset `edge`: a small head that says where residuals look like painted defects."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .distance import Mismatch

REDUCED = 8  # channels of each residual
WIDTH = 16
LIMIT = 8.0  # of the map: one part in three thousand is as sure as it gets


class DiscriminativeHead(nn.Module):
    """Where six residuals look like a defect: a map of log odds, at the finest level.

    A distance adds up what a student misses, whatever it is. The head looks at what it is, over all levels and a 3×3
    neighbourhood, and was shown painted defects (`fit_head`). After RSTPM2 (arXiv 2210.07548), whose head also sees the
    image and its attention; this one sees no more than the distances do, so that it cannot learn the product by heart.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        """`channels` of the six levels: pair 1's, finest first, then pair 2's."""
        super().__init__()
        self.reduce = nn.ModuleList([nn.Conv2d(c, REDUCED, 1) for c in channels])
        self.mix = nn.ModuleList(nn.Conv2d(2 * REDUCED + 2, WIDTH, 1, bias=False) for _ in range(3))  # both pairs
        self.bias = nn.Parameter(torch.zeros(1, WIDTH, 1, 1))
        self.context = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.score = nn.Conv2d(WIDTH, 1, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(
        self, students: Sequence[Tensor], teachers: Sequence[Tensor], found: Sequence[Mismatch], maps: Sequence[Tensor]
    ) -> Tensor:
        """Six features of each kind (B, C, h, w), how they lie, and their maps (B, 1, h, w) -> (B, 1, h, w)."""
        reduced = []
        for layer, student, teacher, mismatch in zip(self.reduce, students, teachers, found, strict=True):
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            # The residual's, without the residual: a 1×1 convolution is linear, and its output has few channels.
            of_teacher, of_student = functional.conv2d(teacher, layer.weight), functional.conv2d(student, layer.weight)
            residual = (of_teacher - mismatch.multiple * of_student) / mismatch.contrast.sqrt()
            reduced.append(functional.relu(residual + layer.bias.view(1, -1, 1, 1)))
        return self.combine(reduced, maps)

    def combine(self, reduced: Sequence[Tensor], maps: Sequence[Tensor]) -> Tensor:
        """Six reduced residuals (B, REDUCED, h, w) and maps (B, 1, h, w), finest first in each pair -> (B, 1, h, w)."""
        mixed = self.mixed(reduced, maps)
        seen = functional.relu(self.context(functional.relu(mixed + self.bias)))
        odds: Tensor = self.score(seen)
        return odds.clamp(-LIMIT, LIMIT)

    def mixed(self, reduced: Sequence[Tensor], maps: Sequence[Tensor]) -> Tensor:
        """The levels' sum, (B, WIDTH, h, w) at the finest."""
        total: Tensor | None = None
        for level, layer in list(enumerate(self.mix))[::-1]:  # coarsest first: each is brought to the next, and added
            both = (level, level + 3)
            # M lies around ½: centred, its scale is that of the rest.
            given = torch.cat([*(reduced[i] for i in both), *(4 * maps[i] - 2 for i in both)], 1)
            at_level: Tensor = layer(given)
            if total is not None:
                factor = at_level.shape[-1] // total.shape[-1]
                at_level = at_level + functional.interpolate(total, scale_factor=factor, mode="bilinear")
            total = at_level
        assert total is not None
        return total
