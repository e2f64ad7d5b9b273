"""HTTP as uvicorn speaks it, but for clients that never end the head of their request."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

SECONDS = 10.0  # for the head of a request, from the connection or its first byte on
BYTES = 1 << 16  # of a head, at most


class Http(HttpToolsProtocol):
    """Closes a connection whose request line and headers take too long, or too much."""

    _deadline: asyncio.TimerHandle | None = None
    _head = 0  # bytes of one that is not whole

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._have_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """It has said something."""
        super().data_received(data)
        if self._deadline is not None:
            self._head += len(data)
            if self._head > BYTES:
                self.transport.close()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        """Its head is whole."""
        self._have_head()
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._have_head()
        self._deadline = asyncio.get_running_loop().call_later(SECONDS, self._too_late)

    def _have_head(self) -> None:
        self._head = 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self.transport.close()
