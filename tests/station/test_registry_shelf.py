"""A station whose models are those of a registry: the live version judges, also after a promotion."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import ModelFactory
from numpy.typing import NDArray
from serve_process import ask, served
from waiting import until
from watcher import encoded
from workplace import finish

from rstpm_edge import Detector
from rstpm_edge.errors import ModelError, OutputError
from rstpm_edge.model.metadata import Fusion
from rstpm_edge.registry.registry import Registry, make_registry
from rstpm_edge.station import products as products_module
from rstpm_edge.station.product import ProductName
from rstpm_edge.station.products import Products, UnknownProduct
from rstpm_edge.station.registry_shelf import RegistryShelf

pytestmark = pytest.mark.extra
BOLT = ProductName("bolt", "live")


@pytest.fixture
def registry(tmp_path: Path, model_factory: ModelFactory, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Of bolt the first version is live, and there is another one; of nut none is."""
    monkeypatch.setattr(products_module, "POLL", 0.05)
    registry = make_registry(tmp_path / "registry")
    registry.add("bolt", model_factory("first.onnx"))
    registry.add("bolt", model_factory("second.onnx", fusion=Fusion(weights=(2.0,) * 6)))
    registry.add("nut", model_factory("third.onnx", preset="nut"))
    registry.promote("bolt", 1, "live")
    return registry


def open_one(path: Path) -> Detector:
    return Detector(path, threads=1)


def test_promotions_and_rollbacks_are_followed(registry: Registry, bad: NDArray[np.uint8]) -> None:
    said: list[str] = []
    with Products(RegistryShelf(registry.folder), open_one, report=said.append) as products:
        assert {name: list(versions) for name, versions in products.catalogue.items()} == {"bolt": ["live"]}
        product = products.get(products.resolve())
        score = product.detector(bad).score
        registry.promote("bolt", 2, "live")
        until(lambda: len(said) == 1)
        assert product.detector(bad).score == pytest.approx(2 * score)
        assert "judges bolt live from now on" in said[0]
        registry.roll_back("bolt")
        until(lambda: len(said) == 2)
        assert product.detector(bad).score == score
        registry.promote("nut", 1, "live")
        until(lambda: set(products.catalogue) == {"bolt", "nut"})
        assert products.outcomes()["loaded"] == 1


def test_a_file_that_was_exchanged_is_refused(
    registry: Registry, model_factory: ModelFactory, good: NDArray[np.uint8]
) -> None:
    said: list[str] = []
    second = registry.model_file(registry.product("bolt").version(2).model)
    with Products(RegistryShelf(registry.folder), open_one, report=said.append) as products:
        product = products.get(BOLT)
        before = product.detector.sha256
        registry.promote("bolt", 2, "live")
        until(lambda: len(said) == 1)
        exchanged = model_factory("other.onnx", preset="other")
        os.chmod(second.parent, 0o755)
        os.replace(exchanged, second)
        until(lambda: len(said) == 2)
        assert "is damaged, or was exchanged" in said[1]
        assert product.detector.sha256 != before
        assert products.unload(BOLT)
        with pytest.raises(ModelError, match="is damaged, or was exchanged"):
            products.get(BOLT)


def test_a_log_that_is_damaged_changes_nothing(registry: Registry) -> None:
    shelf = RegistryShelf(registry.folder)
    before = shelf.catalogue()
    log = registry.log_file("bolt")
    log.write_text("no log")
    assert shelf.catalogue() == before
    assert RegistryShelf(registry.folder).catalogue() == {}


def test_a_log_that_could_not_be_read_at_first_is_read_again(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: Any, **keywords: Any) -> Any:
        raise OutputError("Input/output error")

    shelf = RegistryShelf(registry.folder)
    with monkeypatch.context() as patch:
        patch.setattr("rstpm_edge.registry.product_log.check_chain", fails)
        assert shelf.catalogue() == {}
    assert list(shelf.catalogue()) == ["bolt"]


def test_a_registry_that_is_away_changes_nothing(registry: Registry, tmp_path: Path) -> None:
    with Products(RegistryShelf(registry.folder), open_one) as products:
        products.get(BOLT)
        registry.folder.rename(tmp_path / "away")
        registry.folder.mkdir()  # where the share was mounted
        with pytest.raises(UnknownProduct, match="there are bolt"):  # which looks anew
            products.resolve("screw")
        assert products.resolve("bolt") == BOLT
        assert products.in_memory(BOLT) is not None
        registry.folder.rmdir()
        (tmp_path / "away").rename(registry.folder)
        registry.promote("nut", 1, "live")
        until(lambda: list(products.catalogue) == ["bolt", "nut"])


def test_a_recalibration_leaves_the_files_of_a_registry(
    registry: Registry, tmp_path: Path, good: NDArray[np.uint8]
) -> None:
    file = registry.model_file(registry.live("bolt").model)
    before, stamp = file.read_bytes(), file.stat().st_mtime_ns
    with served("--registry", registry.folder, "--history", tmp_path / "kept") as (_, address):
        ask(f"{address}/v1/inspect?product=bolt", encoded(good))
        asked = urllib.request.Request(
            f"{address}/v1/recalibration",
            json.dumps({"product": "bolt", "take": True}).encode(),
            {"Content-Type": "application/json"},
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(asked, timeout=30)
        with refused.value as answer:
            assert answer.code == 400
            assert "`rstpm-edge registry add bolt FILE`" in json.load(answer)["error"]
        asked.data = json.dumps({"product": "bolt"}).encode()
        with urllib.request.urlopen(asked, timeout=30) as answer:
            written = json.load(answer)
        assert not written["taken"]
        assert Path(written["file"]).exists()
    assert (file.read_bytes(), file.stat().st_mtime_ns) == (before, stamp)


def test_the_command(registry: Registry, good: NDArray[np.uint8]) -> None:
    with served("--registry", registry.folder) as (process, address):
        fields: dict[str, Any] = ask(f"{address}/v1/inspect?product=bolt", encoded(good))
        assert fields["model_sha256"] == registry.live("bolt").model.sha256
        assert ask(f"{address}/v2/models/bolt")["versions"] == ["live"]
        process.send_signal(signal.SIGTERM)
        assert finish(process)[0] == 0
