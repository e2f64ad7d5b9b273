"""GET /v1/events: verdicts as they come, as server-sent events."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from starlette.responses import Response, StreamingResponse

from rstpm_edge.station.event import Inspection
from rstpm_edge.station.feed import Subscription
from rstpm_edge.station.gate import Overloaded
from rstpm_edge.station.permission import Needs
from rstpm_edge.station.routes.inspect import ERRORS
from rstpm_edge.station.station import Station

BEAT = 15.0  # seconds without a verdict after which the reader is told that the station is alive
ROOM = 200  # verdicts that wait for a reader

LastEventId = Annotated[str | None, Header(max_length=20, description="Begin behind the verdict of this id.")]
OriginQuery = Annotated[
    str | None, Query(max_length=100, description="Those of this line alone, or of request: what was sent.")
]


def events_router(station: Station) -> APIRouter:
    """The routes of this subject."""
    router = APIRouter(tags=["events"], dependencies=[Depends(Needs(station.access, "inspect"))])

    @router.get(
        "/v1/events",
        response_class=Response,
        responses={
            **ERRORS,
            200: {"description": "Never ends", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
        },
    )
    async def events(last_event_id: LastEventId = None, origin: OriginQuery = None) -> Response:
        """Each verdict from now on, or, with Last-Event-ID, from there on as far as it is still known."""
        if station.feed.subscribers >= station.limits.readers:
            raise Overloaded
        after = int(last_event_id) if last_event_id is not None and last_event_id.isdecimal() else None
        return StreamingResponse(event_stream(station, after, origin), media_type="text/event-stream")

    return router


async def event_stream(station: Station, after: int | None, origin: str | None) -> AsyncIterator[str]:
    """The text of events, until the station stops. `after` is the id of the last one that the reader knows.

    An id above all of ours is from before a restart after which the clock went back: that reader knows none of ours.
    """
    loop, come = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(come.set)

    with station.feed.subscribe("events", room=ROOM, wake=wake) as subscription:
        yield "retry: 2000\n\n"
        last = 0 if after is None or after > station.feed.newest else after
        for inspection in station.recent.since(last) if after is not None else ():
            last = inspection.id
            if origin in (None, inspection.origin):
                yield event_text(inspection)
        async for text in _live(subscription, come, last, origin):
            yield text


async def _live(subscription: Subscription, come: asyncio.Event, last: int, origin: str | None) -> AsyncIterator[str]:
    dropped = 0
    while True:
        come.clear()
        for inspection in subscription.pending():
            if inspection.id > last and origin in (None, inspection.origin):
                yield event_text(inspection)
        if subscription.dropped > dropped:
            yield f"event: dropped\ndata: {json.dumps({'verdicts': subscription.dropped - dropped})}\n\n"
            dropped = subscription.dropped
        if subscription.closed:
            return
        try:
            await asyncio.wait_for(come.wait(), BEAT)
        except asyncio.TimeoutError:
            yield ": alive\n\n"


def event_text(inspection: Inspection) -> str:
    """One event."""
    return f"id: {inspection.id}\nevent: verdict\ndata: {json.dumps(inspection.document, allow_nan=False)}\n\n"
