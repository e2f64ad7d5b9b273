"""What a service tells systemd (sd_notify(3)): that it is ready, alive, loading a new model, stopping."""

import contextlib
import os
import socket
import time


class Service:
    """Does nothing unless systemd set NOTIFY_SOCKET, and WATCHDOG_USEC for `alive`."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        # A third of what systemd waits, so that one late call does no harm.
        usec = os.environ.get("WATCHDOG_USEC", "")
        self._interval = int(usec) / 3e6 if usec.isdecimal() and int(usec) else None
        self._last = float("-inf")

    def ready(self) -> None:
        """Say that the service is up."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Say that it was told to take a new model; `ready` says that this is done."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def alive(self) -> None:
        """Feed the watchdog, when it is time; call it often."""
        now = time.monotonic()
        if self._interval is not None and self._interval <= now - self._last:
            self._last = now
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the service is on its way down."""
        self._send("STOPPING=1")

    def _send(self, state: str) -> None:
        if self._address[:1] not in ("/", "@"):
            return
        # "@" stands for the null byte of an abstract address. A manager that has gone is no reason to stop.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.connect(address)
            connection.send(state.encode())
