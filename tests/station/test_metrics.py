"""GET /metrics, as Prometheus' own parser reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families
from station_server import Client, serving
from watcher import encoded

from rstpm_edge.drift import begin
from rstpm_edge.sources.frames import Frame
from rstpm_edge.station.event import Inspection
from rstpm_edge.station.feed import Feed
from rstpm_edge.station.line import Line
from rstpm_edge.station.metrics import Metrics
from rstpm_edge.station.products import Products
from rstpm_edge.station.temperature import temperatures

pytestmark = pytest.mark.extra


def samples(client: Client) -> dict[tuple[str, ...], float]:
    """Values by name and labels' values, in the order of the labels' names."""
    answer = client.get("/metrics")
    assert answer.status == 200
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def test_what_was_judged(model: Path, good: NDArray[np.uint8], bad: NDArray[np.uint8]) -> None:
    with serving(model) as client:
        for image in (good, good, bad, None):
            client.post("/v1/inspect", b"no image" if image is None else encoded(image))
        found = samples(client)
        for verdict, number in {"normal": 2, "anomalous": 1, "failed": 1}.items():
            assert found["rstpm_edge_verdicts_total", "request", "model", verdict, "1"] == number
        for stage, number in {"upload": 4, "queue": 4, "decode": 3, "judge": 3}.items():
            assert found["rstpm_edge_stage_seconds_count", stage] == number
            assert 0 < found["rstpm_edge_stage_seconds_sum", stage] < 30
        assert found["rstpm_edge_p_value_count", "model"] == 3
        assert found["rstpm_edge_p_value_bucket", "0.01", "model"] == 1
        assert found["rstpm_edge_model_memory_bytes", "model", "1"] > 1000
        assert found["rstpm_edge_model_events_total", "loaded"] == 1
        assert found["rstpm_edge_requests_room",] == 18
        assert found["rstpm_edge_requests_inside",] == found["rstpm_edge_requests_refused_total",] == 0
        assert found["process_resident_memory_bytes",] > 1e7


def test_what_lines_do(model: Path, good: NDArray[np.uint8]) -> None:
    class Camera:
        def __iter__(self):  # type: ignore[no-untyped-def]
            yield Frame("camera:0", good, "camera", 1.0, dropped=5, damaged=2)
            while True:
                yield None

        def summary(self) -> str:
            return ""

        def close(self) -> None: ...

    def lines(feed: Feed, products: Products) -> list[Line]:
        first_drift = lambda bundle: begin(bundle.calibration, 0.01)  # noqa: E731
        name = products.resolve()
        return [Line("left", "camera:0", lambda report: Camera(), products, name, feed, first_drift=first_drift)]

    with serving(model, lines=lines) as client, client.station.feed.subscribe("test") as subscription:
        if not client.station.recent.last():
            assert subscription.get(20) is not None
        found = samples(client)
        assert found["rstpm_edge_frames_dropped_total", "left"] == 5
        assert found["rstpm_edge_frames_damaged_total", "left"] == 2
        assert found["rstpm_edge_line_running", "left"] == 1
        assert found["rstpm_edge_drift", "stable", "left"] == 1
        assert found["rstpm_edge_drift", "scene_changed", "left"] == 0
        client.post("/v1/station/pause")
        assert samples(client)["rstpm_edge_line_running", "left"] == 0


def inspection(p_value: float, alpha: float | None = 0.05) -> Inspection:
    verdict = "anomalous" if p_value <= 0.05 else "normal"
    return Inspection(0.0, "line", "bolt", "1", {"verdict": verdict, "p_value": p_value, "alpha": alpha})


def test_false_rejects_are_estimated_from_p_values() -> None:
    metrics = Metrics()
    for index in range(800):  # good ones, spread evenly
        metrics.add(inspection((index + 1) / 800))
    for _ in range(200):  # and defective ones
        metrics.add(inspection(0.001))
    estimate, rejected, parts = metrics.false_rejects("bolt") or (0.0, 0, 0)
    assert (rejected, parts) == (240, 1000)
    assert estimate == pytest.approx(40, abs=1)
    metrics.add(Inspection(0.0, "line", "bolt", "1", {"verdict": "failed"}))  # says nothing of parts
    assert metrics.false_rejects("bolt") == (estimate, rejected, parts)
    metrics.add(inspection(0.5, alpha=None))  # where nothing is promised, nothing is estimated
    assert metrics.false_rejects("bolt") is None
    assert metrics.false_rejects("nut") is None


def test_few_parts_are_no_more_rejects_than_there_were() -> None:
    metrics = Metrics()
    metrics.add(inspection(0.9))
    assert metrics.false_rejects("bolt") == (0, 0, 1)
    assert metrics.products == ["bolt"]


def test_temperatures(tmp_path: Path) -> None:
    for zone, kind, heat in (("0", "cpu-thermal", "45123"), ("1", "cpu-thermal", "50000"), ("2", "nvme", "asleep")):
        folder = tmp_path / f"thermal_zone{zone}"
        folder.mkdir()
        (folder / "type").write_text(kind + "\n")
        (folder / "temp").write_text(heat + "\n")
    assert temperatures(tmp_path) == {"cpu-thermal": 45.123, "cpu-thermal 1": 50.0}
    assert temperatures(tmp_path / "missing") == {}
