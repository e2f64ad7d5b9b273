"""The application that answers requests, made of a router for each subject."""

from collections.abc import Iterable

from fastapi import APIRouter, FastAPI

from rstpm_edge import __version__
from rstpm_edge.station.answers import handle_errors
from rstpm_edge.station.guard import Guard
from rstpm_edge.station.routes.control import control_router
from rstpm_edge.station.routes.events import events_router
from rstpm_edge.station.routes.health import health_router
from rstpm_edge.station.routes.inspect import inspect_router
from rstpm_edge.station.routes.metrics import metrics_router
from rstpm_edge.station.routes.open_inference import open_inference_router, repository_router
from rstpm_edge.station.routes.session import session_router
from rstpm_edge.station.station import Station

ROUTERS = (
    health_router,
    inspect_router,
    open_inference_router,
    repository_router,
    events_router,
    control_router,
    session_router,
    metrics_router,
)


def make_app(station: Station, *, hosts: Iterable[str] = (), routers: Iterable[APIRouter] = ()) -> Guard:
    """The ASGI application of a station. `hosts` are further names of it; `routers` further subjects."""
    # Without the pages of documentation, whose scripts come from elsewhere.
    app = FastAPI(
        title="rstpm-edge", version=__version__, docs_url=None, redoc_url=None, swagger_ui_oauth2_redirect_url=None
    )
    for make in ROUTERS:
        app.include_router(make(station))
    for router in routers:
        app.include_router(router)
    handle_errors(app)
    return Guard(app, hosts, limits=station.limits, report=station.report)
