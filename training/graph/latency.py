"""How long an image of a preset takes on this machine, known before anything is trained."""

import statistics
import time
from collections.abc import Mapping

import numpy as np

from rstpm_edge.engine.providers import INPUT_NAME

from ..model.presets import Preset
from ..model.rstpm import RSTPM
from .onnx_graph import to_onnx
from .session import open_graph

SIZE = (256, 256)  # of what is measured; the time of an image grows with its pixels
CALLS, FIRST = 15, 3  # that are timed, and that go before
BESIDE = 1.1  # times what the network takes, with preprocessing, fusion and score


def measure_latency(preset: Preset, weights: Mapping[str, str] | None = None) -> float:
    """Milliseconds of one image of 256×256 in ONNX Runtime, on all cores: of a model that is not trained.

    Raises UsageError and WeightsError as `RSTPM` does.
    """
    session = open_graph(to_onnx(RSTPM(preset, weights).eval(), SIZE))
    image = np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3), np.uint8)
    times = []
    for _ in range(FIRST + CALLS):
        start = time.perf_counter()
        session.run(None, {INPUT_NAME: image})
        times.append(time.perf_counter() - start)
    return BESIDE * 1000 * statistics.median(times[FIRST:])
