"""POST /v1/inspect and its batch: what `infer --json` prints, for an image that somebody sends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from station_server import Client, form, serving
from watcher import encoded

from rstpm_edge import Detector
from rstpm_edge.station import uploads
from rstpm_edge.station.settings import Limits

pytestmark = pytest.mark.extra


@pytest.fixture
def client(model: Path) -> Iterator[Client]:
    with serving(model, limits=Limits(body=2_000_000, batch=3, pixels=100_000)) as client:
        yield client


def test_a_part_with_a_defect(client: Client, detector: Detector, bad: NDArray[np.uint8]) -> None:
    answer = client.post("/v1/inspect?name=part%207", encoded(bad))
    assert answer.status == 200
    expected = detector(encoded(bad))
    fields = answer.document
    assert fields["verdict"] == "anomalous" == expected.verdict
    assert fields["score"] == expected.score
    assert fields["p_value"] == expected.p_value
    assert fields["path"] == "part 7"
    assert fields["model_sha256"] == detector.sha256
    assert [tuple(region["box"]) for region in fields["regions"]] == [region.box for region in expected.regions]


def test_a_form(client: Client, good: NDArray[np.uint8]) -> None:
    body, headers = form(("a.jpg", encoded(good, ".jpg")))
    fields = client.post("/v1/inspect", body, headers).document
    assert (fields["verdict"], fields["path"]) == ("normal", "a.jpg")


def test_an_overlay_is_a_picture(client: Client, bad: NDArray[np.uint8]) -> None:
    answer = client.post("/v1/inspect?overlay=png", encoded(bad))
    assert answer.status == 200
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["rstpm-edge-verdict"] == "anomalous"
    picture = cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[1] > 600


def test_a_batch_keeps_the_order(client: Client, good: NDArray[np.uint8], bad: NDArray[np.uint8]) -> None:
    body, headers = form(("1.png", encoded(good)), ("2.png", b"no image"), ("3.png", encoded(bad)))
    results = client.post("/v1/inspect/batch", body, headers).document["results"]
    assert [(one["path"], one["verdict"]) for one in results] == [
        ("1.png", "normal"),
        ("2.png", "failed"),
        ("3.png", "anomalous"),
    ]


def test_what_was_judged_is_counted_and_kept(client: Client, good: NDArray[np.uint8], bad: NDArray[np.uint8]) -> None:
    for image in (good, bad, bad):
        client.post("/v1/inspect", encoded(image))
    counts = client.get("/v1/station").document["shift"]["counts"]
    assert counts == {"normal": 1, "anomalous": 2, "invalid": 0, "failed": 0}
    newest, _, oldest = client.station.recent.last()
    assert (newest.verdict, oldest.verdict) == ("anomalous", "normal")
    assert oldest.photo == encoded(good)
    assert newest.id > oldest.id


def test_images_that_cannot_be_read(client: Client, good: NDArray[np.uint8], huge_png: bytes) -> None:
    for content, words in {
        encoded(good)[:-20]: "Cannot read request: the file is truncated or damaged",
        encoded(good, ".jpg")[:-100]: "Cannot read request",
        b"no image": "it is not a PNG, JPEG, BMP or TIFF image",
        huge_png: "60000×60000 pixels, and this station takes 100,000",
        encoded(np.zeros((400, 400), np.uint8)): "400×400 pixels, and this station takes 100,000",
    }.items():
        answer = client.post("/v1/inspect", content)
        assert answer.status == 422
        assert answer.document["verdict"] == "failed"
        assert words in answer.document["error"]


def test_requests_that_bring_no_image(client: Client, good: NDArray[np.uint8]) -> None:
    image = encoded(good)
    two, headers = form(("1", image), ("2", image))
    four, _ = form(*[("1", image)] * 4)
    many, _ = form(*[("1", b"")] * 7)
    for path, body, extra, status, words in (
        ("/v1/inspect", b"", {}, 400, "There is no image"),
        ("/v1/inspect", two, headers, 400, "There are several images: /v1/inspect/batch takes them."),
        ("/v1/inspect/batch", four, headers, 400, "There are 4 images, and a batch has at most 3."),
        ("/v1/inspect/batch", many, headers, 400, "The form has more than 6 parts."),
        ("/v1/inspect", two[:-30], headers, 400, "The form"),
        ("/v1/inspect", image, headers, 400, "The form cannot be read"),
        ("/v1/inspect", image, {"Content-Type": "multipart/form-data"}, 400, "The form"),
        ("/v1/inspect", image, {"Content-Encoding": "gzip"}, 415, "without Content-Encoding"),
        ("/v1/inspect", bytes(2_000_001), {}, 413, "The request has more than 2,000,000 bytes."),
        ("/v1/inspect?product=other", image, {}, 404, "There is no product other: there are model."),
        ("/v1/inspect?version=2", image, {}, 404, "There is no version 2 of model: there are 1."),
        ("/v1/inspect?overlay=gif", image, {}, 400, "overlay: "),
        ("/v1/nothing", image, {}, 404, "There is nothing at this address"),
    ):
        answer = client.post(path, body, extra)
        assert (answer.status, words in answer.error) == (status, True), (path, answer.body)
    assert client.get("/v1/inspect").status == 405
    assert client.post("/v1/inspect", image).status == 200


def test_a_form_that_takes_long_holds_up_nobody(
    client: Client, good: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, let = threading.Event(), threading.Event()

    class Slow(uploads.MultipartParser):
        def write(self, data: bytes) -> int:
            begun.set()
            assert let.wait(30)
            return super().write(data)

    monkeypatch.setattr(uploads, "MultipartParser", Slow)
    body, headers = form(("a.png", encoded(good)))
    answers: list[int] = []
    for path in ("/v1/inspect", "/v1/inspect/batch"):
        begun.clear()
        let.clear()
        asking = threading.Thread(target=lambda path=path: answers.append(client.post(path, body, headers).status))  # type: ignore[misc]
        asking.start()
        assert begun.wait(30)
        assert client.get("/v2/health/live").status == 200
        let.set()
        asking.join(30)
    assert answers == [200, 200]
