"""A line that judges by options of its own, beside one that judges as the station does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bundles import ModelFactory
from confirmed import counted, patterned
from handed_images import Images
from limits import make_profile
from page_station import page_station
from station_server import Client
from waiting import until

from rstpm_edge import Detector
from rstpm_edge.station.feed import Feed
from rstpm_edge.station.line import Line
from rstpm_edge.station.product import ProductName
from rstpm_edge.station.products import Products
from rstpm_edge.station.shelf import FolderShelf

pytestmark = pytest.mark.extra

DISTANCES = [3, 5, 7, 9, 11, 13, 14, 15, 17, 18]  # all pass


@dataclass
class TwoLines:
    """ "top" judges as the station does, and "side" by options of its own."""

    client: Client
    cameras: dict[str, Images]

    def judge(self, line: str, *photos: Any) -> None:
        before = self.client.station.line(line).state.images
        for photo in photos:
            self.cameras[line].give(photo)
        until(lambda: self.client.station.line(line).state.images == before + len(photos))


@contextlib.contextmanager
def two_lines(folder: Path, **options: Any) -> Iterator[TwoLines]:
    cameras = {"top": Images(), "side": Images()}
    models = folder / "models"
    with Products(FolderShelf(models), lambda path: Detector(path, threads=1, **options)) as own:

        def lines(feed: Feed, products: Products) -> Sequence[Line]:
            first = ProductName("first", "1")
            return [
                Line(name, name, cameras[name].open, of, first, feed) for name, of in (("top", products), ("side", own))
            ]

        with page_station(models, folder / "kept", lines=lines) as client:
            until(lambda: all(line.state.condition == "running" for line in client.station.lines))
            yield TwoLines(client, cameras)


@pytest.fixture
def folder(tmp_path: Path, model_factory: ModelFactory) -> Path:
    (tmp_path / "models").mkdir()
    model_factory("models/first.onnx")
    model_factory("models/second.onnx", preset="other")
    return tmp_path


def test_each_line_says_what_it_judges_by(folder: Path) -> None:
    with two_lines(folder, alpha=0.05) as two:
        of = {line: two.client.get(f"/v1/calibration?line={line}").document for line in ("top", "side")}
        assert {line: (one["threshold"], one["alpha"]) for line, one in of.items()} == {
            "top": (0.99, 0.01),
            "side": (0.95, 0.05),
        }
        assert two.client.get("/v1/calibration").error.startswith("Say which product")
        assert two.client.get("/v1/calibration?line=nothing").error == "There is no line nothing: there are top, side."
        assert two.client.get("/v1/calibration?product=first").document["threshold"] == 0.99  # as requests have it


def test_the_parts_of_all_lines_of_a_file_move_the_threshold_that_each_judges_by(folder: Path) -> None:
    with two_lines(folder, alpha=0.05) as two:
        two.judge("side", *(patterned(one, seed) for seed, one in enumerate(DISTANCES)))
        two.judge("top", patterned(40, 50), *(patterned(one, 60 + one) for one in (4, 6)))
        top, side = (two.client.get(f"/v1/recalibration?line={line}").document for line in ("top", "side"))
        assert side["parts"] == top["parts"] == counted(passed=12, undecided=1)
        assert (side["origins"], side["moved"]) == ({"side": 10, "top": 2}, None)
        (reject,) = side["to_decide"]
        assert (reject["origin"], reject["verdict"], reject["decision"]) == ("top", "anomalous", None)
        two.client.post(f"/v1/inspections/{reject['id']}/notes", {"kind": "acknowledged"})
        top, side = (two.client.get(f"/v1/recalibration?line={line}").document for line in ("top", "side"))
        assert side["parts"] == top["parts"] == counted(passed=12, defects=1)
        assert (side["moved"]["images"], side["moved"]["alpha"], top["moved"]["alpha"]) == (111, 0.05, 0.01)
        assert (side["moved"]["rejected_before"], top["moved"]["threshold_before"], top["to_decide"]) == (0, 0.99, [])
        before = {line.name: line.state.model_sha256 for line in two.client.station.lines}
        moved = two.client.post("/v1/recalibration", {"line": "side", "take": True})
        assert moved.status == 200, moved.body
        event, recorded = two.client.recorded[-1]
        assert (event, recorded["line"], recorded["take"]) == ("recalibrated", "side", True)
        after = Detector(folder / "models" / "first.onnx", threads=1, alpha=0.05)
        side_now, top_now = (two.client.station.line(name) for name in ("side", "top"))
        assert side_now.state.model_sha256 == after.sha256 != before["side"]
        judged_by = two.client.get("/v1/calibration?line=side").document
        assert (judged_by["threshold"], judged_by["alpha"]) == (after.threshold, 0.05)
        told = moved.document["moved"]
        assert (told["threshold_before"], told["threshold"], told["alpha"]) == (0.95, after.threshold, 0.05)
        assert told["rate_with_confidence"] == judged_by["rate_with_confidence"]
        assert told["alpha_of_model"] == 0.01
        assert (recorded["threshold_before"], recorded["threshold"], recorded["alpha"]) == (0.95, after.threshold, 0.05)
        until(lambda: top_now.state.model_sha256 == after.sha256)  # the file is that of both
        for photo in (patterned(40, 51), patterned(4, 52)):
            two.judge("side", photo)
        assert two.client.get("/v1/recalibration?line=side").document["parts"]["undecided"] == 1


def test_another_product_for_a_line(folder: Path) -> None:
    with two_lines(folder, alpha=0.05) as two:
        station = two.client.station
        chosen = two.client.post("/v1/station/product?line=side", {"product": "second"}).document
        assert (chosen["product"], station.line("top").state.product.name) == ("second", "first")
        assert two.client.get("/v1/calibration?line=side").document["threshold"] == 0.95
        assert station.products.in_memory(ProductName("second", "1")) is None
        known = {one["product"]: one for one in two.client.get("/v1/station").document["products"]}
        assert known["second"]["loaded"]
        assert known["second"]["memory"] == sum(
            one.memory for one in station.line("side").products.loaded() if one.name.name == "second"
        )
        assert 'rstpm_edge_model_events_total{event="loaded"} 3.0' in two.client.get("/metrics").body.decode()


def test_what_cannot_be_recalibrated(folder: Path, bad: Any) -> None:
    with two_lines(folder, roi=(0, 0, 32, 32)) as two:
        two.judge("side", patterned(3, 0))
        assert two.client.get("/v1/calibration?line=side").document["alpha"] is None
        found = two.client.get("/v1/recalibration?line=side").document
        assert found["problem"].startswith("Nothing is promised here that a calibration could keep: the threshold was ")
        assert found["parts"]["judged_otherwise"] == 1
    with two_lines(folder, mask=np.ones((64, 64), bool)) as two:
        two.judge("top", patterned(3, 1))
        assert two.client.get("/v1/recalibration?line=side").document["problem"].startswith("Scores with a mask are ot")
        refused = two.client.post("/v1/recalibration", {"line": "side"})
        assert (refused.status, refused.error.startswith("Scores with a mask are others")) == (400, True)
        assert two.client.get("/v1/recalibration?line=top").document["parts"]["passed"] == 1


def test_photos_of_a_line_have_the_bits_that_its_model_says(tmp_path: Path, model_factory: ModelFactory) -> None:
    """12 bits in 16: taken as 16, they would be black."""
    (tmp_path / "models").mkdir()
    model_factory("models/first.onnx")
    model_factory("models/second.onnx", profile=make_profile(depth=16, bits=12))
    with two_lines(tmp_path, alpha=0.05) as two:
        two.client.station.line("side").select(ProductName("second", "1"))
        two.judge("side", np.full((64, 64, 3), 2048, np.uint16))
        (part,) = two.client.get("/v1/inspections?most=1").document["inspections"]
        assert part["product"] == "second"
        two.client.station.recent._kept.clear()  # of the history, which has asked for its bits in a thread of its own
        photo = two.client.get(f"/v1/inspections/{part['id']}/photo.jpg").body
        assert cv2.imdecode(np.frombuffer(photo, np.uint8), 1).mean() == pytest.approx(128, abs=2)  # type: ignore[union-attr]
