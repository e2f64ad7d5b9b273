"""The two students: one imitates its teacher from the image, one reconstructs its teacher's features.

Both return one feature per pyramid level, finest first, with the channels of their teacher.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from .attention_gate import AttentionGate
from .layers import BatchNorm, ResidualBlock, conv, synchronize_batch_norm
from .teacher_weights import RANDOM
from .teachers import load_teacher


class EdgeStudent(nn.Module):
    """Student 1 of the `edge` preset: a small dense network and one 1×1 head for each teacher level.

    Dense 3×3 convolutions, since on a CPU they train about four times faster than depthwise ones.

    input_channels, input_stride: what it starts from, the image (3, 1) or a feature of its teacher's stem.
    widths: its channels; the first at the input's stride (at stride 2 from an image), each next at twice that.
    blocks: its residual blocks at each of `strides`; none elsewhere, where they would cost more than the rest.
    """

    def __init__(
        self,
        input_channels: int,
        input_stride: int,
        teacher_channels: Sequence[int],
        strides: Sequence[int],
        widths: Sequence[int],
        blocks: Sequence[int],
    ) -> None:
        super().__init__()
        depth = dict(zip(strides, blocks, strict=True))
        if input_stride == 1:
            self.stem, stride = conv(input_channels, widths[0], stride=2), 2
        else:
            self.stem, stride = conv(input_channels, widths[0], 1), input_stride
        self.stages, width_at = nn.ModuleDict(), {}  # by stride
        for before, after in pairwise(widths):
            stride *= 2
            residual = (ResidualBlock(after, final_relu=False) for _ in range(depth.get(stride, 0)))
            self.stages[str(stride)] = nn.Sequential(conv(before, after, stride=2), *residual)
            width_at[stride] = after
        self.projections = nn.ModuleDict(
            {str(s): nn.Conv2d(width_at[s], c, 1) for s, c in zip(strides, teacher_channels, strict=True)}
        )

    def forward(self, source: Tensor) -> list[Tensor]:
        """`source` (B, C, H/s, W/s), the image or a stem's feature -> features (B, C_l, H/stride_l, W/stride_l)."""
        x, levels = self.stem(source), []
        for stride, stage in self.stages.items():
            x = stage(x)
            if stride in self.projections:
                levels.append(self.projections[stride](x))
        return levels


class EdgeReconstructionStudent(nn.Module):
    """Student 2 of the `edge` preset: a decoder from teacher 1's deepest feature to teacher 2's three levels.

    The deepest feature has `deep_stride`. `widths` are the decoder's channels and `blocks` its residual blocks at each
    level, coarsest first. Without `attention` there are no gates, and teacher 2's features are only what it is
    compared with.
    """

    def __init__(
        self,
        deep_channels: int,
        teacher_channels: Sequence[int],
        strides: Sequence[int],
        widths: Sequence[int],
        blocks: Sequence[int],
        deep_stride: int,
        *,
        attention: bool = True,
    ) -> None:
        super().__init__()
        self.entry = conv(deep_channels, widths[0], 1)
        self.narrow, self.stages, self.projections, self.gates = (nn.ModuleDict() for _ in range(4))  # by stride
        self.factors = {}
        before, stride_before = widths[0], deep_stride
        levels = zip(strides[::-1], teacher_channels[::-1], widths, blocks, strict=True)
        for stride, channels, width, depth in levels:
            self.factors[str(stride)] = stride_before // stride
            self.narrow[str(stride)] = conv(before, width, 1) if len(self.narrow) else nn.Identity()
            self.stages[str(stride)] = nn.Sequential(*(ResidualBlock(width, final_relu=False) for _ in range(depth)))
            self.projections[str(stride)] = nn.Conv2d(width, channels, 1)
            if attention and stride != strides[0]:  # after the finest level there is nothing left to decode
                self.gates[str(stride)] = AttentionGate(channels, width, 1, skip=True)
            before, stride_before = width, stride

    def forward(self, deep: Tensor, teacher: Sequence[Tensor]) -> list[Tensor]:
        """`deep` (B, C, h, w) and teacher 2's three features -> their reconstructions, finest first."""
        x, levels = self.entry(deep), []
        for (stride, stage), feature in zip(self.stages.items(), teacher[::-1], strict=True):
            x = self.narrow[stride](x)  # before the upsampling, where it costs a quarter
            if self.factors[stride] > 1:
                x = functional.interpolate(x, scale_factor=self.factors[stride], mode="bilinear")
            x = stage(x)
            levels.append(self.projections[stride](x))
            if stride in self.gates:
                x = self.gates[stride](x, feature)
        return levels[::-1]


class PaperReconstructionStudent(nn.Module):
    """Student 2 of the paper: from ResNet-18's layer4 to ResNet-50's layer3, layer2 and layer1.

    512 → 1024 channels at stride 32, then 1024, 512 and 256 at strides 16, 8 and 4, by 3×3 transposed
    convolutions and residual blocks. The first gate is x·a, the second x·a + x. With the three other networks
    it makes 123 million parameters. Without `attention` there are no gates.
    """

    def __init__(
        self,
        deep_channels: int,
        teacher_channels: Sequence[int],
        strides: Sequence[int],
        *,
        attention: bool = True,
    ) -> None:
        super().__init__()
        before = teacher_channels[-1]
        self.entry = nn.Sequential(conv(deep_channels, before), ResidualBlock(before, final_relu=True))
        self.upsample, self.stages, self.gates = (nn.ModuleDict() for _ in range(3))  # by stride
        for i, (stride, width) in enumerate(zip(strides[::-1], teacher_channels[::-1], strict=True)):
            self.upsample[str(stride)] = nn.Sequential(
                nn.ConvTranspose2d(before, width, 3, stride=2, padding=1, output_padding=1, bias=False),
                BatchNorm(width),
                nn.ReLU(inplace=True),
            )
            self.stages[str(stride)] = nn.Sequential(
                ResidualBlock(width, final_relu=True, projected_skip=i > 0),
                ResidualBlock(width, final_relu=True),
            )
            if attention and stride != strides[0]:
                self.gates[str(stride)] = AttentionGate(width, width, skip=i > 0)
            before = width

    def forward(self, deep: Tensor, teacher: Sequence[Tensor]) -> list[Tensor]:
        """`deep` (B, 512, H/32, W/32) and teacher 2's features -> their reconstructions, finest first."""
        x, levels = self.entry(deep), []
        for (stride, stage), feature in zip(self.stages.items(), teacher[::-1], strict=True):
            x = stage(self.upsample[stride](x))
            levels.append(x)
            if stride in self.gates:
                x = self.gates[stride](x, feature)
        return levels[::-1]


class BackboneStudent(nn.Module):
    """Student 1 of the paper: its teacher's architecture up to the coarsest level, from random weights."""

    def __init__(self, name: str, strides: Sequence[int]) -> None:
        super().__init__()
        # A seed drawn from the run's own: a random teacher is always the same one, a student is not.
        network = load_teacher(name, strides, {name: RANDOM}, seed=int(torch.randint(1 << 31, ())))
        self.backbone = network.backbone
        self._extract = network._extract
        self._drop_unused(2 * max(strides))
        synchronize_batch_norm(self.backbone)

    def forward(self, image: Tensor) -> list[Tensor]:
        """`image` (B, 3, H, W), normalised -> three features (B, C_l, H/stride_l, W/stride_l)."""
        return self._extract(self.backbone, image)

    def _drop_unused(self, side: int) -> None:
        # What lies beyond the coarsest level gets no gradient, so data-parallel training would wait for it.
        self.backbone.requires_grad_(True).train()
        torch.stack([level.sum() for level in self(torch.zeros(2, 3, side, side))]).sum().backward()  # type: ignore[no-untyped-call]
        for parameter in self.backbone.parameters():
            parameter.requires_grad_(parameter.grad is not None)
            parameter.grad = None
        for layer in self.backbone.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.reset_running_stats()
