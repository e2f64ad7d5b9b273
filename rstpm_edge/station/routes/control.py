"""The state of the station, and what steers it: pause, resume, another product, a new shift."""

import asyncio
import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from rstpm_edge.station.answers import json_answer
from rstpm_edge.station.line import Line, LineState
from rstpm_edge.station.permission import needs
from rstpm_edge.station.product import ProductName
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
    router = APIRouter(tags=["station"], responses=ERRORS)
    reads = [Depends(needs(station.access, "inspect"))]
    steers = [Depends(needs(station.access, "manage"))]

    @router.get("/v1/station", dependencies=reads, response_class=Response)
    async def state() -> Response:
        """Lines, products, and the counts of the shift."""
        return json_answer(station_document(station))

    @router.post("/v1/station/pause", dependencies=steers, response_class=Response)
    async def pause(line: LineQuery = None) -> Response:
        """Take no more images, after the one under way."""
        found = station.line(line)
        found.pause()
        return json_answer(line_document(found.state))

    @router.post("/v1/station/resume", dependencies=steers, response_class=Response)
    async def resume(line: LineQuery = None) -> Response:
        """Go on."""
        found = station.line(line)
        found.resume()
        return json_answer(line_document(found.state))

    @router.post("/v1/station/product", dependencies=steers, response_class=Response)
    async def select(selection: Selection, line: LineQuery = None) -> Response:
        """Judge with another product; the one before judges until that is loaded."""
        found = station.line(line)
        name = station.products.resolve(selection.product, selection.version)
        await _in_a_thread(found, name)
        return json_answer(line_document(found.state))

    @router.post("/v1/station/shift", dependencies=steers, response_class=Response)
    async def shift() -> Response:
        """Begin a new shift: counts begin anew, and those of the one that ends are the answer."""
        return json_answer(shift_document(station.shift.begin()))

    return router


async def _in_a_thread(line: Line, name: ProductName) -> None:
    select: Callable[[ProductName], None] = line.select
    await asyncio.get_running_loop().run_in_executor(None, select, name)


def station_document(station: Station) -> dict[str, Any]:
    """What GET /v1/station answers."""
    loaded = {product.name: product for product in station.products.loaded()}
    products = []
    for name, versions in station.products.catalogue.items():
        for version in versions:
            product = loaded.get(ProductName(name, version))
            products.append(
                {
                    "product": name,
                    "version": version,
                    "loaded": product is not None,
                    "model_sha256": None if product is None else product.detector.sha256,
                    "memory": None if product is None else product.memory,
                }
            )
    return {
        "lines": [line_document(line.state) for line in station.lines],
        "products": products,
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
