"""Which requests need which scope: a dependency of routes."""

import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from rstpm_edge.station.access import Access, Scope, Token, allows
from rstpm_edge.station.answers import Refusal

_PORT = re.compile(r":([0-9]+)\Z")


@dataclass(frozen=True, eq=False)
class Needs:
    """Called with a request, raises Refusal, 401 or 403, where that may not do what needs this scope."""

    access: Access
    scope: Scope

    async def __call__(self, request: Request) -> None:
        """Look at the token, or the cookie."""
        if self.access.is_open:
            return
        has = scope_of(self.access, request)
        if has is None:
            raise Refusal(
                401, "Send a token of this station: `Authorization: Bearer TOKEN`.", {"WWW-Authenticate": "Bearer"}
            )
        if not allows(has, self.scope):
            raise Refusal(403, f"This token may not do that: it takes one with the scope {self.scope}.")


class TokenFirst(APIRoute):
    """A route whose body FastAPI reads: it would do so before it asks dependencies, of whoever has no token, too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request, once its token was looked at."""
        answer = super().get_route_handler()
        needed = [one.dependency for one in self.dependencies if isinstance(one.dependency, Needs)]

        async def checked(request: Request) -> Response:
            for check in needed:
                await check(request)
            return await answer(request)

        return checked


def scope_of(access: Access, request: Request) -> Scope | None:
    """What a request may do, by its token, or else by its cookie."""
    if access.is_open:
        return "manage"
    found = _token_of(access, request)
    return None if found is None else found.scope


def cookie_name(request: Request) -> str:
    """What the session's cookie is called: another one for each port that a browser asks.

    A browser sends the cookies of a host to all of its ports. Of one name, those of two stations would replace each
    other, and whoever logs in at one would be logged out of the other. The port is the browser's: behind a container's
    mapping all stations may listen on the same one.
    """
    port = _PORT.search(request.headers.get("host", ""))
    return "rstpm_edge_session" if port is None else f"rstpm_edge_session_{port[1]}"


def who_asks(access: Access, request: Request) -> dict[str, str | None]:
    """Who sent a request, for the audit log: the address, and which token, of which nobody gets the token itself."""
    found = None if access.is_open else _token_of(access, request)
    return {
        "address": None if request.client is None else request.client.host,
        "token": None if found is None else found.hint,
    }


def _token_of(access: Access, request: Request) -> Token | None:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return access.token_of(token.strip())
    return access.token_of_session(request.cookies.get(cookie_name(request), ""))
