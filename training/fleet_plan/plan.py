"""What it takes to train many products and to score many photos: the arithmetic."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rstpm_edge.errors import UsageError

from ..data.holdout import wanted_count
from ..learning.augmentation import run_preset, versions
from ..learning.options import TrainingOptions
from .rates import Rates


@dataclass(frozen=True)
class Workload:
    """Products that are alike: `products` of them, each with so many good `photos`, at an input of `size`."""

    products: int
    photos: int
    size: tuple[int, int]  # height, width


@dataclass(frozen=True)
class Plan:
    """Hours of one machine such as the one that was measured, which trains one product after the other.

    `machines` do all of it within `within` hours, where nothing that they wait for is slower than they are. `longest`
    is the one training that takes longest: a machine more does not make it shorter.
    """

    products: int
    photos_to_learn: int
    photos_to_score: int
    training_hours: float
    export_hours: float
    scoring_hours: float
    longest_hours: float
    within: float
    machines: int
    model_gigabytes: float

    @property
    def hours(self) -> float:
        """Of one machine, for all of it."""
        return self.training_hours + self.export_hours + self.scoring_hours

    def to_json(self) -> dict[str, Any]:
        """The fields, and `hours`."""
        return {**asdict(self), "hours": self.hours}


def plan_fleet(
    loads: Sequence[Workload], photos_to_score: int, rates: Rates, options: TrainingOptions, *, within: float
) -> Plan:
    """Put together what `rates` say of each part. What a photo costs grows with the pixels of the input.

    Raises UsageError where there is nothing to do, or no time for the longest training.
    """
    if not photos_to_score and not any(one.products for one in loads):
        raise UsageError("There is nothing to plan: give products, or `photos` to score.")
    if not within > 0:
        raise UsageError(f"The hours are a positive number, not {within:g}.")
    seconds = [training_seconds(one, rates, options) for one in loads]
    training = sum(one.products * each for one, each in zip(loads, seconds, strict=True))
    products = sum(one.products for one in loads)
    export = sum(one.products * rates.export * _scale(one.size, rates) for one in loads)
    scoring = photos_to_score / rates.photos_per_second
    longest = max((each for one, each in zip(loads, seconds, strict=True) if one.products), default=0.0)
    if longest > 3600 * within:
        raise UsageError(
            f"One training alone takes {longest / 3600:.3g} hours on this machine, and all is to be done in "
            f"{within:g}: give more hours, or train with `max_minutes`, fewer `epochs` or a smaller `size`."
        )
    return Plan(
        products=products,
        photos_to_learn=sum(one.products * one.photos for one in loads),
        photos_to_score=photos_to_score,
        training_hours=training / 3600,
        export_hours=export / 3600,
        scoring_hours=scoring / 3600,
        longest_hours=longest / 3600,
        within=within,
        machines=max(1, math.ceil((training + export + scoring) / (3600 * within) - 1e-9)),
        model_gigabytes=products * rates.model_bytes / 1e9,
    )


def training_seconds(load: Workload, rates: Rates, options: TrainingOptions) -> float:
    """What one training takes, with all its epochs or within `max_minutes`."""
    preset = run_preset(options)
    held_out = wanted_count(load.photos, options.holdout)
    learned = load.photos - held_out
    images = learned * versions(preset, learned)
    expected = rates.stages.expected(preset, load.size, learned, images, held_out).times(_scale(load.size, rates))
    total = load.photos * rates.read + expected.teachers + preset.epochs * expected.epoch + expected.tail
    return total if options.max_minutes is None else min(total, 60 * options.max_minutes)


def _scale(size: tuple[int, int], rates: Rates) -> float:
    return size[0] * size[1] / (rates.size[0] * rates.size[1])
