"""Parts that several cameras see: what is known of them, and a new start of the count."""

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from rstpm_edge.station.answers import json_answer
from rstpm_edge.station.part_feed import PartFeed
from rstpm_edge.station.permission import Needs, who_asks
from rstpm_edge.station.routes.inspect import ERRORS
from rstpm_edge.station.station import Station


def parts_router(station: Station, parts: PartFeed) -> APIRouter:
    """The routes of this subject; for a station that has such parts."""
    router = APIRouter(tags=["station"], responses=ERRORS)
    access = station.access

    @router.get("/v1/parts", dependencies=[Depends(Needs(access, "inspect"))], response_class=Response)
    async def state() -> Response:
        """Which views make a part, and why they cannot be joined, where they cannot."""
        return json_answer(_document(parts))

    @router.post("/v1/parts/realign", dependencies=[Depends(Needs(access, "manage"))], response_class=Response)
    def realign(request: Request) -> Response:
        """The line is empty: the next picture of each camera is of one part."""
        parts.realign()
        station.record("parts realigned", {"by": who_asks(access, request), "line": parts.rule.name})
        return json_answer(_document(parts))

    return router


def _document(parts: PartFeed) -> dict[str, object]:
    rule = parts.rule
    return {"origin": rule.name, "views": list(rule.views), "by": rule.by, "problem": parts.apart}
