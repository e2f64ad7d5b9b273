"""Parts that were judged: what is known of each, its pictures, and what people say of it."""

from typing import Annotated, Any, Literal

import cv2
import numpy as np
from fastapi import APIRouter, Depends, Path, Query, Request
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from rstpm_edge.outputs.drawing import scaled
from rstpm_edge.outputs.verdict_json import image_name
from rstpm_edge.station.answers import Refusal, json_answer
from rstpm_edge.station.event import Inspection
from rstpm_edge.station.history.corrections import Corrections
from rstpm_edge.station.history.history import History
from rstpm_edge.station.history.notes import MOST_COMMENT, MOST_PERSON, Note
from rstpm_edge.station.history.parts import Part
from rstpm_edge.station.history.pictures import MAP, PHOTO, SMALL, SMALL_SIDE, jpeg, map_png
from rstpm_edge.station.permission import Needs, TokenFirst, who_asks
from rstpm_edge.station.photos import heat_png, rgb_of
from rstpm_edge.station.routes.inspect import ERRORS
from rstpm_edge.station.station import Station

VIEW = 1280  # pixels of the long side of a photo that is shown
LAST = 253_402_300_799_000  # an id is a time, in ms since 1970: that of the year 9999
KEEP = "private, max-age=31536000, immutable"  # a picture of a part never changes

VerdictQuery = Annotated[
    Literal["normal", "anomalous", "invalid", "failed"] | None, Query(description="Of this alone.")
]
PartId = Annotated[int, Path(ge=0, le=LAST, description="Of an event, or of GET /v1/inspections.")]
BeforeQuery = Annotated[int | None, Query(ge=0, le=LAST, description="Of a lower id alone.")]
OriginQuery = Annotated[str | None, Query(max_length=100, description="Of this line, or of request, alone.")]
MostQuery = Annotated[int, Query(ge=1, le=1000, description="The newest ones.")]
SideQuery = Annotated[int, Query(ge=16, le=65500, description="Pixels of the long side, at most.")]


class NewNote(BaseModel):
    """What a person says of a part."""

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Literal["acknowledged", "good", "defect", "comment", "withdrawn"]
    person: str | None = Field(None, max_length=MOST_PERSON)
    comment: str = Field("", max_length=MOST_COMMENT)


def inspections_router(station: Station, history: History | None) -> APIRouter:
    """The routes of this subject. Without a history, they know the last verdicts, and keep no notes."""
    router = APIRouter(
        route_class=TokenFirst,
        tags=["inspections"],
        dependencies=[Depends(Needs(station.access, "inspect"))],
        responses=ERRORS,
    )
    corrections = None if history is None else Corrections(history)

    @router.get("/v1/inspections", response_class=Response)
    def inspections(
        before: BeforeQuery = None, verdict: VerdictQuery = None, origin: OriginQuery = None, most: MostQuery = 100
    ) -> Response:
        """The last parts, newest first."""
        if history is not None:
            history.flush(0.5)
            kept = history.parts.last(most, before=before, verdict=verdict, origin=origin)
            return json_answer({"inspections": list(map(part_document, kept))})
        found = [
            one
            for one in station.recent.last(1000)
            if verdict in (None, one.verdict) and origin in (None, one.origin) and (before is None or one.id < before)
        ]
        return json_answer({"inspections": [recent_document(one) for one in found[:most]]})

    @router.get("/v1/inspections/{part}", response_class=Response)
    def one_part(part: PartId) -> Response:
        """All that is known of a part: its fields, as `infer --json` has them, and its notes."""
        kept = _kept(history, part)
        if kept is not None:
            size = None if kept.width is None else (kept.width, kept.height)
            notes = list(map(note_document, kept.notes))
            fields = {**kept.fields, "model_sha256": kept.model_sha256}
            return json_answer({**part_document(kept), "image_size": size, "fields": fields, "notes": notes})
        recent = station.recent.get(part)
        if recent is None:
            raise _unknown(part)
        size = recent.image_size
        return json_answer({**recent_document(recent), "image_size": size, "fields": recent.fields, "notes": []})

    @router.get("/v1/inspections/{part}/photo.jpg", response_class=Response)
    def photo(part: PartId, side: SideQuery = VIEW) -> Response:
        """The photo, at most so large."""
        return _picture(_view(station, history, part, side), "image/jpeg")

    @router.get("/v1/inspections/{part}/small.jpg", response_class=Response)
    def small(part: PartId) -> Response:
        """The photo, with a short side of 128 pixels."""
        content = None if history is None else history.pictures.read(part, SMALL)
        if content is None:
            recent = _rgb(station, part)
            if recent is not None:
                content = jpeg(_bgr(scaled(recent, min(SMALL_SIDE / min(recent.shape[:2]), 1))), 85)
        return _picture(content, "image/jpeg")

    @router.get("/v1/inspections/{part}/heat.png", response_class=Response)
    def heat(part: PartId) -> Response:
        """The anomaly map in colours, transparent where nothing is unusual, to lay over the photo."""
        recent = station.recent.get(part)
        if recent is not None and recent.result is not None:
            return _picture(heat_png(map_png(recent.result)), "image/png")
        kept = None if history is None else history.pictures.read(part, MAP)
        return _picture(None if kept is None else heat_png(kept), "image/png")

    @router.post("/v1/inspections/{part}/notes", response_class=Response)
    def note(request: Request, part: PartId, new: NewNote) -> Response:
        """Keep what a person says. `good` of a reject, and `defect` of a part that passed, also keep its photo."""
        if corrections is None:
            raise Refusal(409, "This station keeps no history: start it with `rstpm-edge serve --history FOLDER`.")
        made = corrections.history.note(part, new.kind, person=new.person or None, comment=new.comment)
        kept = corrections.history.parts.get(part)
        station.record(
            "note made", {"by": {**who_asks(station.access, request), "person": made.person}, **_facts(made, kept)}
        )
        photo_kept = corrections.keep(made)
        return json_answer(
            {**note_document(made), "photo_kept": photo_kept, "decision": None if kept is None else kept.standing}
        )

    return router


def part_document(part: Part) -> dict[str, Any]:
    """A part in a list."""
    return {
        "id": part.id,
        "judged": part.judged / 1000,
        "origin": part.origin,
        "product": part.product,
        "version": part.version,
        "name": part.name,
        "verdict": part.verdict,
        "score": part.score,
        "p_value": part.p_value,
        "threshold": part.threshold,
        "pictures": part.has_pictures,
        "decision": part.standing,
    }


def recent_document(inspection: Inspection) -> dict[str, Any]:
    """The same of a part that is only in memory."""
    fields = inspection.fields
    return {
        "id": inspection.id,
        "judged": inspection.time,
        "origin": inspection.origin,
        "product": inspection.product,
        "version": inspection.version,
        "name": image_name(fields),
        "verdict": inspection.verdict,
        "score": fields.get("score"),
        "p_value": fields.get("p_value"),
        "threshold": fields.get("threshold"),
        "pictures": inspection.photo is not None,
        "decision": None,
    }


def note_document(note: Note) -> dict[str, Any]:
    """A note; `made` is in seconds since 1970."""
    return {"made": note.made / 1000, "person": note.person, "kind": note.kind, "comment": note.comment}


def _facts(note: Note, part: Part | None) -> dict[str, Any]:
    """What the audit log says of a note. Not the comment: whatever somebody typed there could never be taken out."""
    said = {"part": note.part, "kind": note.kind, "has_comment": bool(note.comment)}
    if part is None:  # forgotten in this moment
        return said
    judged = {"product": part.product, "product_version": part.version, "sha256": part.model_sha256}
    return {**said, "verdict": part.verdict, **judged}


def _kept(history: History | None, part: int) -> Part | None:
    if history is None:
        return None
    history.flush(0.5)
    return history.parts.get(part)


def _view(station: Station, history: History | None, part: int, side: int) -> bytes | None:
    recent = _rgb(station, part)
    if recent is None:
        content = None if history is None else history.pictures.read(part, PHOTO)
        bgr = None if content is None else cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        if bgr is None or max(bgr.shape) <= side:
            return content
        photo = np.asarray(bgr, np.uint8)
    else:
        photo = _bgr(recent)
    return jpeg(scaled(photo, min(side / max(photo.shape), 1)), 88)


def _rgb(station: Station, part: int) -> NDArray[np.uint8] | None:
    recent = station.recent.get(part)
    return None if recent is None else rgb_of(station, recent, station.limits.pixels)


def _bgr(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), np.uint8)


def _picture(content: bytes | None, kind: str) -> Response:
    if content is None:
        raise Refusal(404, "This picture is not kept.")
    return Response(content, media_type=kind, headers={"Cache-Control": KEEP})


def _unknown(part: PartId) -> Refusal:
    return Refusal(404, f"There is no part {part}, or it is not kept any more.")
