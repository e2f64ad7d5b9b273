"""GET /metrics: for Prometheus."""

from fastapi import APIRouter, Depends
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from rstpm_edge.station.metrics import StationCollector
from rstpm_edge.station.permission import Needs
from rstpm_edge.station.station import Station


def metrics_router(station: Station) -> APIRouter:
    """The routes of this subject."""
    router = APIRouter(tags=["metrics"], dependencies=[Depends(Needs(station.access, "inspect"))])
    station.metrics.registry.register(StationCollector(station))

    @router.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """What was counted, as text."""
        return Response(station.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router
