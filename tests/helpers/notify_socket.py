"""The socket on which systemd listens to a service."""

from __future__ import annotations

import os
import socket
from pathlib import Path


class NotifySocket:
    """Receives what a process says that is started with `environment`."""

    def __init__(self, path: Path, watchdog_seconds: float = 0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(60)
        self.environment = {**os.environ, "NOTIFY_SOCKET": str(path)}
        if watchdog_seconds:
            self.environment["WATCHDOG_USEC"] = str(round(watchdog_seconds * 1e6))

    def __enter__(self) -> NotifySocket:
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()

    def receive(self) -> str:
        """The next message; it must come within a minute."""
        return self._socket.recv(1000).decode()
