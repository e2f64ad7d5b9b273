"""GET /v2/health/live and /v2/health/ready: for whoever starts and watches the process. They need no token."""

from fastapi import APIRouter
from starlette.responses import Response

from rstpm_edge.station.answers import json_answer
from rstpm_edge.station.station import Station


def health_router(station: Station) -> APIRouter:
    """The routes of this subject."""
    router = APIRouter(tags=["health"])

    @router.get("/v2/health/live", response_class=Response)
    async def live() -> Response:
        """The process answers."""
        return json_answer({"live": True})

    @router.get(
        "/v2/health/ready",
        response_class=Response,
        responses={503: {"description": "It is not: there is no product, or a line has lost its source"}},
    )
    async def ready() -> Response:
        """The station can judge: there is a product, and all lines have their source."""
        is_ready = bool(station.products.catalogue) and all(
            line.state.condition in ("running", "paused", "ended") for line in station.lines
        )
        return json_answer({"ready": is_ready}, 200 if is_ready else 503)

    return router
