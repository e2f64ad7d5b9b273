"""What the user of a training chooses, checked before the work."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rstpm_edge.errors import UsageError
from rstpm_edge.image.input_profile import BITS
from rstpm_edge.image.placement import ResizePolicy
from rstpm_edge.image.roi import Roi, check_roi

from ..data.input_size import LARGEST
from ..model.presets import AUGMENTATIONS, EDGE, Augmentation, Preset
from ..model.rstpm import DEEPEST

LONGEST = 1_000_000  # minutes, two years: whoever has no limit gives none


@dataclass(frozen=True)
class TrainingOptions:
    """What the user chooses. `holdout` is the share of good images that is never trained on."""

    preset: Preset = EDGE
    augment: Augmentation | None = None  # None: the preset's
    epochs: int | None = None  # None: the preset's, twice as many with rotated copies
    max_minutes: float | None = None
    seed: int = 0
    size: tuple[int, int] | None = None  # height, width; None: what the photos ask for, see `choose_size`
    most_pixels: int | None = None  # of an input whose size is chosen; None: as many as `choose_size` has
    resize: ResizePolicy = "stretch"
    roi: Roi | None = None  # x, y, width, height of the part of each photo to learn; None for all of it
    holdout: float = 0.2
    alpha: float | None = None
    skip_unreadable: bool = False
    weights: Mapping[str, str] = field(default_factory=dict)
    bits: int | None = None  # the range of 16-bit values, 8 to 16; None: what the photos themselves use
    allow_size_change: bool = False  # take the ROI from photos of several sizes
    sessions: str | None = None  # which photos were taken together: "folder", or a regular expression over names


def check_options(options: TrainingOptions) -> None:
    """Raises UsageError for the first option that cannot work."""
    if options.roi is not None:
        check_roi(options.roi)
    if options.size is not None:
        check_size(options.size, options.preset)
        if options.most_pixels is not None:
            raise UsageError("Give a size, or the most pixels of one that is chosen, not both.")
    least = (2 * size_unit(options.preset)) ** 2
    if options.most_pixels is not None and options.most_pixels < least:
        raise UsageError(f"The most pixels of an input are at least {least}, not {options.most_pixels}.")
    if options.bits is not None and options.bits not in BITS:
        raise UsageError(f"`bits` is one of {', '.join(map(str, BITS))}, not {options.bits}.")
    if options.augment not in (None, *AUGMENTATIONS):
        raise UsageError(f"`augment` is one of {', '.join(AUGMENTATIONS)}, not {options.augment!r}.")
    if not 0 < options.holdout < 1:
        raise UsageError(f"`holdout` is a share between 0 and 1, not {options.holdout:g}.")
    if options.epochs is not None and options.epochs < 1:
        raise UsageError(f"`epochs` must be at least 1, not {options.epochs}.")
    if options.max_minutes is not None and not 0 < options.max_minutes <= LONGEST:
        raise UsageError(f"`max_minutes` must be positive, and at most {LONGEST}, not {options.max_minutes:g}.")
    if not 0 <= options.seed < 1 << 63:
        raise UsageError(f"`seed` must lie between 0 and 2^63 - 1, not {options.seed}.")
    unknown = set(options.weights) - {options.preset.teacher1, options.preset.teacher2}
    if unknown:
        raise UsageError(
            f"`weights` names {', '.join(sorted(unknown))}, but the teachers are "
            f"{options.preset.teacher1} and {options.preset.teacher2}."
        )


def size_unit(preset: Preset) -> int:
    """Pixels of which both sides of the input must be multiples."""
    return DEEPEST * preset.teacher1_shrink


def check_size(size: tuple[int, int], preset: Preset) -> None:
    """Raises UsageError for an input (height, width) that cannot work."""
    unit = size_unit(preset)
    smallest = 2 * unit  # of one position there is no batch statistic
    if any(not smallest <= side <= LARGEST or side % unit for side in size):
        raise UsageError(
            f"The input size {size[0]}x{size[1]} does not work: "
            f"height and width must be multiples of {unit}, from {smallest} to {LARGEST}."
        )
    if preset.smoothing_sigma > max(size):
        raise UsageError(f"`preset.smoothing_sigma` is at most the input's larger side, {max(size)} pixels.")
