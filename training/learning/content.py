"""What a training depends on beside its photos, by content."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rstpm_edge import __version__
from rstpm_edge.errors import WeightsError

from ..model.teacher_weights import RANDOM
from .augmentation import run_preset
from .options import TrainingOptions


def weights_fingerprint(source: str) -> str:
    """What tells one file of weights from another, wherever it lies. Raises WeightsError."""
    try:
        return source if source == RANDOM else hashlib.sha256(Path(source).read_bytes()).hexdigest()
    except OSError as error:
        raise WeightsError(f"Cannot read the weights {source}: {error.strerror or error}.") from error


def options_sha256(options: TrainingOptions) -> str:
    """Of a training with `options`, by this version; all but its photos and its machine. Raises WeightsError."""
    content: dict[str, Any] = {
        **asdict(options),
        "preset": asdict(run_preset(options)),
        "augment": None,  # which the preset holds, as it does the epochs
        "epochs": None,
        "weights": {name: weights_fingerprint(source) for name, source in sorted(options.weights.items())},
        "version": __version__,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
