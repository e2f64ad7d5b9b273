"""Running the server in this process, until it is told to stop."""

import contextlib
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from rstpm_edge.errors import UsageError
from rstpm_edge.station.protocol import Http
from rstpm_edge.station.station import Station

GRACE = 10  # seconds for answers that are under way when the server stops
CONNECTIONS = 500  # at once; those beyond get 503
# Seconds after which a thread that wants Python's lock gets it. By default it is 5 ms, a third of a verdict: what
# judges and what answers would wait for each other (docs/performance.md).
SWITCH = 0.0005


@dataclass(frozen=True)
class Tls:
    """A certificate with its chain, and its key: PEM files."""

    certificate: Path
    key: Path


def listen(host: str, port: int) -> socket.socket:
    """A socket on which a server may listen; port 0 is a free one. Raises UsageError where it cannot be had."""
    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise UsageError(f"There is no address {host}: {getattr(error, 'strerror', None) or error}.") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise UsageError(
            f"Cannot listen on {host} port {port}: {error.strerror}. Stop what has it, or take another one with `port`."
        ) from error
    return listener


def run_server(
    station: Station,
    app: Any,
    listener: socket.socket,
    *,
    tls: Tls | None = None,
    ready: Callable[[], None] = lambda: None,
    tick: Callable[[], bool],
) -> None:
    """Answer requests until `tick`, which is called ten times a second, says True; what it raises ends the server, too.

    `ready` is called once it answers. Requests under way are answered; whoever reads verdicts is told that none will
    come. Raises UsageError for a certificate or key that cannot be used.
    """
    config = uvicorn.Config(
        app,
        http=Http,
        log_config=None,
        log_level="critical",  # what goes wrong is answered, and told once
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=GRACE,
        ssl_certfile=None if tls is None else tls.certificate,
        ssl_keyfile=None if tls is None else tls.key,
    )
    try:
        config.load()
    except (ssl.SSLError, OSError) as error:
        assert tls is not None
        raise UsageError(
            f"The certificate {tls.certificate} cannot be used with the key {tls.key}: {error.strerror or error}."
        ) from error
    server = _Server(config, station, ready, tick)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH)
    try:
        server.run([listener])
    finally:
        sys.setswitchinterval(interval)
    if server.error is not None:
        raise server.error


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, station: Station, ready: Callable[[], None], tick: Callable[[], bool]
    ) -> None:
        super().__init__(config)
        self.error: BaseException | None = None
        self._station, self._ready, self._tick = station, ready, tick

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the command's matter."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn once it answers, and then ten times a second."""
        if counter == 0:
            self._ready()
        try:
            stop = self._tick()
        except BaseException as error:
            self.error, stop = error, True
        if stop:
            self.should_exit = True
            self._station.feed.end_readers()  # who of verdicts would never end
        return await super().on_tick(counter)
