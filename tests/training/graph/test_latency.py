"""The time of an image, measured before there is a model file."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rstpm_edge.training.graph import latency
from rstpm_edge.training.model.presets import EDGE


def test_the_median_of_an_image_of_256_pixels_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = [9.0] * latency.FIRST + [0.02] * (latency.CALLS - 1) + [5.0]  # seconds, of which the first do not count
    shapes, clock = [], iter(np.cumsum([time for call in calls for time in (1.0, call)]))

    class Session:
        def run(self, names: None, feed: dict[str, NDArray[np.uint8]]) -> None:
            shapes.append(feed["image"].shape)

    monkeypatch.setattr(latency, "RSTPM", lambda preset, weights: type("Model", (), {"eval": lambda self: self})())
    monkeypatch.setattr(latency, "to_onnx", lambda model, size: size)
    monkeypatch.setattr(latency, "open_graph", lambda graph: Session())
    monkeypatch.setattr(latency.time, "perf_counter", lambda: float(next(clock)))
    assert latency.measure_latency(EDGE) == pytest.approx(latency.BESIDE * 20)
    assert set(shapes) == {(1, 256, 256, 3)}


@pytest.mark.slow
def test_a_real_model_takes_some_milliseconds() -> None:
    assert 0.5 < latency.measure_latency(EDGE) < 5000
