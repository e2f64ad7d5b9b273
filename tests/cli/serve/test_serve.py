"""`rstpm-edge serve`: the command, its process, and what it refuses."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import sys
import urllib.request
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bundles import ModelFactory
from mjpeg_server import MjpegServer
from mqtt_broker import Broker
from notify_socket import NotifySocket
from numpy.typing import NDArray
from serve_process import ask, served
from waiting import until
from watcher import encoded
from workplace import command_line, finish, running

pytestmark = pytest.mark.extra

TOKEN = "manage-0123456789"


def test_a_watched_folder_and_requests(
    model: Path, tmp_path: Path, good: NDArray[np.uint8], bad: NDArray[np.uint8]
) -> None:
    folder = tmp_path / "incoming"
    folder.mkdir()
    with served(folder, "--watch", "--drift", "1%", "--model", model) as (process, address):
        assert ask(f"{address}/v1/inspect?name=sent", encoded(good))["verdict"] == "normal"
        cv2.imwrite(str(tmp_path / "part.png"), bad)
        (tmp_path / "part.png").rename(folder / "part.png")
        until(lambda: ask(f"{address}/v1/station")["lines"][0]["images"] == 1)
        state = ask(f"{address}/v1/station")
        assert state["shift"]["counts"] == {"normal": 1, "anomalous": 1, "invalid": 0, "failed": 0}
        line = state["lines"][0]
        assert (line["source"], line["condition"], line["product"]) == (str(folder), "running", "model")
        assert line["drift"] == {"drift": "stable", "images": 1, "alarm_at": None}
        assert ask(f"{address}/v1/station/pause", b"")["condition"] == "paused"
        assert ask(f"{address}/v1/station/resume", b"")["condition"] == "running"
        process.send_signal(signal.SIGTERM)
        code, output, errors = finish(process)
        assert (code, output, errors) == (0, "", "")


def test_a_camera_that_is_away_is_waited_for(model: Path) -> None:
    with MjpegServer() as server:
        server.online = False
        with served(server.url, "--model", model) as (process, address):
            until(lambda: ask(f"{address}/v1/station")["lines"][0]["condition"] == "no source")
            assert ask(f"{address}/v1/station")["lines"][0]["problem"].startswith("Cannot open")
            with pytest.raises(urllib.error.HTTPError, match="503"):
                ask(f"{address}/v2/health/ready")
            server.online = True
            until(lambda: ask(f"{address}/v1/station")["lines"][0]["images"] > 2)
            assert ask(f"{address}/v2/health/ready") == {"ready": True}
            process.send_signal(signal.SIGINT)
            assert finish(process)[0] == 0


def test_products_and_their_selection(tmp_path: Path, model_factory: ModelFactory, good: NDArray[np.uint8]) -> None:
    folder, incoming = tmp_path / "models", tmp_path / "incoming"
    incoming.mkdir()
    (folder / "bolt").mkdir(parents=True)
    for name in ("nut.onnx", "bolt/1.onnx", "bolt/2.onnx"):
        model_factory(f"models/{name}")
    with served(incoming, "--watch", "--models", folder, "--product", "nut", "--max-memory", 100) as (process, address):
        assert ask(f"{address}/v1/station")["lines"][0]["product"] == "nut"
        selected = ask_json(f"{address}/v1/station/product", {"product": "bolt"})
        assert (selected["product"], selected["version"]) == ("bolt", "2")
        selected = ask_json(f"{address}/v1/station/product", {"product": "bolt", "version": "1"})
        assert selected["version"] == "1"
        assert ask(f"{address}/v1/inspect?product=nut", encoded(good))["verdict"] == "normal"
        loaded = [one for one in ask(f"{address}/v1/station")["products"] if one["loaded"]]
        assert len(loaded) == 3
        process.send_signal(signal.SIGTERM)
        assert finish(process)[0] == 0


def test_a_journal_and_what_follows_a_verdict(
    model: Path, tmp_path: Path, good: NDArray[np.uint8], bad: NDArray[np.uint8]
) -> None:
    folder = tmp_path / "incoming"
    folder.mkdir()
    cv2.imwrite(str(folder / "before.png"), good)  # while nothing ran
    journal, table = tmp_path / "station.journal", tmp_path / "verdicts.csv"
    with Broker() as broker:
        arguments: list[object] = [folder, "--watch", "--model", model, "--journal", journal, "--csv", table]
        arguments += ["--on-anomaly", f"cp {{path}} {tmp_path}/rejected.png", "--drift", "1%"]
        arguments += ["--mqtt", f"mqtt://127.0.0.1:{broker.port}/station4"]
        with served(*arguments) as (process, address):
            until(lambda: ask(f"{address}/v1/station")["lines"][0]["images"] == 1)
            cv2.imwrite(str(tmp_path / "part.png"), bad)
            (tmp_path / "part.png").rename(folder / "part.png")
            until((tmp_path / "rejected.png").exists)
            until(lambda: ask(f"{address}/v1/station")["lines"][0]["images"] == 2)
            ask(f"{address}/v1/inspect", encoded(bad))  # a request is no part of the line
            process.send_signal(signal.SIGTERM)
            assert finish(process)[0] == 0
        with served(*arguments) as (process, address):  # all of them were judged
            cv2.imwrite(str(tmp_path / "part.png"), good)
            (tmp_path / "part.png").rename(folder / "third.png")
            until(lambda: ask(f"{address}/v1/station")["lines"][0]["images"] == 1)
            process.send_signal(signal.SIGTERM)
            assert finish(process)[0] == 0
        told = [json.loads(payload) for payload in broker.payloads("station4/verdict")]
        names = [Path(fields["path"]).name for fields in told]
        assert names == ["before.png", "part.png", "third.png"]
        assert [fields["drift"] for fields in told] == ["stable"] * 3
        assert [json.loads(one)["images"] for one in broker.payloads("station4/drift")] == [0, 0]
        assert broker.payloads("station4/status") == ["online", "offline"] * 2
    kept = command_line("journal", journal, "--json")
    assert [json.loads(line)["verdict"] for line in kept.stdout.splitlines()] == ["normal", "anomalous", "normal"]
    assert len(table.read_text().splitlines()) == 4


def test_one_command_is_finished_when_the_end_comes(model: Path, tmp_path: Path, bad: NDArray[np.uint8]) -> None:
    """A service manager kills who takes long to end: what waits for the command is told, not run."""
    folder = tmp_path / "incoming"
    folder.mkdir()
    os.mkfifo(tmp_path / "gate")
    names = ("1.png", "2.png", "3.png")
    for name in names:
        cv2.imwrite(str(folder / name), bad)
    command = f"sh -c 'cat {tmp_path}/gate > {tmp_path}/ended'"
    # With a journal, photos that are there at the start are judged.
    arguments = [folder, "--watch", "--journal", tmp_path / "journal", "--model", model]
    arguments += ["--on-anomaly", command, "--on-anomaly-timeout", 120]
    with served(*arguments) as (process, address):
        until(lambda: ask(f"{address}/v1/station")["lines"][0]["images"] == 3)
        process.send_signal(signal.SIGTERM)
        told = [process.stderr.readline() for _ in range(2)]  # while the first one runs
        (tmp_path / "gate").write_text("on")
        code, _, errors = finish(process)
    because = "the program is being stopped, and another command runs"
    assert told == [f"The command was not run for {folder / name}: {because}.\n" for name in names[1:]]
    assert (code, errors, (tmp_path / "ended").read_text()) == (0, "2 commands not run.\n", "on")


def ask_json(url: str, document: object) -> Any:
    request = urllib.request.Request(url, json.dumps(document).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def test_tls_and_tokens(model: Path, tmp_path: Path, good: NDArray[np.uint8]) -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "tokens").write_text(f"manage {TOKEN}\n")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    arguments = ["--tls-certificate", tmp_path / "cert.pem", "--tls-key", tmp_path / "key.pem"]
    arguments += ["--tokens", tmp_path / "tokens", "--host", "0.0.0.0", "--model", model]
    with served(*arguments) as (process, address):
        assert address.startswith("https://0.0.0.0:")
        address = address.replace("0.0.0.0", "127.0.0.1")
        assert ask(f"{address}/v1/inspect", encoded(good), TOKEN, context)["verdict"] == "normal"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            ask(f"{address}/v1/inspect", encoded(good), "wrong-0123456789", context)
        process.send_signal(signal.SIGTERM)
        code, output, errors = finish(process)
        assert (code, output) == (0, "")
        assert TOKEN not in errors


def test_systemd_hears_of_it(model: Path, tmp_path: Path) -> None:
    with (
        NotifySocket(tmp_path / "notify", watchdog_seconds=0.6) as systemd,
        running("serve", "--port", 0, "--model", model, env=systemd.environment) as process,
    ):
        assert systemd.receive() == "READY=1"
        assert [systemd.receive() for _ in range(3)] == ["WATCHDOG=1"] * 3
        process.send_signal(signal.SIGTERM)
        while (message := systemd.receive()) == "WATCHDOG=1":
            pass
        assert message == "STOPPING=1"
        assert finish(process)[0] == 0


def test_what_is_asked_when_the_end_comes_is_answered(model: Path, good: NDArray[np.uint8]) -> None:
    with (
        served("--model", model) as (process, address),
        socket.create_connection(("127.0.0.1", int(address.rsplit(":", 1)[1])), timeout=30) as connection,
    ):
        image = encoded(good)
        head = f"POST /v1/inspect HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(image)}\r\n\r\n"
        connection.sendall(head.encode() + image[:-1])
        until(lambda: ask(f"{address}/v1/station")["requests"]["inside"] == 1)
        process.send_signal(signal.SIGTERM)
        connection.sendall(image[-1:])
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        assert finish(process)[0] == 0


@pytest.mark.parametrize(("megabytes", "kept"), [(0, 1), (1, 2)])
def test_so_many_photos_stay_in_memory(model: Path, good: NDArray[np.uint8], megabytes: int, kept: int) -> None:
    with served("--model", model, "--keep-photos", megabytes) as (process, address):
        for _ in range(2):
            ask(f"{address}/v1/inspect", encoded(good))
        there = 0
        for part in ask(f"{address}/v1/inspections")["inspections"]:
            with contextlib.suppress(urllib.error.HTTPError):
                urllib.request.urlopen(f"{address}/v1/inspections/{part['id']}/photo.jpg", timeout=30).close()
                there += 1
        assert there == kept
        process.send_signal(signal.SIGTERM)
        assert finish(process)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "Whoever reaches 0.0.0.0 could steer this station: give tokens by --tokens FILE"),
        (["--host", "nowhere.invalid"], "Whoever reaches nowhere.invalid could steer this station"),
        (["--tls-key", "key.pem"], "--tls-certificate and --tls-key go together."),
        (["--tokens", "missing"], "Cannot read the tokens in missing: No such file or directory."),
        (["--watch"], "--watch is for a SOURCE whose images are judged."),
        (["--product", "nut"], "--product is for a SOURCE whose images are judged."),
        (["incoming", "--watch", "--drift-state", "x"], "--drift-state goes with --drift RATE only."),
        (["--journal", "x"], "--journal is for a SOURCE whose images are judged."),
        (["--journal-days", "3"], "--journal-days goes with --journal FILE only."),
        (["incoming", "--mqtt-ca", "x"], "--mqtt-password-file and --mqtt-ca go with --mqtt URL only."),
        (["camera:0", "--journal", "x"], "--journal goes with --watch only"),
        (["--models", "missing"], "There is no folder missing with models."),
        (["--model", "missing.onnx"], "missing.onnx"),
        (["camera:0", "camera:1"], "A camera or stream must be the only source"),
        (["incoming", "--watch", "--models", ".", "--product", "nut"], "There is no product nut: there are model."),
        (["incoming", "--watch", "--roi", "0,0,9,9", "--drift", "1%"], "--drift compares with held-out photos"),
    ],
)
def test_wrong_use_is_one_sentence(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "incoming").mkdir()
    result = command_line("serve", "--port", 0, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert words in result.stderr


@pytest.mark.parametrize("option", ["--csv", "--journal", "--history", "--audit-log"])
def test_what_cannot_be_written_at_the_start_is_no_wrong_use(model: Path, tmp_path: Path, option: str) -> None:
    """A service manager tries again: a full disk may have room in a minute."""
    (tmp_path / "incoming").mkdir()
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "below"  # where nobody can write
    result = command_line("serve", tmp_path / "incoming", "--watch", "--model", model, "--port", 0, option, place)
    assert (result.exit_code, result.stdout) == (5, "")
    assert len(result.stderr.splitlines()) == 1
    assert str(tmp_path / "file") in result.stderr


def test_a_port_that_another_program_has(model: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = command_line("serve", "--model", model, "--port", port)
        assert result.exit_code == 2
        assert result.stderr == (
            f"Error: Cannot listen on 127.0.0.1 port {port}: Address already in use. Stop what has it, or take another "
            "one with --port.\n"
        )


def test_a_certificate_that_is_none(model: Path, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("no key")
    for certificate in ("key.pem", "missing.pem"):
        result = command_line(
            "serve", "--model", model, "--port", 0,
            "--tls-certificate", tmp_path / certificate, "--tls-key", tmp_path / "key.pem",
        )  # fmt: skip
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) == 1
        assert f"The certificate {tmp_path / certificate} cannot be used with the key" in result.stderr


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn", "prometheus_client", "python_multipart", "httptools"])
def test_a_package_that_is_missing(model: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    for name in [name for name in sys.modules if name.startswith(("rstpm_edge.station", "rstpm_edge.cli.serve."))]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.startswith(f"{missing}.") or "httptools_impl" in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    result = command_line("serve", "--model", model, "--port", 0)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(f"Error: `rstpm-edge serve` needs the packages of its extra ({missing}")
    assert "pip install '.[serve]'" in result.stderr
