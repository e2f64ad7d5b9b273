"""Layers that the students are made of: batch normalisation over processes, residual blocks."""

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the whole batch of a data-parallel step.

    PyTorch's SyncBatchNorm refuses CPU tensors; without synchronisation the result of a training would depend
    on how many processes share its batches.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(x)
        count = torch.full((1,), x.numel() / x.shape[1], device=x.device)
        sums = torch.cat([x.sum((0, 2, 3)), x.square().sum((0, 2, 3)), count])  # (2C + 1,)
        sums = cast(Tensor, _SumOverProcesses.apply(sums))
        mean, square = sums[:-1].div(sums[-1]).chunk(2)
        variance = square - mean.square()  # biased, as the normalisation wants it
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            momentum = self.momentum or 0.0
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * sums[-1] / (sums[-1] - 1), momentum)
            self.num_batches_tracked += 1
        scale = self.weight * (variance + self.eps).rsqrt()  # (C,)
        return x * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]


class _SumOverProcesses(torch.autograd.Function):
    """Adds up a tensor over all processes; so does its gradient, and each sees the others' activations."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def synchronize_batch_norm(module: nn.Module) -> None:
    """Replace every plain BatchNorm2d inside `module` by a synchronised one with the same values."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            replacement = BatchNorm(child.num_features, child.eps, child.momentum)
            replacement.load_state_dict(child.state_dict())
            replacement.requires_grad_(child.weight.requires_grad)
            setattr(module, name, replacement)
        else:
            synchronize_batch_norm(child)


def conv(inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, relu: bool = True) -> nn.Sequential:
    """Convolution, batch normalisation and, usually, ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        BatchNorm(outputs),
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside a skip, as in ResNet-18; `final_relu` follows the sum there."""

    def __init__(self, channels: int, *, final_relu: bool, projected_skip: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(channels, channels), conv(channels, channels, relu=False))
        self.skip = conv(channels, channels, 1, relu=False) if projected_skip else nn.Identity()
        self.final_relu = final_relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.skip(x) + self.body(x)
        return functional.relu(x) if self.final_relu else x
