"""A line: from a source to the feed, paused, with another product, and where the source is away."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bundles import ModelFactory
from numpy.typing import NDArray
from waiting import until

from rstpm_edge import Detector
from rstpm_edge.drift import DriftState, begin
from rstpm_edge.errors import SourceError, UsageError
from rstpm_edge.model.metadata import Bundle
from rstpm_edge.sources import live
from rstpm_edge.sources.frames import Failure, Frame, Item, Source
from rstpm_edge.sources.live import Live
from rstpm_edge.sources.watched_folder import WatchedFolder
from rstpm_edge.station.feed import Feed
from rstpm_edge.station.line import Line
from rstpm_edge.station.product import ProductName
from rstpm_edge.station.products import Products
from rstpm_edge.station.shelf import FolderShelf


class Images:
    """A source that gives what it was handed, and then nothing, or its end."""

    def __init__(self, *items: Item, ends: bool = False) -> None:
        self.items, self.ends, self.closed = list(items), ends, False

    def __iter__(self) -> Iterator[Item]:
        while self.items or not self.ends:
            yield self.items.pop(0) if self.items else None

    def summary(self) -> str:
        return ""

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def products(tmp_path: Path, model_factory: ModelFactory) -> Iterator[Products]:
    (tmp_path / "models").mkdir()
    model_factory("models/first.onnx")
    model_factory("models/second.onnx", preset="other")
    with Products(FolderShelf(tmp_path / "models"), lambda path: Detector(path, threads=1)) as products:
        yield products


@contextlib.contextmanager
def running(products: Products, open_source: Callable[..., Source], feed: Feed, **keywords: Any) -> Iterator[Line]:
    line = Line("line", "a source", open_source, products, ProductName("first", "1"), feed, **keywords)
    line.start()
    try:
        yield line
    finally:
        line.stop()


def frame(image: NDArray[np.uint8], number: int = 0) -> Frame:
    return Frame("camera:0", image, "camera", 1.0, number=number, taken=0.0, dropped=3, damaged=1)


def test_images_of_a_watched_folder(tmp_path: Path, products: Products, bad: NDArray[np.uint8]) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    feed = Feed()
    told: list[Any] = []
    with (
        feed.subscribe("test") as subscription,
        running(products, lambda report: WatchedFolder(folder, report=report), feed, reactions=[told.append]) as line,
    ):
        until(lambda: line.state.condition == "running")
        cv2.imwrite(str(tmp_path / "part.png"), bad)
        (tmp_path / "part.png").rename(folder / "part.png")
        inspection = subscription.get(20)
        assert inspection is not None
        assert inspection.verdict == "anomalous"
        assert inspection.fields == told[0]
        assert inspection.fields["path"] == str(folder / "part.png")
        assert (inspection.origin, inspection.product, inspection.version) == ("line", "first", "1")
        assert np.array_equal(inspection.photo, bad)  # type: ignore[arg-type]
        assert inspection.result is not None
        assert set(inspection.seconds) == {"read", "judge"}
    assert line.state.condition == "stopped"


def test_what_fails_is_published_too(products: Products, good: NDArray[np.uint8]) -> None:
    feed = Feed()
    items = [Failure("1.png", "Cannot read 1.png."), frame(good.astype(np.float32)), frame(good)]
    source = Images(*items, ends=True)
    with feed.subscribe("test") as subscription, running(products, lambda report: source, feed) as line:
        verdicts = [subscription.get(20).verdict for _ in items]  # type: ignore[union-attr]
        assert verdicts == ["failed", "failed", "normal"]
        until(lambda: line.state.condition == "ended")
        state = line.state
        assert (state.images, state.dropped, state.damaged) == (3, 3, 1)
        assert source.closed


def test_a_line_that_is_paused_takes_nothing(products: Products, good: NDArray[np.uint8]) -> None:
    feed = Feed()
    source = Images()
    with feed.subscribe("test") as subscription, running(products, lambda report: source, feed) as line:
        until(lambda: line.state.condition == "running")
        line.pause()
        assert line.state.condition == "paused"
        until(lambda: not source.items)
        beat = line.state.beat
        until(lambda: line.state.beat > beat + 0.3)  # alive, and where it looks at nothing else
        source.items.append(frame(good))
        assert subscription.get(0.5) is None
        line.resume()
        assert subscription.get(20) is not None


def test_an_image_that_comes_in_the_moment_of_a_pause(products: Products, good: NDArray[np.uint8]) -> None:
    """A file waits, since it is given only once; a camera's frame shows what is over by then."""
    feed = Feed()
    lines: list[Line] = []

    class Moment(Images):
        def __iter__(self) -> Iterator[Item]:
            yield None
            lines[0].pause()
            yield Frame("camera", good, "", 1.0, number=1, dropped=0, damaged=0)
            lines[0].pause()
            yield Frame("2.png", good, "2.png", 1.0)
            yield None

    source = Moment(ends=True)
    with feed.subscribe("test") as subscription:
        lines.append(Line("line", "a source", lambda report: source, products, ProductName("first", "1"), feed))
        lines[0].start()
        try:
            until(lambda: lines[0].state.condition == "paused")
            lines[0].resume()
            until(lambda: lines[0].state.condition == "paused")
            assert subscription.get(0.5) is None
            lines[0].resume()
            found = subscription.get(20)
            assert found is not None
            assert found.fields["path"] == "2.png"
            until(lambda: lines[0].state.condition == "ended")
            assert lines[0].state.images == 1
        finally:
            lines[0].stop()


class Triggered:
    """A camera that waits for parts."""

    def __init__(self, image: NDArray[np.uint8]) -> None:
        self.part, self.taken = threading.Event(), 0
        self._image = image

    def grab(self) -> bool | None:
        if not self.part.wait(0.05):
            return None
        self.part.clear()
        return True

    def retrieve(self) -> tuple[bool, Any]:
        self.taken += 1
        return True, self._image

    def get(self, prop: int) -> float:
        return 0.0

    def release(self) -> None:
        pass


def test_parts_that_pass_a_camera_during_a_pause_get_no_verdict_after_it(
    products: Products, good: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    camera, feed = Triggered(good), Feed()
    monkeypatch.setattr(live, "open_capture", lambda kind, source: camera)
    with (
        feed.subscribe("test") as subscription,
        running(products, lambda report: Live("camera", "aravis:top", report=report), feed) as line,
    ):
        camera.part.set()
        assert subscription.get(20).fields["frame"] == 0  # type: ignore[union-attr]
        line.pause()
        for number in (1, 2):
            camera.part.set()
            until(lambda number=number: camera.taken > number)  # type: ignore[misc]
        beat = line.state.beat
        until(lambda: line.state.beat > beat + 0.3)  # alive
        assert line.state.condition == "paused"
        line.resume()
        assert subscription.get(0.5) is None
        camera.part.set()
        assert subscription.get(20).fields["frame"] == 3  # type: ignore[union-attr]


def test_another_product(products: Products, good: NDArray[np.uint8]) -> None:
    feed = Feed()
    source = Images(frame(good))
    with feed.subscribe("test") as subscription, running(products, lambda report: source, feed) as line:
        assert subscription.get(20).product == "first"  # type: ignore[union-attr]
        line.select(products.resolve("second"))
        source.items.append(frame(good))
        second = subscription.get(20)
        assert second is not None
        assert (second.product, line.state.product.name) == ("second", "second")
        assert second.fields["model_sha256"] == line.state.model_sha256
        pinned = {product.name.name: product.pinned for product in products.loaded()}
        assert pinned == {"first": 0, "second": 1}


def test_a_source_that_is_away_is_tried_again(
    products: Products, good: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rstpm_edge.station.line.FIRST_WAIT", 0.05)
    feed = Feed()
    tries: list[int] = []
    said: list[str] = []
    there: list[bool] = []

    def open_source(report: object) -> Source:
        tries.append(1)
        if len(tries) < 3:
            raise SourceError("Cannot open camera:0.")
        return Images(frame(good))

    with (
        feed.subscribe("test") as subscription,
        running(products, open_source, feed, report=said.append, tell_source=there.append) as line,
    ):
        assert subscription.get(20) is not None
        assert line.state.condition == "running"
        assert line.state.problem is None
    assert said == ["Cannot open camera:0."]  # once
    assert there == [False, True]


def test_drift_is_watched(products: Products, good: NDArray[np.uint8]) -> None:
    feed = Feed()
    source = Images(*[frame(good, number) for number in range(200)], ends=True)
    said: list[str] = []
    first_drift = lambda bundle: begin(bundle.calibration, 0.01)  # noqa: E731
    with running(products, lambda report: source, feed, first_drift=first_drift, report=said.append) as line:
        until(lambda: line.state.condition == "ended")
        drift = line.state.drift
        assert drift is not None
        assert drift.drift == "scene changed"  # all of them score alike, which held-out ones did not
        assert len(said) == 1
        line.select(products.resolve("first"))  # it judges already
        assert line.state.drift == drift
        assert products.get(ProductName("first", "1")).pinned == 1
        line.select(products.resolve("second"))
        assert line.state.drift is not None
        assert line.state.drift.images == 0


def test_a_new_model_whose_drift_cannot_be_watched(products: Products, good: NDArray[np.uint8], tmp_path: Path) -> None:
    feed, source, said, asked = Feed(), Images(frame(good)), list[str](), list[Bundle]()

    def first_drift(bundle: Bundle) -> DriftState:
        asked.append(bundle)
        if len(asked) > 1:
            raise UsageError("it has a mask.")
        return begin(bundle.calibration, 0.01)

    with (
        feed.subscribe("test") as subscription,
        running(products, lambda report: source, feed, first_drift=first_drift, report=said.append) as line,
    ):
        assert subscription.get(20) is not None
        assert line.state.drift is not None
        assert products.get(ProductName("first", "1")).detector.swap(tmp_path / "models" / "second.onnx")
        source.items.append(frame(good, 1))
        judged = subscription.get(20)
        assert judged is not None
        assert judged.verdict == "normal"
        assert (line.state.condition, line.state.drift) == ("running", None)
    assert said == ["The drift of line is not watched any more: it has a mask."]
