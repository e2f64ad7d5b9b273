"""What the user of a training chooses, checked before the work."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rstpm_edge.errors import UsageError
from rstpm_edge.image.input_profile import BITS
from rstpm_edge.image.placement import ResizePolicy
from rstpm_edge.image.roi import Roi, check_roi

from ..model.presets import EDGE, Preset
from ..model.rstpm import DEEPEST

LARGEST = 4096  # pixels a side of the input


@dataclass(frozen=True)
class TrainingOptions:
    """What the user chooses. `holdout` is the share of good images that is never trained on."""

    preset: Preset = EDGE
    epochs: int | None = None  # None: the preset's
    max_minutes: float | None = None
    seed: int = 0
    size: tuple[int, int] = (256, 256)  # height, width
    resize: ResizePolicy = "stretch"
    roi: Roi | None = None  # x, y, width, height of the part of each photo to learn; None for all of it
    holdout: float = 0.2
    alpha: float | None = None
    skip_unreadable: bool = False
    weights: Mapping[str, str] = field(default_factory=dict)
    bits: int | None = None  # the range of 16-bit values, 8 to 16; None: what the photos themselves use
    allow_size_change: bool = False  # take the ROI from photos of several sizes


def check_options(options: TrainingOptions) -> None:
    """Raises UsageError for the first option that cannot work."""
    if options.roi is not None:
        check_roi(options.roi)
    unit = DEEPEST * options.preset.teacher1_shrink
    smallest = 2 * unit  # of one position there is no batch statistic
    if any(not smallest <= side <= LARGEST or side % unit for side in options.size):
        raise UsageError(
            f"The input size {options.size[0]}x{options.size[1]} does not work: "
            f"height and width must be multiples of {unit}, from {smallest} to {LARGEST}."
        )
    if options.preset.smoothing_sigma > max(options.size):
        raise UsageError(f"`preset.smoothing_sigma` is at most the input's larger side, {max(options.size)} pixels.")
    if options.bits is not None and options.bits not in BITS:
        raise UsageError(f"`bits` is one of {', '.join(map(str, BITS))}, not {options.bits}.")
    if not 0 < options.holdout < 1:
        raise UsageError(f"`holdout` is a share between 0 and 1, not {options.holdout:g}.")
    if options.epochs is not None and options.epochs < 1:
        raise UsageError(f"`epochs` must be at least 1, not {options.epochs}.")
    if options.max_minutes is not None and not options.max_minutes > 0:
        raise UsageError(f"`max_minutes` must be positive, not {options.max_minutes:g}.")
    if not 0 <= options.seed < 1 << 63:
        raise UsageError(f"`seed` must lie between 0 and 2^63 - 1, not {options.seed}.")
    unknown = set(options.weights) - {options.preset.teacher1, options.preset.teacher2}
    if unknown:
        raise UsageError(
            f"`weights` names {', '.join(sorted(unknown))}, but the teachers are "
            f"{options.preset.teacher1} and {options.preset.teacher2}."
        )
