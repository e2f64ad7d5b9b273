"""GET /v1/events: verdicts as they come, and those that were missed."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from station_server import Client, serving
from waiting import until
from watcher import encoded

from rstpm_edge.station.event import Inspection
from rstpm_edge.station.routes import events
from rstpm_edge.station.settings import Limits

pytestmark = pytest.mark.extra


@pytest.fixture
def client(model: Path) -> Iterator[Client]:
    with serving(model, limits=Limits(readers=2)) as client:
        yield client


@contextlib.contextmanager
def reading(client: Client, path: str = "/v1/events", **headers: str) -> Iterator[Iterator[tuple[str, str, Any]]]:
    """Events as (id, kind, data); the reader is there when the block begins."""
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=30)
    before = client.station.feed.subscribers
    connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    assert response.status == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    until(lambda: client.station.feed.subscribers == before + 1)

    def parsed() -> Iterator[tuple[str, str, Any]]:
        found: dict[str, str] = {}
        for line in iter(response.readline, b""):
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "" and "data" in found:
                yield found.get("id", ""), found["event"], json.loads(found["data"])
                found = {}
            elif name:
                found[name] = value

    try:
        yield parsed()
    finally:
        response.close()
        connection.close()
        until(lambda: client.station.feed.subscribers == before)


def test_verdicts_come_as_they_are(client: Client, good: NDArray[np.uint8], bad: NDArray[np.uint8]) -> None:
    with reading(client) as stream:
        client.post("/v1/inspect?name=a", encoded(bad))
        client.post("/v1/inspect?name=b", encoded(good))
        found = [next(stream), next(stream)]
    assert [(kind, data["path"], data["verdict"]) for _, kind, data in found] == [
        ("verdict", "a", "anomalous"),
        ("verdict", "b", "normal"),
    ]
    assert [int(number) for number, _, _ in found] == [data["id"] for _, _, data in found]
    kept = client.station.recent.last()[::-1]
    assert [data for _, _, data in found] == [json.loads(json.dumps(one.document)) for one in kept]


def test_a_reader_that_comes_back_misses_nothing(client: Client, good: NDArray[np.uint8]) -> None:
    for name in "abc":
        client.post(f"/v1/inspect?name={name}", encoded(good))
    first = client.station.recent.last()[-1].id
    with reading(client, Last_Event_ID=str(first)) as stream:
        client.post("/v1/inspect?name=d", encoded(good))
        assert [next(stream)[2]["path"] for _ in range(3)] == ["b", "c", "d"]
    with reading(client, Last_Event_ID="nonsense") as stream:
        client.post("/v1/inspect?name=e", encoded(good))
        assert next(stream)[2]["path"] == "e"


def test_a_reader_from_before_the_clock_went_back_gets_all(client: Client, good: NDArray[np.uint8]) -> None:
    """A station without a history that starts anew may give lower ids than its readers know."""
    client.post("/v1/inspect?name=a", encoded(good))
    ahead = client.station.feed.newest + 40 * 60 * 1000
    with reading(client, Last_Event_ID=str(ahead)) as stream:
        client.post("/v1/inspect?name=b", encoded(good))
        assert [next(stream)[2]["path"] for _ in range(2)] == ["a", "b"]


def test_those_of_one_origin(client: Client, good: NDArray[np.uint8]) -> None:
    with reading(client, "/v1/events?origin=line") as stream:
        client.post("/v1/inspect", encoded(good))
        client.station.feed.publish(Inspection(0.0, "line", "model", "1", {"verdict": "invalid"}))
        assert next(stream)[2]["origin"] == "line"


def test_readers_are_not_too_many(client: Client) -> None:
    with reading(client), reading(client):
        answer = client.get("/v1/events")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    with reading(client):
        pass


def test_the_end_of_the_station_ends_the_stream(model: Path) -> None:
    with serving(model) as client:
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=30)
        connection.request("GET", "/v1/events")
        response = connection.getresponse()
        until(lambda: client.station.feed.subscribers == 1)
    assert response.read() == b"retry: 2000\n\n"
    connection.close()


def test_a_reader_is_told_what_it_was_too_slow_for(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "ROOM", 2)
    monkeypatch.setattr(events, "BEAT", 0.05)

    async def read() -> list[str]:
        stream = events.event_stream(client.station, None, None)
        found = [await anext(stream)]
        for number in range(5):
            client.station.feed.publish(Inspection(0.0, "line", "model", str(number), {"verdict": "invalid"}))
        found += [await anext(stream) for _ in range(4)]
        await stream.aclose()  # type: ignore[attr-defined]
        return found

    begin, first, second, dropped, alive = asyncio.run(read())
    assert begin == "retry: 2000\n\n"
    assert ['"version": "3"' in first, '"version": "4"' in second] == [True, True]
    assert dropped == 'event: dropped\ndata: {"verdicts": 3}\n\n'
    assert alive == ": alive\n\n"
    assert client.station.feed.dropped["events"] == 3
