"""A station that answers on a free port of this machine, in a thread of the tests."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import APIRouter

from rstpm_edge import Detector
from rstpm_edge.station.access import Access
from rstpm_edge.station.app import make_app
from rstpm_edge.station.feed import Feed
from rstpm_edge.station.line import Line
from rstpm_edge.station.products import Products
from rstpm_edge.station.serve import listen, run_server
from rstpm_edge.station.settings import Limits
from rstpm_edge.station.shelf import FolderShelf
from rstpm_edge.station.station import Station, make_station


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The only thing that a refusal says."""
        (said,) = self.document.values()
        assert list(self.document) == ["error"]
        return str(said)


@dataclass
class Client:
    """Asks a station; `said` is what it reported, `recorded` what its audit log would hold."""

    port: int
    station: Station
    said: list[str] = field(default_factory=list)
    recorded: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.ask("GET", path, None, headers)

    def post(self, path: str, body: object = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """The body is bytes, or a value that is sent as JSON."""
        if isinstance(body, bytes):
            return self.ask("POST", path, body, headers)
        return self.ask(
            "POST", path, json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})}
        )


@contextlib.contextmanager
def serving(
    models: Path,
    *,
    limits: Limits | None = None,
    access: Access | None = None,
    hosts: Sequence[str] = (),
    max_memory: int | None = None,
    lines: Callable[[Feed, Products], Sequence[Line]] = lambda feed, products: (),
    open_detector: Callable[[Path], Detector] = lambda path: Detector(path, threads=1),
    routers: Callable[[Station], Sequence[APIRouter]] = lambda station: (),
) -> Iterator[Client]:
    """A station of a model, or of a folder of models; it ends with the block."""
    said: list[str] = []
    recorded: list[tuple[str, Mapping[str, Any]]] = []

    def record(event: str, fields: Mapping[str, Any]) -> None:
        recorded.append((event, fields))

    shelf = FolderShelf(models) if models.is_dir() else FolderShelf(file=models)
    listener = listen("127.0.0.1", 0)
    stop, ready = threading.Event(), threading.Event()
    with (
        listener,
        Products(shelf, open_detector, max_memory=max_memory, report=said.append) as products,
        make_station(
            products,
            limits=limits,
            access=access,
            report=said.append,
            record=record,
            lines=lambda feed: lines(feed, products),
        ) as station,
    ):
        app = make_app(station, hosts=hosts, routers=routers(station))
        station.start()
        port = listener.getsockname()[1]
        thread = threading.Thread(
            target=run_server, args=(station, app, listener), kwargs={"tick": stop.is_set, "ready": ready.set}
        )
        thread.start()
        try:
            assert ready.wait(30)
            yield Client(port, station, said, recorded)
        finally:
            stop.set()
            thread.join(30)
            assert not thread.is_alive()


def form(*files: tuple[str, bytes]) -> tuple[bytes, dict[str, str]]:
    """The body and headers of a form with files."""
    parts = [
        b'--limit\r\nContent-Disposition: form-data; name="image"; filename="%s"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n%s\r\n" % (name.encode(), content)
        for name, content in files
    ]
    return b"".join(parts) + b"--limit--\r\n", {"Content-Type": "multipart/form-data; boundary=limit"}
