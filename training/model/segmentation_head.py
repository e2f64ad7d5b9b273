"""The segmentation head of the preset `edge`, whose map says where residuals look like synthetic defects."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .distances import Residual

REDUCED = 8  # channels that each residual is projected to
WIDTH = 16
LIMIT = 8.0  # of the map: one part in three thousand is as sure as it gets


class SegmentationHead(nn.Module):
    """Where six residuals look like a defect: a map of log odds, at the finest level.

    A distance adds up what a student misses, whatever it is. The head looks at what it is, over all levels and a 3×3
    neighbourhood, and is trained on synthetic defects (`train_segmentation_head`). After RSTPM2 (arXiv 2210.07548),
    whose head also sees the image and its attention; this one sees no more than the distances do, so that it cannot
    learn the product by heart.
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

    def project(self, level: int, missed: Tensor, residual: Residual) -> Tensor:
        """What a student missed at one of the six levels, teacher − student (B, C, h, w), as (B, REDUCED, h, w).

        That is reduce(missed / √contrast), divided where there are few channels.
        """
        layer = cast(nn.Conv2d, self.reduce[level])
        reduced = functional.conv2d(missed, layer.weight) / residual.contrast.sqrt()
        return reduced + cast(Tensor, layer.bias).view(1, -1, 1, 1)

    @staticmethod
    def inputs(residual: Tensor, anomaly_map: Tensor) -> Tensor:
        """What the head is given of each position, in one: projected residual (B, REDUCED, …) and map M (B, 1, …)."""
        # M lies around ½: centred, its scale is that of the rest.
        return torch.cat([functional.relu(residual), 4 * anomaly_map - 2], 1)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """`inputs` of six levels (B, REDUCED + 1, h, w), finest first in each pair -> (B, 1, h, w), the finest."""
        around = functional.relu(self.context(functional.relu(self.mixed(inputs) + self.bias)))
        odds: Tensor = self.score(around)
        return odds.clamp(-LIMIT, LIMIT)

    def mixed(self, inputs: Sequence[Tensor]) -> Tensor:
        """The sum over all levels' inputs, (B, WIDTH, h, w) at the finest."""
        total: Tensor | None = None
        for level, layer in list(enumerate(self.mix))[::-1]:  # coarsest first: each is brought to the next, and added
            at_level: Tensor = layer(torch.cat([inputs[level], inputs[level + 3]], 1))  # both pairs
            if total is not None:
                factor = at_level.shape[-1] // total.shape[-1]
                at_level = at_level + functional.interpolate(total, scale_factor=factor, mode="bilinear")
            total = at_level
        assert total is not None
        return total
