"""The page: one HTML file and what it loads, all of it from this package. Nothing comes from anywhere else."""

import hashlib
from importlib import resources
from typing import Annotated

from fastapi import APIRouter, Header
from starlette.responses import Response

from rstpm_edge import __version__
from rstpm_edge.station.answers import Refusal
from rstpm_edge.station.history.history import History
from rstpm_edge.station.routes.inspections import inspections_router
from rstpm_edge.station.routes.recalibration import recalibration_router
from rstpm_edge.station.station import Station

# What the page may load and send: its own files and answers, and nothing in the text of the page itself.
POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
KINDS = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}

NoneMatch = Annotated[str | None, Header(max_length=1000)]


def page_routers(station: Station, history: History | None) -> list[APIRouter]:
    """The page, and what it asks beyond the station's own routes."""
    return [inspections_router(station, history), recalibration_router(station, history), page_router()]


def page_router() -> APIRouter:
    """The routes of this subject. Whoever reaches the station may load the page; what it shows takes a token."""
    router = APIRouter(include_in_schema=False)
    files = _files()

    @router.get("/", response_class=Response)
    def page(if_none_match: NoneMatch = None) -> Response:
        return _answer(files, "index.html", if_none_match)

    @router.get("/page/{name}", response_class=Response)
    def file(name: str, if_none_match: NoneMatch = None) -> Response:
        return _answer(files, name, if_none_match)

    @router.get("/favicon.ico", response_class=Response)
    def icon(if_none_match: NoneMatch = None) -> Response:
        return _answer(files, "icon.svg", if_none_match)

    return router


def _files() -> dict[str, tuple[bytes, str, str]]:
    """By name: the content, its kind and its tag; read once, half a megabyte at most."""
    found = {}
    for entry in resources.files("rstpm_edge.station.page").iterdir():
        ending = entry.name[entry.name.rfind(".") :] if "." in entry.name else ""
        if ending in KINDS and entry.is_file():
            content = entry.read_bytes()
            tag = f'"{__version__}-{hashlib.sha256(content).hexdigest()[:16]}"'
            found[entry.name] = (content, KINDS[ending], tag)
    return found


def _answer(files: dict[str, tuple[bytes, str, str]], name: str, known: str | None) -> Response:
    if name not in files:
        raise Refusal(404, "The page has no such file.")
    content, kind, tag = files[name]
    headers = {"ETag": tag, "Cache-Control": "no-cache", "Content-Security-Policy": POLICY}
    if known == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)
