"""`rstpm-edge infer` as a service: what systemd hears, and what signals do."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mjpeg_server import MjpegServer
from notify_socket import NotifySocket
from workplace import finish, running

from rstpm_edge.cli.systemd import Service


def test_ready_alive_and_stopping(model: Path, tmp_path: Path) -> None:
    (tmp_path / "incoming").mkdir()
    arguments = ["infer", tmp_path / "incoming", "--watch", "--model", model]
    with (
        NotifySocket(tmp_path / "notify", watchdog_seconds=0.6) as systemd,
        running(*arguments, env=systemd.environment) as process,
    ):
        assert systemd.receive() == "READY=1"
        started = time.monotonic()
        assert [systemd.receive() for _ in range(5)] == ["WATCHDOG=1"] * 5  # also while no image comes
        assert 0.6 <= time.monotonic() - started < 30
        process.send_signal(signal.SIGTERM)
        while (message := systemd.receive()) == "WATCHDOG=1":
            pass
        assert message == "STOPPING=1"
        assert finish(process)[0] == 0


def test_the_watchdog_is_fed_while_a_stream_is_away(model: Path, tmp_path: Path) -> None:
    with (
        MjpegServer() as server,
        NotifySocket(tmp_path / "notify", watchdog_seconds=0.6) as systemd,
        running("infer", server.url, "--model", model, env=systemd.environment) as process,
    ):
        assert systemd.receive() == "READY=1"
        server.online = False
        assert [systemd.receive() for _ in range(8)] == ["WATCHDOG=1"] * 8  # in which it is soon away
        process.send_signal(signal.SIGTERM)
        assert finish(process)[0] == 0


def test_a_source_that_does_not_open_is_never_ready(model: Path, tmp_path: Path) -> None:
    with (
        NotifySocket(tmp_path / "notify") as systemd,
        running("infer", "camera:97", "--model", model, env=systemd.environment) as process,
    ):
        assert systemd.receive() == "STOPPING=1"
        assert finish(process)[0] == 3


def test_abstract_sockets_and_no_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"\0rstpm-edge-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        manager.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name[1:])
        monkeypatch.setenv("WATCHDOG_USEC", "not a number")
        service = Service()
        service.alive()  # nobody asked for it
        service.ready()
        assert manager.recv(100) == b"READY=1"
    service.ready()  # to a manager that has gone
    for address in ("", "relative"):
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        Service().ready()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_files_that_were_not_all_judged(model: Path, photos: Path, tmp_path: Path, number: int, code: int) -> None:
    arguments = ["infer", *[photos] * 5000, "--model", model]
    with open(tmp_path / "output", "w") as output, running(*arguments, stdout=output) as process:
        while not (tmp_path / "output").stat().st_size:
            time.sleep(0.01)
        process.send_signal(number)
        ended, _, errors = finish(process)
    assert (ended, errors) == (code, "")
    *lines, summary = (tmp_path / "output").read_text().splitlines()
    assert 0 < len(lines) < 15_000
    assert summary.startswith(f"{len(lines)} image")


SECOND_SIGNAL = """
import signal
from rstpm_edge.cli.signals import Interrupts

signal.signal(signal.SIGINT, signal.default_int_handler)
with Interrupts() as interrupts:
    signal.raise_signal(signal.SIGINT)
    assert interrupts.received == signal.SIGINT
    try:
        signal.raise_signal(signal.SIGINT)
        print("went on")
    except KeyboardInterrupt:
        print("ended")
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
"""


def test_the_second_signal_ends_at_once() -> None:
    """In a process of its own: an interrupt that comes a moment late would end the tests."""
    command = [sys.executable, "-c", SECOND_SIGNAL]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout == "ended\n"
