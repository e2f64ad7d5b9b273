"""Parts that several cameras see: what is known of them, and a new start of the count."""

from fastapi import APIRouter, Depends
from starlette.responses import Response

from rstpm_edge.station.access import Access
from rstpm_edge.station.answers import json_answer
from rstpm_edge.station.part_feed import PartFeed
from rstpm_edge.station.permission import needs
from rstpm_edge.station.routes.inspect import ERRORS


def parts_router(access: Access, parts: PartFeed) -> APIRouter:
    """The routes of this subject; for a station that has such parts."""
    router = APIRouter(tags=["station"], responses=ERRORS)

    @router.get("/v1/parts", dependencies=[Depends(needs(access, "inspect"))], response_class=Response)
    async def state() -> Response:
        """Which views make a part, and why they cannot be joined, where they cannot."""
        return json_answer(_document(parts))

    @router.post("/v1/parts/realign", dependencies=[Depends(needs(access, "manage"))], response_class=Response)
    async def realign() -> Response:
        """The line is empty: the next picture of each camera is of one part."""
        parts.realign()
        return json_answer(_document(parts))

    return router


def _document(parts: PartFeed) -> dict[str, object]:
    rule = parts.rule
    return {"origin": rule.name, "views": list(rule.views), "by": rule.by, "problem": parts.apart}
