"""Which requests need which scope: a dependency of routes."""

import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request

from rstpm_edge.station.access import Access, Scope, Token, allows
from rstpm_edge.station.answers import Refusal

_PORT = re.compile(r":([0-9]+)\Z")


def needs(access: Access, scope: Scope) -> Callable[[Request], Coroutine[Any, Any, None]]:
    """Raises Refusal, 401 or 403, for a request that may not do what needs this scope."""

    async def check(request: Request) -> None:
        if access.is_open:
            return
        has = scope_of(access, request)
        if has is None:
            raise Refusal(
                401, "Send a token of this station: `Authorization: Bearer TOKEN`.", {"WWW-Authenticate": "Bearer"}
            )
        if not allows(has, scope):
            raise Refusal(403, f"This token may not do that: it takes one with the scope {scope}.")

    return check


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
