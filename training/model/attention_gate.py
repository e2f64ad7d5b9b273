"""The attention gate between two stages of the reconstruction student."""

import torch
from torch import Tensor, nn

from .layers import conv


class AttentionGate(nn.Module):
    """Where the decoder should look, from its teacher's feature: one value in (0, 1) per position.

    Convolution, batch norm, ReLU, 1×1 convolution to one channel, sigmoid (RSTPM, section 3).
    """

    def __init__(self, channels: int, hidden: int, kernel: int = 3, *, skip: bool) -> None:
        super().__init__()
        self.reduce = conv(channels, hidden, kernel)
        self.score = nn.Conv2d(hidden, 1, 1)
        self.skip = skip

    def forward(self, x: Tensor, teacher: Tensor) -> Tensor:
        gate = torch.sigmoid(self.score(self.reduce(teacher)))  # (B, 1, h, w)
        return x * gate + x if self.skip else x * gate
