"""Who is let in: hosts, origins, tokens and their scopes; and clients that are too many, too slow, or too long."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from page_station import page_station
from station_server import Client, serving
from waiting import until
from watcher import encoded

from rstpm_edge import Detector
from rstpm_edge.errors import UsageError
from rstpm_edge.station import protocol
from rstpm_edge.station.access import SESSIONS, Access, Token, allows, read_tokens
from rstpm_edge.station.settings import Limits

pytestmark = pytest.mark.extra

INSPECT, MANAGE = "inspect-0123456789", "manage-0123456789"


@pytest.fixture
def client(model: Path) -> Iterator[Client]:
    with serving(model, hosts=["Station4.plant"]) as client:
        yield client


@pytest.fixture
def guarded(model: Path, tmp_path: Path) -> Iterator[Client]:
    file = tmp_path / "tokens"
    file.write_text(f"# the line\ninspect {INSPECT}\n\nmanage {MANAGE}\n")
    with serving(model, access=Access(read_tokens(file, {}, "TOKENS"))) as client:
        yield client


def test_names_that_are_ours(client: Client) -> None:
    ours = (
        "localhost",
        "localhost:99",
        "127.0.0.1",
        "[::1]:8080",
        "10.1.2.3:8080",
        "station4.PLANT.",
        f"{socket.gethostname()}:1",
    )
    for host in ours:
        assert client.get("/v1/station", {"Host": host}).status == 200, host
    for host in (
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost.evil",
        "",
        "[::1].evil",
        "1.2.3",
    ):
        answer = client.get("/v1/station", {"Host": host})
        assert (answer.status, "--allowed-host" in answer.error) == (403, True), host


def test_a_page_of_another_origin_can_do_nothing(client: Client, good: NDArray[np.uint8]) -> None:
    own = f"http://{client.address}"
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": own.replace("http", "https")},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": own},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    ):
        answer = client.post("/v1/inspect", encoded(good), headers)
        assert (answer.status, answer.error) == (403, "A page of another origin may not use this station.")
    assert client.station.recent.last() == []
    assert client.get("/v1/events", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}).status == 403
    for headers in (
        {"Origin": own},
        {"Origin": own, "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ):
        assert client.post("/v1/inspect", encoded(good), headers).status == 200
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/v1/station", link).status == 200


def test_no_answer_lets_others_read_or_show_it(client: Client) -> None:
    for answer in (client.get("/v1/station", {"Origin": f"http://{client.address}"}), client.get("/nothing")):
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in answer.headers
    assert client.ask("OPTIONS", "/v1/inspect").status == 405
    for page in ("/docs", "/redoc"):
        assert client.get(page).status == 404


ROUTES = {
    "inspect": [("POST", "/v1/inspect"), ("GET", "/v1/station"), ("GET", "/metrics"), ("GET", "/v2/models/model")],
    "manage": [
        ("POST", "/v1/station/pause"),
        ("POST", "/v1/station/shift"),
        ("POST", "/v2/repository/models/model/load"),
    ],
}


def test_every_route_but_a_few_needs_a_token(guarded: Client) -> None:
    document = guarded.get("/openapi.json").document
    for path, methods in document["paths"].items():
        for method in methods:
            url = path.replace("{model}", "model").replace("{version}", "1")
            answer = guarded.ask(method.upper(), url)
            is_free = path.startswith(("/v2/health/", "/v1/session"))
            assert (answer.status == 401) != is_free or path == "/v1/session", (method, path, answer.status)


def test_scopes(guarded: Client) -> None:
    def status(token: str, method: str, path: str) -> int:
        return guarded.ask(method, path, b"", {"Authorization": f"Bearer {token}"}).status

    for method, path in ROUTES["inspect"]:
        assert {status(token, method, path) for token in (INSPECT, MANAGE)} & {401, 403} == set()
    for method, path in ROUTES["manage"]:
        assert status(INSPECT, method, path) == 403
        assert status(MANAGE, method, path) not in (401, 403)
    for wrong in ("", "inspect-012345678", INSPECT + " x", "é" * 20):
        assert status(wrong.encode().decode("latin-1"), "GET", "/v1/station") == 401
    basic = guarded.get("/v1/station", {"Authorization": f"Basic {INSPECT}"})
    assert (basic.status, basic.headers["www-authenticate"]) == (401, "Bearer")


def test_a_browser_logs_in(guarded: Client) -> None:
    wrong = guarded.post("/v1/session", {"token": "wrong-0123456789"})
    assert (wrong.status, "set-cookie" in wrong.headers) == (401, False)
    answer = guarded.post("/v1/session", {"token": INSPECT})
    cookie = answer.headers["set-cookie"]
    assert answer.document == {"scope": "inspect"}
    assert INSPECT not in cookie
    assert {"HttpOnly", "Path=/", "SameSite=strict"} <= set(cookie.split("; "))
    sent = {"Cookie": cookie.split(";")[0]}
    assert guarded.get("/v1/station", sent).status == 200
    assert guarded.post("/v1/station/shift", b"", sent).status == 403
    assert guarded.get("/v1/session", sent).document == {"scope": "inspect", "tokens": True}
    assert guarded.ask("DELETE", "/v1/session", None, sent).status == 200
    assert guarded.get("/v1/station", sent).status == 401
    assert guarded.said == []


def test_stations_of_one_host_do_not_log_each_other_out(guarded: Client) -> None:
    """A browser has one jar for all ports of a host, and sends all of it to each of them."""
    jar: dict[str, str] = {}

    def scope(host: str) -> object:
        sent = {"Host": host, "Cookie": "; ".join(f"{name}={value}" for name, value in jar.items())}
        return guarded.get("/v1/session", sent).document["scope"]

    hosts = ("localhost:8080", "localhost:8081", "localhost", "[::1]", "[::1]:8082")
    for host in hosts:
        answer = guarded.post("/v1/session", {"token": INSPECT}, {"Host": host})
        name, _, value = answer.headers["set-cookie"].split(";")[0].partition("=")
        jar[name] = value
    assert len(jar) == 4  # the two without a port are of the same one
    assert {scope(host) for host in hosts} == {"inspect"}
    assert scope("localhost:8083") is None
    name = "rstpm_edge_session_8081"
    out = guarded.ask("DELETE", "/v1/session", None, {"Host": "localhost:8081", "Cookie": f"{name}={jar[name]}"})
    assert out.headers["set-cookie"].startswith(f"{name}=")
    assert (scope("localhost:8080"), scope("localhost:8081")) == ("inspect", None)


def test_no_message_has_a_token(guarded: Client) -> None:
    for body in ({"token": [MANAGE]}, {"token": MANAGE, "more": 1}, {"token": MANAGE * 100}):
        answer = guarded.post("/v1/session", body)
        assert answer.status == 400
        assert MANAGE not in answer.error


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("inspect", "Line 1 of FILE must be `inspect TOKEN` or `manage TOKEN`."),
        ("inspect 0123456789abcdef\nadmin 0123456789abcdef", "Line 2 of FILE must be"),
        ("inspect 0123456789abcdef more", "Line 1 of FILE must be"),
        ("inspect 0123456789abcdé", "Line 1 of FILE must be"),
        ("inspect 0123456789abcde", "The token in line 1 of FILE is short enough to be guessed"),
        ("# none", "There are no tokens in FILE"),
        ("", "There are no tokens in FILE"),
    ],
)
def test_tokens_that_cannot_be(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "tokens"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_tokens(file, {}, "TOKENS")
    assert words.replace("FILE", str(file)) in str(caught.value)
    assert "0123456789" not in str(caught.value)


def test_tokens_of_a_variable(tmp_path: Path) -> None:
    assert read_tokens(None, {}, "TOKENS") == []
    (token,) = read_tokens(None, {"TOKENS": f"manage {MANAGE}"}, "TOKENS")
    assert Access([token]).token_of(MANAGE) == token
    assert MANAGE not in repr(token)
    with pytest.raises(UsageError, match="Line 1 of the variable TOKENS"):
        read_tokens(None, {"TOKENS": "x"}, "TOKENS")
    for missing in (tmp_path / "missing", tmp_path):
        with pytest.raises(UsageError, match="Cannot read the tokens in"):
            read_tokens(missing, {}, "TOKENS")


def test_scopes_and_sessions() -> None:
    assert allows("manage", "inspect")
    assert not allows("inspect", "manage")
    assert not allows(None, "inspect")
    access = Access([Token(read_tokens(None, {"T": f"inspect {INSPECT}"}, "T")[0].digest, "inspect")])
    first = access.log_in(INSPECT)
    assert first is not None
    for _ in range(SESSIONS):
        access.log_in(INSPECT)
    assert access.scope_of_session(first) is None  # the oldest one was logged out


class Held:
    """A detector that judges when it is let; the rest is that of a real one."""

    def __init__(self, path: Path) -> None:
        self.detector = Detector(path, threads=1)
        self.let, self.begun = threading.Event(), threading.Semaphore(0)

    def __call__(self, image: Any) -> Any:
        self.begun.release()
        assert self.let.wait(30)
        return self.detector(image)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.detector, name)


def in_threads(number: int, work: Callable[[], Any]) -> tuple[list[Any], list[threading.Thread]]:
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(work())) for _ in range(number)]
    for thread in threads:
        thread.start()
    return found, threads


def test_what_is_too_much_is_told_at_once_and_what_was_let_in_is_answered(model: Path, good: NDArray[np.uint8]) -> None:
    held = Held(model)
    limits = Limits(workers=1, waiting=2)
    with serving(model, limits=limits, open_detector=lambda path: held) as client:  # type: ignore[arg-type,return-value]
        image = encoded(good)
        answers, threads = in_threads(3, lambda: client.post("/v1/inspect", image))
        until(lambda: client.station.gate.inside == 3)
        for path, body in (("/v1/inspect", image), ("/v2/models/model/infer", b"{}"), ("/v1/inspect/batch", image)):
            refused = client.post(path, body)
            assert refused.status == 503
            assert refused.error == "The station is busy: try again in a moment."
            assert refused.headers["retry-after"] == "1"
        assert client.get("/v2/health/live").status == 200
        assert client.get("/v1/station").document["requests"] == {"inside": 3, "room": 3, "refused": 3}
        held.let.set()
        for thread in threads:
            thread.join(30)
        assert [answer.status for answer in answers] == [200] * 3
        assert client.post("/v1/inspect", image).status == 200


def test_a_client_that_sends_slowly_is_told_and_holds_up_nobody(model: Path, good: NDArray[np.uint8]) -> None:
    with serving(model, limits=Limits(workers=1, waiting=1, body_seconds=0.5)) as client:
        with socket.create_connection(("127.0.0.1", client.port), timeout=30) as slow:
            slow.sendall(b"POST /v1/inspect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc")
            until(lambda: client.station.gate.inside == 1)
            assert client.post("/v1/inspect", encoded(good)).status == 200
            response = http.client.HTTPResponse(slow)
            response.begin()
            assert response.status == 408
            assert json.loads(response.read()) == {"error": "The request did not arrive within 0.5 seconds."}
            assert slow.recv(10) == b""
        until(lambda: client.station.gate.inside == 0)


def posted(path: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, "\r\n"]).encode() + body


def answer_to(connection: socket.socket) -> tuple[int, str, bool]:
    """Status and error of what it answers, and whether it ends the connection."""
    with http.client.HTTPResponse(connection) as response:
        response.begin()
        (said,) = json.loads(response.read()).values()
        return response.status, said, response.getheader("connection") == "close"


CHUNKED = "Transfer-Encoding: chunked"
TAKES_JSON = ("/v1/session", "/v1/station/product", "/v1/inspections/1/notes", "/v1/recalibration")


@pytest.mark.parametrize("path", TAKES_JSON)
def test_no_route_takes_much_or_waits_for_long(model: Path, tmp_path: Path, path: str) -> None:
    """Not even of those who have a token."""
    access, token = Access(read_tokens(None, {"T": f"manage {MANAGE}"}, "T")), f"Authorization: Bearer {MANAGE}"
    limits = Limits(body_seconds=1)
    too_long = (413, "The request has more than 65,536 bytes.", True)
    too_late = (408, "The request did not arrive within 1 seconds.", True)
    with page_station(model, tmp_path / "kept", access=access, limits=limits) as client:
        chunk = b"%x\r\n%s\r\n" % (1 << 15, b"1" * (1 << 15))
        for sent, expected in (
            (posted(path, token, "Content-Length: 300000000"), too_long),
            (posted(path, token, "Content-Length: " + "9" * 18), too_long),
            (posted(path, token, CHUNKED, body=chunk * 3), too_long),
            (
                posted(path, token, "Content-Length: 50", body=b"{"),
                too_late,
            ),
            (posted(path, token, CHUNKED, body=chunk), too_late),
        ):
            with socket.create_connection(("127.0.0.1", client.port), timeout=30) as connection:
                connection.sendall(sent)
                assert answer_to(connection) == expected
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {MANAGE}"}
        assert client.post(path, b" " * 65_536, headers).status == 400  # no JSON
        assert client.said == []


def test_who_has_no_token_is_told_before_a_body_is_read(model: Path, tmp_path: Path) -> None:
    access = Access(read_tokens(None, {"T": f"inspect {INSPECT}\nmanage {MANAGE}"}, "T"))
    with page_station(model, tmp_path / "kept", access=access, limits=Limits(body_seconds=20)) as client:
        paths = client.get("/openapi.json", {"Authorization": f"Bearer {INSPECT}"}).document["paths"]
        taking = {path for path, methods in paths.items() if "requestBody" in methods.get("post", {})}
        assert taking > {"/v1/station/product", "/v1/inspections/{part}/notes", "/v1/recalibration", "/v1/inspect"}
        for path in taking - {"/v1/session"}:  # whose body is the token
            url = path.replace("{part}", "1").replace("{model}", "model").replace("{version}", "1")
            for header, status in ((f"X: {INSPECT}", 401), (f"Authorization: Bearer {INSPECT}", 403)):
                if status == 403 and path not in ("/v1/station/product", "/v1/recalibration"):
                    continue
                start = time.monotonic()
                with socket.create_connection(("127.0.0.1", client.port), timeout=30) as connection:
                    connection.sendall(posted(url, header, "Content-Length: 50000", body=b"{"))
                    assert answer_to(connection)[0] == status, path
                assert time.monotonic() - start < 15
                assert client.post(url, b"no JSON", {header.split(":")[0]: header.split(": ")[1]}).status == status


def test_a_body_that_nobody_reads_must_end(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what comes behind a request must be another one: otherwise, connections would be held for nothing."""
    monkeypatch.setattr(protocol, "BODY_SECONDS", 3.0)
    monkeypatch.setattr(protocol, "SECONDS", 3.0)
    access = Access(read_tokens(None, {"T": f"inspect {INSPECT}"}, "T"))
    unfinished = posted("/v1/inspect", "Content-Length: 1000", body=b"abc")
    whole = posted("/v1/inspect", "Content-Length: 3", body=b"abc")
    with serving(model, access=access) as client, contextlib.ExitStack() as stack:
        connections = []
        for sent, more in ((unfinished, b""), (unfinished, b"d"), (whole, b"\r\n")):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", client.port), timeout=30))
            connection.sendall(sent)
            assert answer_to(connection)[0] == 401
            connection.sendall(more)  # which ends the wait of uvicorn for another request
            connections.append(connection)
        assert [connection.recv(10) for connection in connections] == [b""] * 3
        again = stack.enter_context(socket.create_connection(("127.0.0.1", client.port), timeout=30))
        for _ in range(3):
            again.sendall(whole)
            assert answer_to(again)[0] == 401


def test_a_client_that_goes_away_leaves_its_place(model: Path, good: NDArray[np.uint8]) -> None:
    with serving(model, limits=Limits(workers=1, waiting=0)) as client:
        with socket.create_connection(("127.0.0.1", client.port), timeout=30) as gone:
            gone.sendall(b"POST /v1/inspect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc")
            until(lambda: client.station.gate.inside == 1)
        until(lambda: client.station.gate.inside == 0)
        assert client.post("/v1/inspect", encoded(good)).status == 200
        assert client.said == []


def test_a_head_that_never_ends(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "SECONDS", 0.3)
    with serving(model) as client:
        for begun in (b"", b"GET / HTTP/1.1\r\n"):
            with socket.create_connection(("127.0.0.1", client.port), timeout=30) as slow:
                slow.sendall(begun)
                assert slow.recv(10) == b""
        monkeypatch.setattr(protocol, "SECONDS", 30.0)
        with socket.create_connection(("127.0.0.1", client.port), timeout=30) as endless:
            endless.sendall(b"GET / HTTP/1.1\r\n")
            line = b"A: " + b"x" * 997 + b"\r\n"
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                endless.sendall(line * 100_000)
        assert client.get("/v2/health/live").status == 200


def test_a_fault_of_ours_is_one_sentence(model: Path, good: NDArray[np.uint8]) -> None:
    class Faulty(Held):
        def __call__(self, image: Any) -> Any:
            raise ZeroDivisionError("of the test")

    with serving(model, open_detector=Faulty) as client:  # type: ignore[arg-type]
        answer = client.post("/v1/inspect", encoded(good))
        assert answer.status == 500
        assert "Something went wrong that should not (ZeroDivisionError: of the test)" in answer.error
        assert client.said == [answer.error]
        assert client.get("/v2/health/live").status == 200
