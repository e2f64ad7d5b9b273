"""How far a student's feature is from its teacher's: the anomaly maps of one level, and its training loss."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .distillation_loss import hard_feature_loss
from .presets import Preset

LEAST = 1e-2  # of the image's mean contrast: errors below it are numerical noise, and all alike


class CosineDistance(nn.Module):
    """The paper's: (B, C, h, w) of a student and its teacher -> (B, h, w), in [0, 2].

    1 − cosine similarity over channels, which is ½‖n(F_S) − n(F_T)‖² with n the L2 norm over channels: the map
    is also the loss at each position (equation 1 of the paper).
    """

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        # Written out, in operators that every exporter and runtime takes.
        product: Tensor = (student * teacher).sum(1)
        norms = (student * student).sum(1) * (teacher * teacher).sum(1)
        angles: Tensor = 1 - product / norms.clamp(min=1e-12).sqrt()
        return angles

    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The mean of the map: a number."""
        return self(student, teacher).mean()  # type: ignore[no-any-return]


class Residual(NamedTuple):
    """What a student's feature leaves of its teacher's: a number for each position, or as many as broadcast to that."""

    error: Tensor  # E of `NormalizedResidual`
    angle: Tensor  # 1 − cosine
    contrast: Tensor  # ‖F_T‖², mean over the image


class DistanceMaps(NamedTuple):
    """What `NormalizedResidual` says of two features, (B, 1, h, w) each."""

    anomaly: Tensor  # M, in [0, 1]
    error: Tensor  # E
    angle: Tensor | None  # M_angle, where it was asked for


class NormalizedResidual(nn.Module):
    """The residual, and what is left of it beside what is expected for such a feature: (B, C, h, w) twice -> maps.

    The error is the squared residual in units of the image's contrast, so that a stronger light changes nothing:

        E = ‖F_T − F_S‖² / (mean of ‖F_T‖² over the image's positions)

    Some things are hard to imitate on good parts, too: an edge, a glint, a noisy patch. A linear regression on the
    student's own feature F_S predicts the residual that is expected there (`prediction`); for the error, the logarithm
    of the image's contrast is a regressor, too (`contrast_weight`). It is fitted on the images that were learned from.
    The anomaly map, in [0, 1], which segments well, is

        M = E / (E + expected E)

    The score takes E as it is, too: where nothing is expected, as on an empty background, little makes M large.

    With `has_angle` there is an angle map beside them, the paper's distance in the place of E. An angle judges images
    well, also where there is little to see, but lights up wherever noise turns a weak feature:

        M_angle = (1 − cos(F_S, F_T) − its expectation) / √(its expected deviation)

    The root, half way to a z-score, since the deviation is only estimated.

    Students learn from the `mining_share` of an image's errors that are largest, which is the hard-feature mining of
    EfficientAD (Batzner et al., arXiv 2303.14535, section 3.2); of 1, from all of them.
    """

    contrast_weight: Tensor
    offset: Tensor
    scale: Tensor

    def __init__(self, channels: int, mining_share: float = 1.0, *, has_angle: bool = False) -> None:
        super().__init__()
        self.mining_share = mining_share
        self.has_angle = has_angle
        # From F_S, in [-1, 1] once clamped: the logarithm of E; then the angle, and the logarithm of its factor.
        count = 3 if has_angle else 1
        self.prediction = nn.Conv2d(channels, count, 1).requires_grad_(False)
        nn.init.zeros_(self.prediction.weight)
        nn.init.zeros_(self.prediction.bias)  # type: ignore[arg-type]
        self.register_buffer("contrast_weight", torch.zeros(1, count, 1, 1))  # 0 but for the first
        self.register_buffer("offset", torch.zeros(1, count, 1, 1))  # with `scale`, what [-1, 1] stands for
        self.register_buffer("scale", torch.ones(1, count, 1, 1))

    def forward(self, student: Tensor, teacher: Tensor) -> DistanceMaps:
        return self.normalize(student, self.measure(student, teacher))

    def normalize(self, student: Tensor, residual: Residual) -> DistanceMaps:
        """The maps of a student's feature (B, C, h, w) and its residual."""
        prediction = self.prediction(student) + self.contrast_weight * residual.contrast.log()  # (B, 1 or 3, h, w)
        # Clamped to the range of good images: a defect must not excuse itself with a feature beyond all of them.
        expected = self.offset + self.scale * prediction.clamp(-1, 1)
        anomaly = residual.error / (residual.error + expected[:, 0:1].exp())
        angle = (residual.angle - expected[:, 1:2]) * expected[:, 2:3].exp() if self.has_angle else None
        return DistanceMaps(anomaly, residual.error, angle)

    @staticmethod
    def measure(student: Tensor, teacher: Tensor) -> Residual:
        """The residual of two features (B, C, h, w): (B, 1, h, w), and the image's contrast (B, 1, 1, 1)."""
        residual = teacher - student
        squares = (residual * residual, teacher * teacher, student * student, student * teacher)
        error, contrast, strength, product = (values.sum(1, keepdim=True) for values in squares)
        image = contrast.mean((2, 3), keepdim=True) + 1e-12
        angle = 1 - product / ((strength + 1e-12) * (contrast + 1e-12)).sqrt()
        return Residual(error / image + LEAST, angle, image)

    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """See `hard_feature_loss`: a number."""
        return hard_feature_loss(student, teacher, self.mining_share)


Distance = CosineDistance | NormalizedResidual


def without_channel(values: Tensor) -> Tensor:
    """(B, 1, h, w) -> (B, h, w), by an operator that every exporter takes for any batch."""
    return values.reshape(-1, values.shape[2], values.shape[3])


def make_distance(preset: Preset, channels: int, *, is_coarsest: bool) -> Distance:
    """The distance that `preset` asks for, for features of so many channels; with an angle at the coarsest level."""
    if preset.distance == "cosine":
        return CosineDistance()
    return NormalizedResidual(channels, preset.mining_share, has_angle=is_coarsest)
