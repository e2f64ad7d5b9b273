"""Versions in shadow of a station: compared with the live one, shown, and without effect."""

from __future__ import annotations

import json
import signal
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import ModelFactory
from numpy.typing import NDArray
from serve_process import ask, served
from waiting import until
from watcher import encoded
from workplace import command_line, finish

from rstpm_edge import Detector
from rstpm_edge.errors import UsageError
from rstpm_edge.model.metadata import Fusion
from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.registry.registry import Registry, make_registry
from rstpm_edge.registry.shadow import Shadow
from rstpm_edge.station import shadows as shadows_module
from rstpm_edge.station.event import Inspection
from rstpm_edge.station.product import ProductName
from rstpm_edge.station.products import Products
from rstpm_edge.station.registry_shelf import RegistryShelf
from rstpm_edge.station.shadows import Shadows

pytestmark = pytest.mark.extra


@pytest.fixture
def registry(tmp_path: Path, model_factory: ModelFactory, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Of bolt the first version is live, and the second one in shadow, whose scores are twice as high."""
    monkeypatch.setattr(shadows_module, "POLL", 0.02)
    registry = make_registry(tmp_path / "registry")
    registry.add("bolt", model_factory("first.onnx"))
    registry.add("bolt", model_factory("second.onnx", fusion=Fusion(weights=(2.0,) * 6)))
    registry.promote("bolt", 1, "live")
    registry.promote("bolt", 2, "shadow")
    return registry


@pytest.fixture
def products(registry: Registry) -> Iterator[Products]:
    with Products(RegistryShelf(registry.folder), lambda path: Detector(path, threads=1)) as products:
        yield products


class Told:
    """What shadows say, tell and finish."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.told: list[Any] = []
        self.finished: list[Any] = []

    def shadows(self, registry: Registry, products: Products, **options: Any) -> Shadows:
        return Shadows(
            registry,
            products,
            InferenceOptions(),
            share=0.99,
            say=self.said.append,
            tell=self.told.append,
            finished=self.finished.append,
            **options,
        )


def judged(products: Products, photo: NDArray[np.uint8], origin: str = "request") -> Inspection:
    result = products.get(ProductName("bolt", "live")).detector(photo)
    fields = {"verdict": result.verdict, "path": "a.png"}
    return Inspection(0.0, origin, "bolt", "live", fields, result, photo, {"judge": 0.005})


def test_both_judge_and_are_compared(registry: Registry, products: Products, bad: NDArray[np.uint8]) -> None:
    told, part = Told(), judged(products, bad)
    with told.shadows(registry, products) as shadows:
        shadows.add(part)  # the first one wakes its shadow, and goes by
        until(lambda: bool(shadows.document()))
        shadows.add(part)
        until(lambda: shadows.document()[0]["compared"] == 1)
        (found,) = shadows.document()
    assert (found["product"], found["version"], found["failed"], found["share"]) == ("bolt", 2, 0, 0.99)
    assert told.told[0]["shadow"]["score"] == pytest.approx(2 * told.told[0]["live"]["score"], rel=1e-4)
    assert told.told[0]["live"]["ms"] == 5.0
    assert (told.finished[0]["version"], told.finished[0]["compared"]) == (2, 1)
    assert shadows.summaries()[0].startswith("bolt: shadow, version 2: 1 of 1 images compared")


def test_whoever_judges_waits_for_nothing(
    registry: Registry, products: Products, good: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    held, told, part = threading.Event(), Told(), judged(products, good)
    judge = Shadow._judge
    monkeypatch.setattr(Shadow, "_judge", lambda shadow, offer: (held.wait(30), judge(shadow, offer)))
    with told.shadows(registry, products) as shadows:
        shadows.add(part)
        until(lambda: bool(shadows.document()))
        for _ in range(20):  # while the shadow judges nothing at all
            shadows.add(part)
        assert shadows.document()[0]["skipped"] >= 18  # one is held, and one waits
        held.set()
        until(lambda: shadows.document()[0]["compared"] >= 1)
    assert told.finished[0]["compared"] + told.finished[0]["skipped"] == 20


def test_what_is_not_comparable_goes_by(registry: Registry, products: Products, good: NDArray[np.uint8]) -> None:
    told, part = Told(), judged(products, good)
    with told.shadows(registry, products, leave_out=["top"]) as shadows:
        shadows.add(judged(products, good, "top"))
        shadows.add(Inspection(0.0, "request", "bolt", "live", {"verdict": "failed", "path": "a"}))
        assert shadows._wanted == set()
        shadows.add(part)
        until(lambda: bool(shadows.document()))
        products.unload(ProductName("bolt", "live"))
        shadows.add(part)
    assert (told.told, told.finished[0]["skipped"]) == ([], 0)


def test_the_share_has_an_end(registry: Registry, products: Products) -> None:
    for share in (0.0, 1.0):
        with pytest.raises(UsageError, match="over 0 and below 100%"):
            Shadows(registry, products, InferenceOptions(), share=share, say=print, tell=print, finished=print)


def test_the_command(registry: Registry, tmp_path: Path, bad: NDArray[np.uint8]) -> None:
    log, audit = tmp_path / "shadow.jsonl", tmp_path / "audit.jsonl"
    arguments = ["--registry", registry.folder, "--shadow", "--shadow-share", "99%", "--shadow-log", log]
    with served(*arguments, "--audit-log", audit) as (process, address):

        def compared() -> int:
            ask(f"{address}/v1/inspect?product=bolt", encoded(bad))
            return sum(one["compared"] for one in ask(f"{address}/v1/station")["shadow"])

        until(lambda: compared() >= 2)
        with urllib.request.urlopen(f"{address}/metrics", timeout=30) as answer:
            metrics = answer.read().decode()
        assert 'rstpm_edge_shadow_images_total{outcome="compared",product="bolt",version="2"}' in metrics
        process.send_signal(signal.SIGTERM)
        code, _, errors = finish(process)
    assert code == 0
    assert "Version 2 of bolt judges in shadow" in errors
    assert "bolt: shadow, version 2: " in errors
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {line["shadow_version"] for line in lines} == {2}
    (entry,) = [one for one in map(json.loads, audit.read_text().splitlines()) if one["event"] == "shadow"]
    assert entry["compared"] == len(lines)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--shadow"], "--shadow goes with --registry FOLDER only"),
        (["--shadow-share", "5%"], "--shadow-share and --shadow-log go with --shadow only."),
    ],
)
def test_wrong_use_is_one_sentence(model: Path, arguments: list[str], words: str) -> None:
    result = command_line("serve", "--port", 0, "--model", model, *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
