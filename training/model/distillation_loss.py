"""The loss that students are trained with: distillation of a teacher's features, with hard-feature mining."""

from torch import Tensor


def hard_feature_loss(student: Tensor, teacher: Tensor, mining_share: float) -> Tensor:
    """The mean of each image's largest squared errors, a number; features are (B, C, h, w), standardised.

    Every channel counts the same. `mining_share`, in (0, 1], is the share of an image's errors that is learned from, as
    in EfficientAD (Batzner et al., arXiv 2303.14535, section 3.2); 1 learns from all of them.
    """
    errors = (student - teacher).square().flatten(1)  # (B, C·h·w)
    if mining_share < 1:
        # Of each image, not of the batch: the same whether or not processes share it.
        errors = errors.topk(max(1, round(mining_share * errors.shape[1])), dim=1, sorted=False).values
    return errors.mean()
