"""What the page asks its station: parts, pictures, notes, the calibration, and its own files."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from confirmed import counted, patterned
from numpy.typing import NDArray
from page_station import page_station
from station_server import Client
from waiting import until

from rstpm_edge import Detector
from rstpm_edge.errors import ModelError
from rstpm_edge.station.access import Access, Token, _digest

pytestmark = pytest.mark.extra


def png(image: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


@pytest.fixture
def client(model: Path, tmp_path: Path) -> Iterator[Client]:
    with page_station(model, tmp_path / "kept") as client:
        yield client


def send(client: Client, *images: NDArray[np.uint8]) -> list[int]:
    """Judge them; gives their ids, oldest first."""
    for image in images:
        assert client.post("/v1/inspect", png(image)).status == 200
    return [part["id"] for part in client.get(f"/v1/inspections?most={len(images)}").document["inspections"]][::-1]


def test_parts_and_their_pictures(client: Client, good: Any, bad: Any) -> None:
    first, second = send(client, good, bad)
    assert [one["verdict"] for one in client.get("/v1/inspections").document["inspections"]] == ["anomalous", "normal"]
    assert [one["id"] for one in client.get("/v1/inspections?verdict=normal").document["inspections"]] == [first]
    assert [one["id"] for one in client.get(f"/v1/inspections?before={second}").document["inspections"]] == [first]
    assert client.get("/v1/inspections?origin=line").document["inspections"] == []
    part = client.get(f"/v1/inspections/{second}").document
    assert part["image_size"] == [160, 120]
    assert part["fields"]["regions"][0]["box"] == [80, 28, 40, 33] or part["fields"]["regions"]
    for name, kind in (("photo.jpg", "image/jpeg"), ("small.jpg", "image/jpeg"), ("heat.png", "image/png")):
        picture = client.get(f"/v1/inspections/{second}/{name}")
        assert (picture.status, picture.headers["content-type"]) == (200, kind)
        assert "immutable" in picture.headers["cache-control"]
        decoded = cv2.imdecode(np.frombuffer(picture.body, np.uint8), cv2.IMREAD_UNCHANGED)
        assert decoded is not None
        assert decoded.shape[:2] == (120, 160)
    heat = cv2.imdecode(np.frombuffer(picture.body, np.uint8), cv2.IMREAD_UNCHANGED)
    assert heat is not None
    assert heat[45, 100, 3] == 255
    assert heat[100, 10, 3] == 0
    assert client.get("/v1/inspections/17").status == 404
    assert client.get("/v1/inspections/17/photo.jpg").status == 404
    assert client.get("/v1/inspections?most=0").status == 400


def test_pictures_come_from_the_history_where_memory_has_none(client: Client, bad: Any) -> None:
    (part,) = send(client, bad)
    before = {name: client.get(f"/v1/inspections/{part}/{name}") for name in ("photo.jpg", "small.jpg", "heat.png")}
    client.station.recent._kept.clear()
    for name, answer in before.items():
        kept = client.get(f"/v1/inspections/{part}/{name}")
        assert kept.status == 200
        old, new = (cv2.imdecode(np.frombuffer(one.body, np.uint8), 1).astype(int) for one in (answer, kept))
        assert np.abs(old - new).mean() < 3


def test_a_large_photo_is_shown_smaller(client: Client) -> None:
    (part,) = send(client, np.full((500, 4000, 3), 127, np.uint8))
    sizes = []
    for query in ("", "?side=400", "?side=5000"):
        content = client.get(f"/v1/inspections/{part}/photo.jpg{query}").body
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), 1)
        assert decoded is not None
        sizes.append(decoded.shape[:2])
    assert sizes == [(160, 1280), (50, 400), (500, 4000)]


def test_notes(client: Client, good: Any, bad: Any, tmp_path: Path) -> None:
    passed, reject = send(client, good, bad)
    said = client.post(f"/v1/inspections/{reject}/notes", {"kind": "good", "person": "Ada", "comment": "dust"})
    assert said.status == 200
    assert (said.document["photo_kept"], said.document["decision"]) == (True, "good")
    assert len(list((tmp_path / "kept" / "corrections" / "good").iterdir())) == 1
    assert client.get(f"/v1/inspections/{reject}").document["notes"][0]["comment"] == "dust"
    assert client.get("/v1/inspections").document["inspections"][0]["decision"] == "good"
    refused = client.post(f"/v1/inspections/{passed}/notes", {"kind": "acknowledged"})
    assert (refused.status, refused.error) == (400, "The part was not rejected: there is nothing to acknowledge.")
    assert client.post(f"/v1/inspections/{passed}/notes", {"kind": "nonsense"}).status == 400
    assert client.post(f"/v1/inspections/{passed}/notes", {"kind": "comment", "comment": "x" * 3000}).status == 400
    ((event, recorded),) = client.recorded  # of those that were refused, nothing
    assert event == "note made"
    assert recorded == {
        "by": {"address": "127.0.0.1", "token": None, "person": "Ada"},
        "part": reject,
        "kind": "good",
        "has_comment": True,
        "verdict": "anomalous",
        "product": "model",
        "product_version": "1",
        "sha256": client.get("/v1/calibration").document["model_sha256"],
    }


def test_a_note_whose_photo_cannot_be_kept_is_recorded(client: Client, bad: Any, tmp_path: Path) -> None:
    (reject,) = send(client, bad)
    (tmp_path / "kept" / "corrections").write_text("in the way")
    assert client.post(f"/v1/inspections/{reject}/notes", {"kind": "good"}).status == 500
    assert [event for event, _ in client.recorded] == ["note made"]
    assert client.get("/v1/inspections").document["inspections"][0]["decision"] == "good"


def test_the_calibration_and_a_recalibration_that_is_taken(client: Client, model: Path, tmp_path: Path) -> None:
    found = client.get("/v1/calibration").document
    assert (found["threshold"], found["alpha"], found["images"]) == (0.99, 0.01, 99)
    assert found["band"] == [0.05, 0.95]
    send(
        client, *(patterned(one, seed) for seed, one in enumerate([3, 5, 7, 9, 11, 13, 14, 15, 17, 18, 19, 20, 22, 23]))
    )
    proposal = client.get("/v1/recalibration").document
    assert proposal["parts"] == counted(passed=12, undecided=2)
    assert "nobody has decided: 2" in proposal["problem"]
    assert client.post("/v1/recalibration", {"take": True}).status == 400
    for part in client.get("/v1/inspections?verdict=anomalous").document["inspections"]:
        client.post(f"/v1/inspections/{part['id']}/notes", {"kind": "good"})
    proposal = client.get("/v1/recalibration").document
    assert (proposal["problem"], proposal["moved"]["images"]) == (None, 113)
    problem = client.get("/v1/recalibration?only_new=true").document["problem"]
    assert problem.startswith("To promise 1% takes 99 photos")
    assert "leave the new parts alone out" in problem
    assert " a rate of " in problem
    before = model.read_bytes()
    written = client.post("/v1/recalibration", {"person": "Ada"}).document
    assert Detector(written["file"], threads=1).threshold == pytest.approx(6 * 23 / 128)
    assert model.read_bytes() == before
    taken = client.post("/v1/recalibration", {"person": "Ada", "take": True})
    (event, facts) = client.recorded[-1]
    assert (event, facts["by"]["person"], facts["take"]) == ("recalibrated", "Ada", True)
    assert (facts["product"], facts["product_version"], "version" in facts) == ("model", "1", False)
    assert facts["threshold"] == taken.document["moved"]["threshold"] != facts["threshold_before"]
    assert taken.status == 200
    assert client.get("/v1/calibration").document["threshold"] == pytest.approx(6 * 23 / 128)
    assert client.post("/v1/inspect", png(patterned(22, 7))).document["verdict"] == "normal"


def test_a_model_that_is_not_taken_leaves_the_one_before(
    client: Client, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise ModelError("It does not fit the station.")

    send(client, *(patterned(one, seed) for seed, one in enumerate([3, 5, 7, 9, 11, 13, 14, 15, 17, 18])))
    before = model.read_bytes(), client.get("/v1/calibration").document
    monkeypatch.setattr(Detector, "prepare", refuse)
    refused = client.post("/v1/recalibration", {"take": True})
    assert (refused.status, refused.error) == (
        400,
        "The new model was written, but not taken: It does not fit the station.",
    )
    assert (model.read_bytes(), client.get("/v1/calibration").document) == before


def test_a_threshold_that_was_set_by_hand_stays(client: Client) -> None:
    send(client, *(patterned(one, seed) for seed, one in enumerate([3, 5, 7])))
    client.station.products.get(client.station.products.resolve()).detector.threshold = 0.913
    assert client.get("/v1/calibration").document["alpha"] is None
    refused = client.post("/v1/recalibration", {"take": True})
    assert (refused.status, refused.error[:35]) == (400, "Nothing is promised here that a cal")


def test_without_a_history_there_are_the_last_parts(model: Path, bad: Any) -> None:
    with page_station(model, None) as client:
        assert client.post("/v1/inspect", png(bad)).status == 200
        (part,) = client.get("/v1/inspections").document["inspections"]
        assert client.get(f"/v1/inspections/{part['id']}").document["image_size"] == [160, 120]
        assert client.get(f"/v1/inspections/{part['id']}/small.jpg").status == 200
        refused = client.post(f"/v1/inspections/{part['id']}/notes", {"kind": "good"})
        assert (refused.status, refused.error) == (
            409,
            "This station keeps no history: start it with `rstpm-edge serve --history FOLDER`.",
        )
        assert client.get("/v1/recalibration").status == 409


def test_the_page_and_its_files(client: Client) -> None:
    page = client.get("/")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"].startswith("default-src 'self';")
    asked = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())
    modules = [name for name in asked if name.endswith(".js")]
    seen = set(asked)
    while modules:
        text = client.get(modules.pop()).body.decode()
        for name in re.findall(r'from "\./(\w+\.js)"', text):
            if f"/page/{name}" not in seen:
                seen.add(f"/page/{name}")
                modules.append(f"/page/{name}")
    total = 0
    for name in seen:
        answer = client.get(name)
        assert answer.status == 200, name
        assert client.get(name, {"If-None-Match": answer.headers["etag"]}).status == 304
        total += len(answer.body)
        assert not re.search(rb"https?://(?!www\.w3\.org/2000/svg|github\.com/leeoniya)", answer.body), name
    assert total < 250_000
    assert client.get("/page/nothing.js").status == 404
    assert client.get("/page/..%2f__init__.py").status == 404


def test_all_languages_have_all_words() -> None:
    source = resources.files("rstpm_edge.station.page").joinpath("words.js").read_text(encoding="utf-8")
    blocks = re.findall(r"^  (en|de|ja): \{\n(.*?)^  \},", source, re.M | re.S)
    words = {name: set(re.findall(r"(?:^|[ ,])(\w+): \"", block)) for name, block in blocks}
    assert words["en"] == words["de"] == words["ja"]
    holes = {
        name: {
            key: sorted(re.findall(r"\{(\w+)\}", value))
            for key, value in re.findall(r"(\w+): \"((?:[^\"\\]|\\.)*)\"", block)
        }
        for name, block in blocks
    }
    assert holes["en"] == holes["de"] == holes["ja"]


def test_who_may_do_what(model: Path, tmp_path: Path, bad: Any) -> None:
    tokens = [Token(_digest("inspect-token-0000"), "inspect"), Token(_digest("manage-token-00000"), "manage")]
    with page_station(model, tmp_path / "kept", access=Access(tokens)) as client:
        reads, steers = ({"Authorization": f"Bearer {token}"} for token in ("inspect-token-0000", "manage-token-00000"))
        assert client.get("/").status == 200
        for path in ("/v1/inspections", "/v1/calibration", "/v1/inspections/1/photo.jpg"):
            assert client.get(path).status == 401
        assert client.get("/v1/inspections", reads).status == 200
        assert client.post("/v1/recalibration", {}, reads).status == 403
        assert client.post("/v1/recalibration", {}, steers).status == 400


def test_a_verdict_reaches_the_page_s_stream_at_once(client: Client, good: Any) -> None:
    """From the feed to the first answer that has its picture; the browser's share is in page/test_live."""
    send(client, good)
    with client.station.feed.subscribe("test") as subscription:
        client.post("/v1/inspect", png(good))
        inspection = subscription.get(5)
        assert inspection is not None
        start = time.perf_counter()
        assert client.get(f"/v1/inspections/{inspection.id}/photo.jpg").status == 200
        assert time.perf_counter() - start < 2
    until(lambda: client.get("/v1/inspections?most=2").document["inspections"][0]["id"] == inspection.id)
