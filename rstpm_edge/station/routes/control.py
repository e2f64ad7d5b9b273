"""The state of the station, and what steers it: pause, resume, another product, a new shift."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from rstpm_edge.station.answers import json_answer
from rstpm_edge.station.line import Line
from rstpm_edge.station.line_state import LineState, judging_facts
from rstpm_edge.station.permission import Needs, TokenFirst, who_asks
from rstpm_edge.station.product import Product, ProductName
from rstpm_edge.station.routes.inspect import ERRORS
from rstpm_edge.station.shift import ShiftCounts
from rstpm_edge.station.station import Station

LineQuery = Annotated[str | None, Query(max_length=100, description="Which line; the only one if there is one.")]


class Selection(BaseModel):
    """A product that a line shall judge with."""

    model_config = ConfigDict(extra="forbid", strict=True)

    product: str = Field(max_length=100)
    version: str | None = Field(None, max_length=100)


def control_router(station: Station) -> APIRouter:
    """The routes of this subject."""
    router = APIRouter(route_class=TokenFirst, tags=["station"], responses=ERRORS)
    reads = [Depends(Needs(station.access, "inspect"))]
    steers = [Depends(Needs(station.access, "manage"))]

    def record(event: str, request: Request, line: Line) -> None:
        station.record(event, {"by": who_asks(station.access, request), **judging_facts(line.state)})

    @router.get("/v1/station", dependencies=reads, response_class=Response)
    async def state() -> Response:
        """Lines, products, and the counts of the shift."""
        return json_answer(station_document(station))

    @router.post("/v1/station/pause", dependencies=steers, response_class=Response)
    def pause(request: Request, line: LineQuery = None) -> Response:
        """Take no more images, after the one under way."""
        found = station.line(line)
        found.pause()
        record("line paused", request, found)
        return json_answer(line_document(found.state))

    @router.post("/v1/station/resume", dependencies=steers, response_class=Response)
    def resume(request: Request, line: LineQuery = None) -> Response:
        """Go on."""
        found = station.line(line)
        found.resume()
        record("line resumed", request, found)
        return json_answer(line_document(found.state))

    @router.post("/v1/station/product", dependencies=steers, response_class=Response)
    def select(request: Request, selection: Selection, line: LineQuery = None) -> Response:
        """Judge with another product; the one before judges until that is loaded."""
        found = station.line(line)
        found.select(found.products.resolve(selection.product, selection.version))
        record("product selected", request, found)
        return json_answer(line_document(found.state))

    @router.post("/v1/station/shift", dependencies=steers, response_class=Response)
    def shift(request: Request) -> Response:
        """Begin a new shift: counts begin anew, and those of the one that ends are the answer."""
        ended = station.shift.begin()
        station.record("shift begun", {"by": who_asks(station.access, request), "ended": ended.total()})
        return json_answer(shift_document(ended))

    return router


def station_document(station: Station) -> dict[str, Any]:
    """What GET /v1/station answers."""
    loaded: dict[ProductName, list[Product]] = {}
    for product in station.loaded():  # of one that several lines judge by options of their own, each copy
        loaded.setdefault(product.name, []).append(product)
    products = []
    for name, versions in station.products.catalogue.items():
        for version in versions:
            copies = loaded.get(ProductName(name, version), [])
            products.append(
                {
                    "product": name,
                    "version": version,
                    "loaded": bool(copies),
                    "model_sha256": copies[0].detector.sha256 if copies else None,
                    "memory": sum(copy.memory for copy in copies) if copies else None,
                }
            )
    return {
        "lines": [line_document(line.state) for line in station.lines],
        "products": products,
        "shadow": [] if station.shadows is None else station.shadows.document(),
        "shift": shift_document(station.shift.counts()),
        "requests": {"inside": station.gate.inside, "room": station.gate.room, "refused": station.gate.refused},
    }


def line_document(state: LineState) -> dict[str, Any]:
    """What is said of a line. "idle" are the seconds since it was last alive."""
    drift = state.drift
    return {
        "line": state.name,
        "source": state.source,
        "condition": state.condition,
        "problem": state.problem,
        "product": state.product.name,
        "version": state.product.version,
        "model_sha256": state.model_sha256,
        "images": state.images,
        "dropped": state.dropped,
        "damaged": state.damaged,
        "drift": None if drift is None else {"drift": drift.drift, "images": drift.images, "alarm_at": drift.alarm_at},
        "idle": round(time.monotonic() - state.beat, 3),
    }


def shift_document(counts: ShiftCounts) -> dict[str, Any]:
    """What is said of a shift: `since` in seconds since 1970, all, and by product."""
    products = sorted({product for _, product, _ in counts.counts})
    return {
        "since": counts.since,
        "counts": counts.total(),
        "products": {product: counts.total(product=product) for product in products},
    }
