"""What of a model file's summary of its training is shown in words: a file may hold anything there, or nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEY, OLD_KEY = "synthetic_defects", "painted_defects"  # in a summary, and in files from before


@dataclass(frozen=True)
class SyntheticDefects:
    """How many synthetic defects the model was tried on when it was made, and the share found (0…1) by rate."""

    count: int
    found: Mapping[float, float]


def synthetic_defects(training: Mapping[str, Any]) -> SyntheticDefects | None:
    """What `Bundle.training` says of them; None where that is nothing, or of another form."""
    try:
        told = training[KEY if KEY in training else OLD_KEY]
        return SyntheticDefects(int(told["count"]), {float(one["alpha"]): float(one["found"]) for one in told["rates"]})
    except (LookupError, TypeError, ValueError):
        return None
