"""What the server answers where it does not do what was asked: `{"error": "one sentence"}` and a status."""

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from rstpm_edge.errors import ImageError, RstpmEdgeError, UsageError
from rstpm_edge.printable import one_line, without_passwords
from rstpm_edge.station.gate import Overloaded
from rstpm_edge.station.products import UnknownProduct
from rstpm_edge.unexpected import sentence

RETRY_AFTER = 1  # seconds

_SENTENCES = {
    404: "There is nothing at this address: /openapi.json lists what there is.",
    405: "This address does not take that method.",
}


class Refusal(Exception):
    """A request that is not done; `sentence` says why."""

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, headers


def json_answer(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON, whose numbers are finite."""
    return Response(json.dumps(document, allow_nan=False), status, headers, media_type="application/json")


def problem(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    """One sentence, on one line and without passwords."""
    return json_answer({"error": one_line(without_passwords(sentence))}, status, headers)


def status_of(error: RstpmEdgeError) -> int:
    """The status for what the library raises."""
    if isinstance(error, UnknownProduct):
        return 404
    if isinstance(error, ImageError):
        return 422
    return 400 if isinstance(error, UsageError) else 500


def handle_errors(app: FastAPI) -> None:
    """Let the application answer so, whatever is raised."""

    def refusal(request: Request, error: Any) -> Response:
        return problem(error.status, error.sentence, error.headers)

    def overloaded(request: Request, error: Any) -> Response:
        return problem(503, "The station is busy: try again in a moment.", {"Retry-After": str(RETRY_AFTER)})

    def known(request: Request, error: Any) -> Response:
        return problem(status_of(error), str(error))

    def http(request: Request, error: Any) -> Response:
        return problem(error.status_code, _SENTENCES.get(error.status_code, str(error.detail)), error.headers)

    def invalid(request: Request, error: Any) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "the request"
        return problem(400, f"{where}: {first['msg']}.")

    def gone(request: Request, error: Any) -> Response:
        return problem(400, "The request ended too early.")

    def fault(request: Request, error: Any) -> Response:
        return problem(500, sentence(error))  # the guard reports it

    for kind, handler in {
        Refusal: refusal,
        Overloaded: overloaded,
        RstpmEdgeError: known,
        HTTPException: http,
        RequestValidationError: invalid,
        ClientDisconnect: gone,
        Exception: fault,
    }.items():
        app.add_exception_handler(kind, handler)
