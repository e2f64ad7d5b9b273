"""How far a student's feature is from its teacher's: the anomaly map of one level, and its training loss."""

from torch import Tensor, nn

from .presets import Preset


class CosineDistance(nn.Module):
    """The paper's: (B, C, h, w) of a student and its teacher -> (B, h, w), in [0, 2].

    1 − cosine similarity over channels, which is ½‖n(F_S) − n(F_T)‖² with n the L2 norm over channels: the map
    is also the loss at each position (equation 1 of the paper).
    """

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        # Written out, in operators that every exporter and runtime takes.
        product: Tensor = (student * teacher).sum(1)
        norms = (student * student).sum(1) * (teacher * teacher).sum(1)
        return 1 - product / norms.clamp(min=1e-12).sqrt()

    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The mean of the map: a number."""
        angles: Tensor = self(student, teacher)
        return angles.mean()


class RelativeDistance(nn.Module):
    """Squared error beside what there is to see: (B, C, h, w) of a student and its teacher -> (B, h, w), in [0, 2].

    M = ‖F_S − F_T‖² / (‖F_S‖² + ‖F_T‖² + 2·floor·‖F_T‖²_image), the last being the mean over the image's positions.

    An angle says nothing of how strong a feature is: where there is little to see, noise turns it as far as a
    defect does, and the map lights up everywhere. A plain error lights up wherever there is much to see. Between
    them, `floor` chooses: at 0 the map is about 1 − cosine, and the larger it is, the more like the plain error.
    The image's own mean keeps the map the same under a stronger light.
    """

    def __init__(self, floor: float) -> None:
        super().__init__()
        self.floor = floor

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        contrast = (teacher * teacher).sum(1)  # (B, h, w)
        squares = (student * student).sum(1) + contrast
        error = squares - 2 * (student * teacher).sum(1)
        image = contrast.mean((1, 2), keepdim=True)  # (B, 1, 1)
        return error / (squares + 2 * self.floor * image + 1e-12)

    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Mean squared error, in which every standardised channel counts the same: a number."""
        return (student - teacher).square().mean()


def make_distances(preset: Preset) -> list[CosineDistance | RelativeDistance]:
    """The six distances that `preset` asks for, in the order of its maps."""
    if preset.distance_floors is None:
        return [CosineDistance() for _ in range(6)]
    return [RelativeDistance(floor) for floor in preset.distance_floors * 2]
