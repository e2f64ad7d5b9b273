"""What Prometheus reads: counts, times and the state of the station."""

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from rstpm_edge.drift import STATES
from rstpm_edge.station.event import Inspection
from rstpm_edge.station.product import ProductName
from rstpm_edge.station.temperature import temperatures

if TYPE_CHECKING:
    from rstpm_edge.station.station import Station

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2, 5)
P_VALUES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)
WINDOW = 1000  # parts of a product that the estimate of false rejects is of
UPPER_HALF = 0.5  # of p-values: hardly any defective part lies there, and half of the good ones do


class Metrics:
    """A tap of the feed that counts, and what it counted as text."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        self._verdicts = Counter(
            "rstpm_edge_verdicts",
            "Images by what came of them.",
            ("origin", "product", "version", "verdict"),
            registry=self.registry,
        )
        self._stages = Histogram(
            "rstpm_edge_stage_seconds",
            "What each stage of an image took: read (of a line), upload, queue, decode, judge.",
            ("stage",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._p_values = Histogram(
            "rstpm_edge_p_value",
            "P-values of parts; those of good parts are spread evenly.",
            ("product",),
            buckets=P_VALUES,
            registry=self.registry,
        )
        self._parts: dict[str, deque[tuple[float, float | None, bool]]] = {}  # p-value, promised rate, rejected

    def add(self, inspection: Inspection) -> None:
        """Count one more."""
        name, version, verdict = inspection.product, inspection.version, inspection.verdict
        self._verdicts.labels(inspection.origin, name, version, verdict).inc()
        for stage, seconds in inspection.seconds.items():
            self._stages.labels(stage).observe(seconds)
        p_value = inspection.p_value
        if p_value is not None:
            self._p_values.labels(name).observe(p_value)
            parts = self._parts.setdefault(name, deque(maxlen=WINDOW))
            parts.append((p_value, inspection.fields["alpha"], verdict == "anomalous"))

    def false_rejects(self, product: str) -> tuple[float, int, int] | None:
        """Of the last parts of a product: how many good ones were rejected, as an estimate from above; how many were
        rejected; how many there were. None where nothing is promised, or there are no parts.

        The share of good parts is that of p-values above a half, times two (Storey, "A direct approach to false
        discovery rates", 2002); of these the promised rate is rejected.
        """
        parts = self._parts.get(product, deque[tuple[float, float | None, bool]]()).copy()  # another thread adds to it
        if not parts or any(alpha is None for _, alpha, _ in parts):
            return None
        good = min(2 * sum(p_value > UPPER_HALF for p_value, _, _ in parts), len(parts))
        rate = sum(alpha or 0.0 for _, alpha, _ in parts) / len(parts)
        rejected = sum(rejected for _, _, rejected in parts)
        return min(good * rate, rejected), rejected, len(parts)

    @property
    def products(self) -> list[str]:
        """Those that parts came of."""
        return list(self._parts)

    def text(self) -> bytes:
        """As Prometheus reads it."""
        return generate_latest(self.registry)


class StationCollector(Collector):
    """What is true of a station at the moment when somebody asks."""

    def __init__(self, station: "Station") -> None:
        self._station = station

    def collect(self) -> Iterator[Metric]:
        """All of it."""
        yield from self._of_requests()
        yield from self._of_products()
        yield from self._of_lines()
        yield from self._of_shadows()
        heat = GaugeMetricFamily("rstpm_edge_temperature_celsius", "As the box tells it.", labels=["zone"])
        for zone, celsius in temperatures().items():
            heat.add_metric([zone], celsius)
        yield heat

    def _of_requests(self) -> Iterator[Metric]:
        station = self._station
        gate = station.gate
        yield _gauge("rstpm_edge_requests_inside", "Requests that are worked on, or wait.", gate.inside)
        yield _gauge("rstpm_edge_requests_room", "How many there may be at once.", gate.room)
        yield CounterMetricFamily(
            "rstpm_edge_requests_refused", "Requests that got 503, since there was no room.", value=gate.refused
        )
        yield _gauge("rstpm_edge_readers", "Who reads the verdicts as they come.", station.feed.subscribers)
        dropped = CounterMetricFamily(
            "rstpm_edge_reader_dropped", "Verdicts that a reader was too slow for.", labels=["reader"]
        )
        for name, number in station.feed.dropped.items():
            dropped.add_metric([name], number)
        yield dropped

    def _of_products(self) -> Iterator[Metric]:
        metrics = self._station.metrics
        memory = GaugeMetricFamily(
            "rstpm_edge_model_memory_bytes", "What loading the model took.", labels=["product", "version"]
        )
        bytes_of: dict[ProductName, int] = {}
        for product in self._station.loaded():
            bytes_of[product.name] = bytes_of.get(product.name, 0) + product.memory
        for of, size in bytes_of.items():
            memory.add_metric([of.name, of.version], size)
        yield memory
        events = CounterMetricFamily(
            "rstpm_edge_model_events", "Models loaded, let go, failed, taken, refused, rolled back.", labels=["event"]
        )
        for name, number in self._station.outcomes().items():
            events.add_metric([name.replace(" ", "_")], number)
        yield events
        expected = GaugeMetricFamily(
            "rstpm_edge_false_rejects_estimate",
            f"Good parts among the last {WINDOW} that were rejected, estimated from above.",
            labels=["product"],
        )
        rejects = GaugeMetricFamily(
            "rstpm_edge_rejects_in_window", f"Rejected parts among the last {WINDOW}.", labels=["product"]
        )
        window = GaugeMetricFamily("rstpm_edge_window", f"Parts of these, at most {WINDOW}.", labels=["product"])
        for name in metrics.products:
            found = metrics.false_rejects(name)
            if found is not None:
                for family, value in zip((expected, rejects, window), found, strict=True):
                    family.add_metric([name], value)
        yield from (expected, rejects, window)

    def _of_lines(self) -> Iterator[Metric]:
        dropped = CounterMetricFamily(
            "rstpm_edge_frames_dropped", "Frames that a camera gave and nobody judged.", labels=["line"]
        )
        damaged = CounterMetricFamily("rstpm_edge_frames_damaged", "Damaged ones among them.", labels=["line"])
        running = GaugeMetricFamily("rstpm_edge_line_running", "1 while the line judges.", labels=["line"])
        drift = GaugeMetricFamily("rstpm_edge_drift", "1 for what is known of drift.", labels=["line", "drift"])
        for line in self._station.lines:
            state = line.state
            dropped.add_metric([line.name], state.dropped)
            damaged.add_metric([line.name], state.damaged)
            running.add_metric([line.name], state.condition == "running")
            if state.drift is not None:
                for name in STATES:
                    drift.add_metric([line.name, name.replace(" ", "_")], state.drift.drift == name)
        yield from (dropped, damaged, running, drift)

    def _of_shadows(self) -> Iterator[Metric]:
        labels = ["product", "version"]
        images = CounterMetricFamily(
            "rstpm_edge_shadow_images",
            "Images that the version in shadow judged, too (compared), that went by (skipped), or that it failed on.",
            labels=[*labels, "outcome"],
        )
        differs = CounterMetricFamily(
            "rstpm_edge_shadow_rejects_alone",
            "Images that one of the two versions alone rejected: live, or shadow.",
            labels=[*labels, "by"],
        )
        for found in [] if self._station.shadows is None else self._station.shadows.document():
            of = [found["product"], str(found["version"])]
            for outcome in ("compared", "skipped", "failed"):
                images.add_metric([*of, outcome], found[outcome])
            for by in ("live", "shadow"):
                differs.add_metric([*of, by], found[f"only_{by}_rejects"])
        yield from (images, differs)


def _gauge(name: str, help: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help, value=value)
