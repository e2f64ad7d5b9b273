"""What every request must pass: the right host, no page of another origin, a body within limits, and an answer whatever
happens."""

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from rstpm_edge.station.answers import problem
from rstpm_edge.station.arrival import Arrival
from rstpm_edge.station.settings import Limits
from rstpm_edge.unexpected import sentence

Scope: TypeAlias = Any  # of ASGI, whose own types are mappings of anything
Receive: TypeAlias = Any
Send: TypeAlias = Any

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_PORT = re.compile(r":\d{0,5}\Z")
# What a page may do that shows what we answered: nothing, unless an answer says otherwise.
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class Guard:
    """An ASGI application around another one.

    A name that is not ours is refused, since whoever owns it may let it point here (DNS rebinding): `hosts` are the
    names that are, besides numeric addresses, `localhost` and the name of this machine. A browser says whether another
    origin's page makes it ask; then it may open our pages as a link does, and nothing else.
    """

    def __init__(self, app: Any, hosts: Iterable[str] = (), *, limits: Limits, report: Callable[[str], None]) -> None:
        self._app, self._limits, self._report = app, limits, report
        self._hosts = {"localhost", socket.gethostname().lower(), *(host.lower() for host in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = dict(scope)
        arrival = Arrival(scope, receive, self._limits)
        begun = ended = False

        async def guarded(message: Any) -> None:
            nonlocal begun, ended
            if message["type"] == "http.response.start":
                begun = arrival.answered = True
                headers = list(message.get("headers", ()))
                there = {name.lower() for name, _ in headers}
                message = {**message, "headers": headers + [one for one in HEADERS if one[0] not in there]}
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await problem(403, refusal)(scope, arrival, guarded)
            return
        try:
            await self._app(scope, arrival, guarded)
        except Exception as error:  # a fault of ours: one request has failed, and the station goes on
            said = sentence(error)
            self._report(said)
            if begun and not ended:
                raise _Broken from None  # the client sees that the answer ends too early
            if not begun:
                await problem(500, said)(scope, arrival, guarded)

    def _refusal(self, scope: Scope) -> str | None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        if not self._is_ours(host):
            return (
                f"This station is not called {_PORT.sub('', host)[:100]!r}: use its address, or let it answer to that "
                "name, `rstpm-edge serve --allowed-host NAME`."
            )
        site = headers.get(b"sec-fetch-site", "same-origin")
        if site not in ("same-origin", "none") and not (
            scope["method"] in SAFE and headers.get(b"sec-fetch-mode") == "navigate"
        ):
            return "A page of another origin may not use this station."
        origin = headers.get(b"origin")
        if origin is not None and origin.lower() != f"{scope['scheme']}://{host}".lower():
            return "A page of another origin may not use this station."
        return None

    def _is_ours(self, host: str) -> bool:
        name = _PORT.sub("", host).lower().rstrip(".")
        if name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
        except ValueError:
            return False
        return True


class _Broken(Exception):
    """An answer that cannot be finished."""
