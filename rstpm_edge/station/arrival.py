"""The body of a request on its way in: of any route, no more than it takes, and within a time."""

import asyncio
from typing import Any

from fastapi import Request
from starlette.exceptions import HTTPException

from rstpm_edge.station.settings import Limits

CLOSE = {"Connection": "close"}  # nobody reads the rest
_KEY = "rstpm_edge.arrival"  # in the scope of ASGI


class Arrival:
    """What ASGI calls `receive`, of one request, with limits.

    Where those are passed it raises HTTPException, 413 or 408: the only one that FastAPI lets through where it reads a
    body by itself. Whoever takes more than `Limits.json_body` says so first:
    `allow`. What a client sends once it is answered is only thrown away: `answered`.
    """

    def __init__(self, scope: Any, receive: Any, limits: Limits) -> None:
        self.answered = scope["method"] in ("GET", "HEAD")  # as if: nobody reads a body of theirs
        self._receive = receive
        self._most, self._seconds = limits.json_body, limits.body_seconds
        self._deadline = asyncio.get_running_loop().time() + limits.body_seconds
        self._come, self._is_whole = 0, False
        length = dict(scope["headers"]).get(b"content-length", b"").decode("latin-1")
        self._said = int(length) if length.isdecimal() and len(length) < 20 else 0
        scope[_KEY] = self

    def allow(self, most: int) -> None:
        """Take up to so many bytes."""
        self._most = most

    async def __call__(self) -> Any:
        """The next message of ASGI."""
        if self._is_whole or self.answered:
            return await self._receive()
        self._refuse_beyond(self._said)
        try:
            rest = self._deadline - asyncio.get_running_loop().time()
            message = await asyncio.wait_for(self._receive(), rest)
        except asyncio.TimeoutError:
            said = f"The request did not arrive within {self._seconds:g} seconds."
            raise HTTPException(408, said, CLOSE) from None
        self._come += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        self._refuse_beyond(self._come)
        return message

    def _refuse_beyond(self, size: int) -> None:
        if size > self._most:
            raise HTTPException(413, f"The request has more than {self._most:,} bytes.", CLOSE)


def allow_body(request: Request, most: int) -> None:
    """Let this request bring so many bytes."""
    arrival: Arrival = request.scope[_KEY]
    arrival.allow(most)
