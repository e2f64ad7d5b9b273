"""/v1/session: a browser gives its token once, and has a cookie from then on that no script can read."""

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from rstpm_edge.station.answers import Refusal, json_answer
from rstpm_edge.station.permission import cookie_name, scope_of
from rstpm_edge.station.routes.inspect import ERRORS
from rstpm_edge.station.station import Station


class Login(BaseModel):
    """What a person typed."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    token: str = Field(max_length=1000)


def session_router(station: Station) -> APIRouter:
    """The routes of this subject."""
    router = APIRouter(tags=["session"], responses=ERRORS)
    access = station.access

    @router.get("/v1/session", response_class=Response)
    async def session(request: Request) -> Response:
        """What this browser or client may do: nothing (null), inspect or manage; and whether tokens are needed."""
        return json_answer({"scope": scope_of(access, request), "tokens": not access.is_open})

    @router.post("/v1/session", response_class=Response)
    async def log_in(request: Request, login: Login) -> Response:
        """Take a cookie in the place of the token."""
        if access.is_open:
            return json_answer({"scope": "manage"})
        secret = access.log_in(login.token)
        if secret is None:
            raise Refusal(401, "This station does not know that token.")
        answer = json_answer({"scope": access.scope_of_session(secret)})
        secure = request.url.scheme == "https"
        answer.set_cookie(cookie_name(request), secret, path="/", secure=secure, httponly=True, samesite="strict")
        return answer

    @router.delete("/v1/session", response_class=Response)
    async def log_out(request: Request) -> Response:
        """The cookie is worth nothing from now on."""
        access.log_out(request.cookies.get(cookie_name(request), ""))
        answer = json_answer({"scope": None})
        answer.delete_cookie(cookie_name(request), path="/", httponly=True, samesite="strict")
        return answer

    return router
