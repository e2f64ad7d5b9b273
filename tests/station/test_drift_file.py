"""What is known of drift of a line, across restarts, other products and full disks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import ModelFactory
from numpy.typing import NDArray
from waiting import until

from rstpm_edge import Detector
from rstpm_edge.drift import DriftState, begin
from rstpm_edge.errors import UsageError
from rstpm_edge.model.metadata import Bundle
from rstpm_edge.outputs.drift_file import load_drift
from rstpm_edge.sources.frames import Frame
from rstpm_edge.station.drift_file import INTERVAL, DriftFile
from rstpm_edge.station.feed import Feed
from rstpm_edge.station.line import Line
from rstpm_edge.station.product import ProductName
from rstpm_edge.station.products import Products
from rstpm_edge.station.shelf import FolderShelf


class Images:
    """A source that gives so many frames, and then nothing."""

    def __init__(self, image: NDArray[np.uint8], number: int) -> None:
        self._frames = [Frame("camera:0", image, "camera", 1.0, number=i, taken=0.0) for i in range(number)]

    def __iter__(self) -> Iterator[Frame | None]:
        while True:
            yield self._frames.pop() if self._frames else None

    def summary(self) -> str:
        return ""

    def close(self) -> None:
        pass


@pytest.fixture
def products(tmp_path: Path, model_factory: ModelFactory) -> Iterator[Products]:
    (tmp_path / "models").mkdir()
    model_factory("models/first.onnx")
    model_factory("models/second.onnx", preset="other")
    with Products(FolderShelf(tmp_path / "models"), lambda path: Detector(path, threads=1)) as products:
        yield products


def first_state(info: Bundle) -> DriftState:
    return begin(info.calibration, 0.01)


def line_of(products: Products, file: DriftFile, image: NDArray[np.uint8], number: int, name: str = "first") -> Line:
    return Line(
        "line",
        "a source",
        lambda report: Images(image, number),
        products,
        ProductName(name, "1"),
        Feed(),
        first_drift=first_state,
        drift_file=file,
    )


def judge(line: Line, number: int) -> None:
    line.start()
    until(lambda: line.state.images == number)
    line.stop()


def images_of(line: Line) -> int:
    assert line.state.drift is not None
    return line.state.drift.images


def test_it_goes_on_after_a_restart(products: Products, tmp_path: Path, good: NDArray[np.uint8]) -> None:
    path = tmp_path / "drift.json"
    judge(line_of(products, DriftFile(path), good, 3), 3)
    line = line_of(products, DriftFile(path), good, 2)
    assert images_of(line) == 3
    judge(line, 2)
    assert images_of(line_of(products, DriftFile(path), good, 0)) == 5


def test_another_product_begins_anew(products: Products, tmp_path: Path, good: NDArray[np.uint8]) -> None:
    path, said = tmp_path / "drift.json", list[str]()
    line = line_of(products, DriftFile(path), good, 3)
    judge(line, 3)
    line.select(ProductName("second", "1"))
    line.stop()
    again = line_of(products, DriftFile(path, report=said.append), good, 0)  # the first one, as it was typed
    assert images_of(again) == 0
    assert said == [f"{path} is of another model: drift begins anew, and {path}.before has what was known."]
    assert (tmp_path / "drift.json.before").exists()


def test_it_is_written_with_news_and_each_minute(products: Products, tmp_path: Path) -> None:
    path, now = tmp_path / "drift.json", [0.0]
    info = products.get(ProductName("first", "1")).detector.info
    file = DriftFile(path, now=lambda: now[0])
    state = first_state(info)
    file.load(state, "a" * 64)
    file.keep(state, "a" * 64)
    assert not path.exists()
    now[0] = INTERVAL
    file.keep(state, "a" * 64)
    assert load_drift(path, state, "a" * 64) == state
    path.unlink()
    file.keep(state, "b" * 64)
    assert load_drift(path, state, "b" * 64) == state


def test_what_is_no_state_is_refused(products: Products, tmp_path: Path, good: Any) -> None:
    path = tmp_path / "drift.json"
    path.write_text("no state")
    with pytest.raises(UsageError, match="is damaged"):
        line_of(products, DriftFile(path), good, 0)
    assert path.read_text() == "no state"


def test_where_it_cannot_be_written_judging_goes_on(products: Products, tmp_path: Path, good: Any) -> None:
    folder, said = tmp_path / "kept", list[str]()
    folder.mkdir()
    file = DriftFile(folder / "drift.json", report=said.append)
    line = line_of(products, file, good, 2)
    folder.rmdir()
    judge(line, 2)
    assert file.lost == 1
    assert said[0].endswith("Judging goes on without.")
