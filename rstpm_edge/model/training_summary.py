"""What of a model file's summary of its training is shown in words: a file may hold anything there, or nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PaintedDefects:
    """How many synthetic defects the model was tried on when it was made, and the share found (0…1) by rate."""

    count: int
    found: Mapping[float, float]


def painted_defects(training: Mapping[str, Any]) -> PaintedDefects | None:
    """What `Bundle.training` says of them; None where that is nothing, or of another form."""
    try:
        told = training["painted_defects"]
        return PaintedDefects(int(told["count"]), {float(one["alpha"]): float(one["found"]) for one in told["rates"]})
    except (LookupError, TypeError, ValueError):
        return None
