"""A station's products and server, which a file's tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bundles import make_bundle, write_model
from opcua_plc import Served, serving
from waiting import until

from rstpm_edge import Detector
from rstpm_edge.station.product import ProductName
from rstpm_edge.station.products import Products
from rstpm_edge.station.shelf import FolderShelf


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Products]:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "first.onnx", make_bundle())
    write_model(folder / "second.onnx", make_bundle(preset="other"))
    (folder / "damaged.onnx").write_bytes(b"nothing")
    with Products(FolderShelf(folder), lambda path: Detector(path, threads=1)) as products:
        yield products


@pytest.fixture(scope="module")
def one_server(products: Products) -> Iterator[Served]:
    """For all tests, since asyncua needs a second or two for OPC UA's own nodes."""
    with serving(products) as served:
        yield served


@pytest.fixture
def served(one_server: Served) -> Served:
    """A line that judges with the first product."""
    line = one_server.line
    line.select(ProductName("first", "1"))
    line.resume()
    until(lambda: line.state.condition == "running" and not one_server.images.items)
    one_server.station.shift.begin()
    return one_server
