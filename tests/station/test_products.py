"""Products: what is on the shelf, loaded when it is asked for, let go when memory is short, taken anew when changed."""

from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import ModelFactory
from golden_models import goldens_of, put_goldens
from numpy.typing import NDArray
from station_server import serving
from waiting import until
from watcher import encoded

from rstpm_edge import Detector, model_watch
from rstpm_edge.errors import ModelError, UsageError
from rstpm_edge.model.metadata import Fusion
from rstpm_edge.station import product as product_module
from rstpm_edge.station import products as products_module
from rstpm_edge.station.product import ProductName
from rstpm_edge.station.products import Products, UnknownProduct
from rstpm_edge.station.shelf import Catalogue, FolderShelf

pytestmark = pytest.mark.extra

NUT, OLD, NEW = ProductName("nut", "1"), ProductName("bolt", "9"), ProductName("bolt", "10")


@pytest.fixture
def folder(tmp_path: Path, model_factory: ModelFactory) -> Path:
    (tmp_path / "models" / "bolt").mkdir(parents=True)
    model_factory("models/nut.onnx")
    model_factory("models/bolt/9.onnx")
    model_factory("models/bolt/10.onnx")
    return tmp_path / "models"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files settle at once."""
    monkeypatch.setattr(model_watch, "SETTLED", 0.1)
    monkeypatch.setattr(products_module, "POLL", 0.05)


def open_one(path: Path) -> Detector:
    return Detector(path, threads=1)


def test_what_is_on_the_shelf(folder: Path) -> None:
    for other in ("notes.txt", ".hidden.onnx", "with space.onnx", "bolt/readme.md"):
        (folder / other).write_text("")
    (folder / "empty").mkdir()
    (folder / "folder.onnx").mkdir()
    (folder / "bolt.onnx").write_text("")
    catalogue = FolderShelf(folder).catalogue()
    assert {name: list(versions) for name, versions in catalogue.items()} == {"bolt": ["1", "9", "10"], "nut": ["1"]}
    (folder / "bolt" / "1.onnx").write_text("")  # in the place of bolt.onnx
    assert FolderShelf(folder).catalogue()["bolt"]["1"] == folder / "bolt" / "1.onnx"
    assert FolderShelf(file=folder / "nut.onnx").catalogue() == {"nut": {"1": folder / "nut.onnx"}}
    with pytest.raises(UsageError, match="There is no folder"):
        FolderShelf(folder / "missing")
    with pytest.raises(UsageError, match="cannot stand in an address"):
        FolderShelf(file=Path("a b.onnx"))


def test_names(folder: Path) -> None:
    with Products(FolderShelf(folder), open_one) as products:
        assert products.resolve("bolt") == NEW
        assert products.resolve("bolt", "9") == OLD
        with pytest.raises(UnknownProduct, match="Say which product: there are bolt, nut"):
            products.resolve()
        with pytest.raises(UnknownProduct, match="There is no version 8 of bolt: there are 9, 10"):
            products.resolve("bolt", "8")
        with pytest.raises(UnknownProduct, match="There is no product screw: there are bolt, nut"):
            products.resolve("screw")
        (folder / "screw.onnx").write_bytes((folder / "nut.onnx").read_bytes())
        assert products.resolve("screw") == ProductName("screw", "1")  # at once
        assert products.get(products.resolve("screw")).detector.info.preset == "test"


class Counted:
    """Opens detectors, and holds them up while it is told to."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.let = threading.Event()
        self.let.set()
        self.waits = 0

    def __call__(self, path: Path) -> Detector:
        self.opened.append(path.name)
        self.waits += 1
        assert self.let.wait(30)
        return Detector(path, threads=1)


def test_a_product_is_loaded_once_whoever_asks(folder: Path) -> None:
    counted = Counted()
    with Products(FolderShelf(folder), counted) as products:
        counted.let.clear()
        futures = [products.find(NUT) for _ in range(5)]
        counted.let.set()
        assert len({id(future.result(30)) for future in futures}) == 1
        assert products.find(NUT).done()
        assert counted.opened == ["nut.onnx"]


def test_loading_one_product_holds_up_no_other(folder: Path, good: NDArray[np.uint8]) -> None:
    counted = Counted()
    with serving(folder, open_detector=counted) as client:
        image = encoded(good)
        assert client.post("/v1/inspect?product=nut", image).status == 200
        counted.let.clear()
        answers: list[int] = []
        thread = threading.Thread(target=lambda: answers.append(client.post("/v1/inspect?product=bolt", image).status))
        thread.start()
        until(lambda: counted.waits == 2)
        assert [client.post("/v1/inspect?product=nut", image).status for _ in range(5)] == [200] * 5
        assert answers == []
        counted.let.set()
        thread.join(30)
        assert answers == [200]


def test_the_least_recently_used_one_is_let_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = max(path.stat().st_size for path in folder.rglob("*.onnx"))
    monkeypatch.setattr(product_module, "memory_of_process", lambda: 0)  # so it is the file's size that counts
    with Products(FolderShelf(folder), open_one, max_memory=2 * size) as products:
        held = products.get(OLD)
        products.get(NUT)
        products.get(OLD)
        assert [one.name for one in products.loaded()] == [NUT, OLD]
        products.get(NEW)
        assert [one.name for one in products.loaded()] == [OLD, NEW]
        products.get(NUT)
        assert [one.name for one in products.loaded()] == [NEW, NUT]
        assert held.detector(np.full((64, 64, 3), 127, np.uint8)).verdict == "normal"  # who has it ends with it
        assert dict(products.outcomes()) == {"loaded": 4, "let go": 2}


def test_what_a_line_judges_with_stays(folder: Path) -> None:
    with Products(FolderShelf(folder), open_one, max_memory=1) as products:
        pinned = products.pin(OLD)
        products.get(NUT)
        products.get(NEW)
        assert [one.name for one in products.loaded()] == [OLD, NEW]
        with pytest.raises(UsageError, match="A line judges with bolt 9"):
            products.unload(OLD)
        products.unpin(pinned)
        assert products.unload(OLD)
        assert not products.unload(OLD)


def test_a_file_that_is_no_model_harms_nothing(folder: Path, good: NDArray[np.uint8]) -> None:
    (folder / "damaged.onnx").write_bytes(b"no model")
    with serving(folder) as client:
        for _ in range(2):
            answer = client.post("/v1/inspect?product=damaged", encoded(good))
            assert answer.status == 500
            assert "damaged.onnx" in answer.error
        assert client.post("/v1/inspect?product=nut", encoded(good)).status == 200


def replace(path: Path, by: Path) -> None:
    copy = path.with_name("copy.tmp")
    copy.write_bytes(by.read_bytes())
    os.replace(copy, path)


def test_a_changed_file_is_taken_and_one_that_is_wrong_is_refused(
    folder: Path, tmp_path: Path, model_factory: ModelFactory, good: NDArray[np.uint8], bad: NDArray[np.uint8]
) -> None:
    newer = model_factory("newer.onnx", fusion=Fusion(weights=(2.0,) * 6))
    lying = model_factory("lying.onnx")
    goldens = goldens_of(lying, bad=bad)
    lying = model_factory("lying.onnx", fusion=Fusion(weights=(0.01,) * 6))  # judges its goldens otherwise
    put_goldens(lying, goldens)
    with serving(folder) as client:

        def judged() -> Any:
            return client.post("/v1/inspect?product=nut", encoded(bad)).document

        first = judged()
        replace(folder / "nut.onnx", newer)
        until(lambda: judged()["model_sha256"] != first["model_sha256"])
        second = judged()
        assert second["score"] == pytest.approx(2 * first["score"])
        replace(folder / "nut.onnx", lying)
        until(lambda: len(client.said) == 2)
        assert judged()["model_sha256"] == second["model_sha256"]
        assert "judges nut 1 from now on" in client.said[0]
        assert "is not what it was" in client.said[1]
        assert "The model before goes on judging." in client.said[1]
        refused = client.post("/v2/repository/models/nut/load")
        assert (refused.status, "is not what it was" in refused.error) == (500, True)
        outcomes = client.station.products.outcomes()
        assert (outcomes["taken"], outcomes["refused"]) == (1, 2)
        assert 'rstpm_edge_model_events_total{event="taken"} 1.0' in client.get("/metrics").body.decode()


def test_a_file_that_is_gone_is_a_product_that_is_gone(folder: Path) -> None:
    with Products(FolderShelf(folder), open_one) as products:
        products.get(NUT)
        products.pin(OLD)
        (folder / "nut.onnx").unlink()
        (folder / "bolt" / "9.onnx").unlink()
        until(lambda: [one.name for one in products.loaded()] == [OLD])  # a line judges with it
        with pytest.raises(UnknownProduct):
            products.resolve("nut")
        with pytest.raises(UnknownProduct):
            products.get(NUT)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_a_share_that_is_away_for_a_while_ends_nothing(
    folder: Path,
    model_factory: ModelFactory,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    """What the system says of such a file is as many things as there are kinds of shares."""
    newer = model_factory("newer.onnx", fusion=Fusion(weights=(2.0,) * 6))
    file, real, asked = folder / "nut.onnx", os.stat, [0]

    def away(path: Any, *arguments: Any, **keywords: Any) -> os.stat_result:
        if str(path).startswith(str(file)):
            asked[0] += 1
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *arguments, **keywords)

    with Products(FolderShelf(file=file), open_one) as products:
        before = products.pin(NUT).detector.sha256
        monkeypatch.setattr(os, "stat", away)
        until(lambda: asked[0] > 20)  # longer than it takes a file to settle
        monkeypatch.setattr(os, "stat", real)
        replace(file, newer)
        until(lambda: products.get(NUT).detector.sha256 != before)


def test_a_shelf_that_fails_is_told_once_and_looked_at_again(folder: Path) -> None:
    class Failing(FolderShelf):
        failures = 0

        def catalogue(self) -> Catalogue:
            if threading.current_thread().name == "changed models" and self.failures < 5:
                self.failures += 1
                raise RuntimeError("no such luck")
            return super().catalogue()

    said: list[str] = []
    shelf = Failing(folder)
    with Products(shelf, open_one, report=said.append) as products:
        until(lambda: shelf.failures == 5)
        (folder / "nut.onnx").unlink()
        until(lambda: "nut" not in products.catalogue)
    assert len(said) == 1
    assert "no such luck" in said[0]


def test_what_the_loader_did_not_expect_is_told(folder: Path) -> None:
    def faulty(path: Path) -> Detector:
        raise MemoryError

    with Products(FolderShelf(folder), faulty) as products:
        for _ in range(2):  # it is tried again
            with pytest.raises(ModelError, match="Memory or open files ran out"):
                products.get(NUT)
        assert products.outcomes()["failed"] == 2


def test_the_end_comes_while_a_product_is_loaded(folder: Path) -> None:
    counted = Counted()
    counted.let.clear()
    products = Products(FolderShelf(folder), counted)
    first: Future[Any] = products.find(NUT)
    until(lambda: counted.waits == 1)
    second = products.find(OLD)
    ending = threading.Thread(target=products.close)
    ending.start()
    until(second.cancelled)
    counted.let.set()
    ending.join(30)
    assert first.result(30).name == NUT
    with pytest.raises(UsageError, match="The station is stopping"):
        products.find(NEW)
