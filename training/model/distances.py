"""How far a student's feature is from its teacher's: the anomaly maps of one level, and its training loss."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from .distillation_loss import hard_feature_loss
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


class Residual(NamedTuple):
    """What a student's feature leaves of its teacher's: a number for each position, or as many as broadcast to that."""

    error: Tensor  # E of `NormalizedResidual`
    angle: Tensor  # 1 − cosine
    multiple: Tensor  # of the student's feature that comes closest to the teacher's
    contrast: Tensor  # ‖F_T‖², mean over the image


class NormalizedResidual(nn.Module):
    """The residual, normalized by what is expected for such a feature: (B, C, h, w) twice -> two maps (B, h, w).

    Some things are hard to imitate on good parts, too: an edge, a glint, a noisy patch. A linear regression on the
    student's own feature F_S predicts the residual that is expected there (`prediction`); for the error, the logarithm
    of the image's contrast is a regressor, too (`contrast_weight`). It is fitted on the images that were learned from.

    The anomaly map, in [0, 1], is the part of the teacher's feature that no multiple of the student's explains,

        E = (‖F_T‖² − ⟨F_S, F_T⟩² / ‖F_S‖²) / (mean of ‖F_T‖² over the image's positions)
        M = E / (E + expected E)

    It segments well.

    The second map, a score map (`rstpm_edge.model.metadata.ScoreFusion`), has the paper's distance in the place of E:
    an angle judges images well, also where there is little to see, but lights up wherever noise turns a weak feature.

        M_angle = (1 − cos(F_S, F_T) − its expectation) / √(its expected deviation)

    The root, half way to a z-score, since the deviation is only estimated.

    Students learn from the `mining_share` of an image's errors that are largest, which is the hard-feature mining of
    EfficientAD (Batzner et al., arXiv 2303.14535, section 3.2); of 1, from all of them.
    """

    contrast_weight: Tensor
    offset: Tensor
    scale: Tensor

    def __init__(self, channels: int, mining_share: float = 1.0) -> None:
        super().__init__()
        self.mining_share = mining_share
        # From F_S, in [-1, 1] once clamped: the logarithm of E, the angle, and the logarithm of the angle's factor.
        self.prediction = nn.Conv2d(channels, 3, 1).requires_grad_(False)
        nn.init.zeros_(self.prediction.weight)
        nn.init.zeros_(self.prediction.bias)  # type: ignore[arg-type]
        self.register_buffer("contrast_weight", torch.zeros(1, 3, 1, 1))  # 0 but for the first
        self.register_buffer("offset", torch.zeros(1, 3, 1, 1))  # with `scale`, what [-1, 1] stands for
        self.register_buffer("scale", torch.ones(1, 3, 1, 1))

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        error, angle = self.normalize(student, self.measure(student, teacher))
        return without_channel(error), without_channel(angle)

    def normalize(self, student: Tensor, residual: Residual) -> tuple[Tensor, Tensor]:
        """The two maps, (B, 1, h, w), of a student's feature (B, C, h, w) and its residual."""
        prediction = self.prediction(student) + self.contrast_weight * residual.contrast.log()  # (B, 3, h, w)
        # Clamped to the range of good images: a defect must not excuse itself with a feature beyond all of them.
        expected = self.offset + self.scale * prediction.clamp(-1, 1)
        error, angle, factor = expected[:, 0:1].exp(), expected[:, 1:2], expected[:, 2:3].exp()
        return residual.error / (residual.error + error), (residual.angle - angle) * factor

    @staticmethod
    def measure(student: Tensor, teacher: Tensor) -> Residual:
        """The residual of two features (B, C, h, w): (B, 1, h, w), and the image's contrast (B, 1, 1, 1)."""
        squares = (teacher * teacher, student * student, student * teacher)
        contrast, strength, product = (values.sum(1, keepdim=True) for values in squares)
        strength = strength + 1e-12
        multiple = product / strength
        error = functional.relu(contrast - product * multiple)  # below 0 by rounding alone
        image = contrast.mean((2, 3), keepdim=True) + 1e-12
        angle = 1 - product / (strength * (contrast + 1e-12)).sqrt()
        return Residual(error / image + LEAST, angle, multiple, image)

    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """See `hard_feature_loss`: a number."""
        return hard_feature_loss(student, teacher, self.mining_share)


Distance = CosineDistance | NormalizedResidual


def without_channel(values: Tensor) -> Tensor:
    """(B, 1, h, w) -> (B, h, w), by an operator that every exporter takes for any batch."""
    return values.reshape(-1, values.shape[2], values.shape[3])


def make_distance(preset: Preset, channels: int) -> Distance:
    """The distance that `preset` asks for, for features of so many channels."""
    return CosineDistance() if preset.distance == "cosine" else NormalizedResidual(channels, preset.mining_share)
