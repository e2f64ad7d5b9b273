"""HTTP as uvicorn speaks it, but for clients that keep it waiting."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

SECONDS = 10.0  # for the head of a request, from the connection or its first byte on
BYTES = 1 << 16  # of a head, at most
# For a body, of which nobody may read the rest, or anything: its request was refused. Who reads one tells the client
# that it takes too long, and does so before (`Limits.body_seconds`).
BODY_SECONDS = 30.0


class Http(HttpToolsProtocol):
    """Closes a connection whose request line and headers take too long, or too much, or whose body never ends."""

    _deadline: asyncio.TimerHandle | None = None
    _in_head = False
    _head = 0  # bytes of one that is not whole

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._await_nothing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """It has said something."""
        super().data_received(data)
        if self._in_head:
            self._head += len(data)
            if self._head > BYTES:
                self.transport.close()
        elif self._deadline is None and self.cycle is not None and self.cycle.response_complete:
            # Whatever comes ends the wait of uvicorn for another request, also what begins none, such as an empty line.
            self._await_head()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        """Its head is whole."""
        self._await_nothing()
        self._deadline = asyncio.get_running_loop().call_later(BODY_SECONDS, self._too_late)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Its body is whole."""
        self._await_nothing()
        super().on_message_complete()

    def _await_head(self) -> None:
        self._await_nothing()
        self._in_head = True
        self._deadline = asyncio.get_running_loop().call_later(SECONDS, self._too_late)

    def _await_nothing(self) -> None:
        self._in_head, self._head = False, 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self.transport.close()
