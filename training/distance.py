"""How far a student's feature is from its teacher's: the maps of one level, and its training loss."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .presets import Preset

LEAST = 1e-2  # of the image's mean contrast: errors below it are numerical noise, and all alike


class CosineDistance(nn.Module):
    """The paper's: (B, C, h, w) of a student and its teacher -> (B, h, w), in [0, 2].

    1 − cosine similarity over channels, which is ½‖n(F_S) − n(F_T)‖² with n the L2 norm over channels: the map
    is also the loss at each position (equation 1 of the paper).
    """

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor]:
        # Written out, in operators that every exporter and runtime takes.
        product: Tensor = (student * teacher).sum(1)
        norms = (student * student).sum(1) * (teacher * teacher).sum(1)
        return (1 - product / norms.clamp(min=1e-12).sqrt(),)

    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The mean of the map: a number."""
        (angles,) = self(student, teacher)
        return angles.mean()  # type: ignore[no-any-return]


class SurpriseDistance(nn.Module):
    """Distance beside what is usual for such a feature: (B, C, h, w) of a student and its teacher -> two (B, h, w).

    Some things are hard to imitate on good parts, too: an edge, a glint, a noisy patch. What a student usually misses
    can be told from its own feature F_S, linearly, and is fitted on the images that were learned from (`usual`).

    The anomaly map, in [0, 1], is the part of the teacher's feature that no multiple of the student's explains,

        E = (‖F_T‖² − ⟨F_S, F_T⟩² / ‖F_S‖²) / (mean of ‖F_T‖² over the image's positions)
        M = E / (E + usual E)

    which a stronger light on the whole image does not change. It outlines well.

    The second map is the paper's distance in the place of E, for the evidence of `rstpm_edge.bundle.Evidence`: an angle
    judges images well, also where there is little to see, but lights up wherever noise turns a weak feature.

        M_angle = (1 − cos(F_S, F_T) − usual) / √(its usual deviation)

    The root, half way to a z-score, since the deviation is only estimated.
    """

    middle: Tensor
    reach: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        # From F_S, in [-1, 1] once clamped: the logarithm of E, the angle, and the logarithm of the angle's factor.
        self.usual = nn.Conv2d(channels, 3, 1).requires_grad_(False)
        nn.init.zeros_(self.usual.weight)
        nn.init.zeros_(self.usual.bias)  # type: ignore[arg-type]
        self.register_buffer("middle", torch.zeros(1, 3, 1, 1))  # their unit: what [-1, 1] stands for
        self.register_buffer("reach", torch.ones(1, 3, 1, 1))

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        error, angle = self.measure(student, teacher)
        # Clamped to what was seen on good images: a defect must not excuse itself with a feature beyond all of them.
        usual = self.middle + self.reach * self.usual(student).clamp(-1, 1)  # (B, 3, h, w)
        usual_error, usual_angle, factor = usual[:, 0:1].exp(), usual[:, 1:2], usual[:, 2:3].exp()
        # Sums over the one channel: what runtimes take in the place of an index.
        return (error / (error + usual_error)).sum(1), ((angle - usual_angle) * factor).sum(1)

    @staticmethod
    def measure(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """E and 1 − cosine, both (B, 1, h, w), as they come."""
        contrast = _sum(teacher * teacher)  # (B, 1, h, w)
        strength = _sum(student * student) + 1e-12
        product = _sum(student * teacher)
        error = functional.relu(contrast - product * product / strength)  # below 0 by rounding alone
        image = contrast.mean((2, 3), keepdim=True) + 1e-12  # (B, 1, 1, 1)
        return error / image + LEAST, 1 - product / (strength * (contrast + 1e-12)).sqrt()

    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Mean squared error, in which every standardised channel counts the same: a number."""
        return (student - teacher).square().mean()


Distance = CosineDistance | SurpriseDistance


def make_distance(preset: Preset, channels: int) -> Distance:
    """The distance that `preset` asks for, for features of so many channels."""
    return CosineDistance() if preset.distance == "cosine" else SurpriseDistance(channels)


def _sum(x: Tensor) -> Tensor:
    """Over channels, (B, C, h, w) -> (B, 1, h, w). As a convolution, which runtimes take as x lies, in their layout."""
    return functional.conv2d(x, torch.ones(1, x.shape[1], 1, 1, dtype=x.dtype, device=x.device))
