"""POST /v1/inspect: an image file in, the JSON of `infer` out."""

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from rstpm_edge.image.preprocess import to_rgb
from rstpm_edge.outputs.overlay import encode_overlay
from rstpm_edge.station.answers import Refusal, json_answer
from rstpm_edge.station.event import REQUEST, Inspection
from rstpm_edge.station.judging import decode, find_product, judge_sent
from rstpm_edge.station.permission import Needs
from rstpm_edge.station.product import Product
from rstpm_edge.station.station import Station
from rstpm_edge.station.uploads import LONGEST_NAME, Upload, read_images

ProductQuery = Annotated[str | None, Query(max_length=100, description="Which product; the only one if there is one.")]
VersionQuery = Annotated[str | None, Query(max_length=100, description="Which version of it; the newest if none.")]
NameQuery = Annotated[str | None, Query(max_length=LONGEST_NAME, description="What the image is called in verdicts.")]
OverlayQuery = Annotated[Literal["png"] | None, Query(description="Answer a picture in the place of the JSON.")]

_ERROR = {
    "description": "One sentence",
    "content": {
        "application/json": {
            "schema": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
        }
    },
}
ERRORS: dict[int | str, dict[str, Any]] = dict.fromkeys((400, 401, 403, 404, 408, 413, 415, 422, 500, 503), _ERROR)
_IMAGE = {"schema": {"type": "string", "format": "binary"}}
_FORM = {
    "schema": {
        "type": "object",
        "properties": {"image": {"type": "array", "items": {"type": "string", "format": "binary"}}},
    }
}
_VERDICT = {"type": "object", "required": ["verdict", "path"], "properties": {"verdict": {"type": "string"}}}


def inspect_router(station: Station) -> APIRouter:
    """The routes of this subject."""
    router = APIRouter(tags=["inspect"], dependencies=[Depends(Needs(station.access, "inspect"))])

    @router.post(
        "/v1/inspect",
        response_class=Response,
        responses={
            **ERRORS,
            200: {
                "description": "The verdict, as `rstpm-edge infer --json` prints it, or the picture",
                "content": {"application/json": {"schema": _VERDICT}, "image/png": _IMAGE},
            },
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/octet-stream": _IMAGE, "multipart/form-data": _FORM},
            }
        },
    )
    async def inspect(
        request: Request,
        product: ProductQuery = None,
        version: VersionQuery = None,
        name: NameQuery = None,
        overlay: OverlayQuery = None,
    ) -> Response:
        """Judge one image: a file as the body, or as the only file of a form."""
        start = time.perf_counter()
        with station.gate.enter():
            uploads = await read_images(request, station)
            if len(uploads) > 1:
                raise Refusal(400, "There are several images: /v1/inspect/batch takes them.")
            upload = uploads[0] if name is None else Upload(uploads[0].content, name)
            accepted = time.perf_counter()
            found = await find_product(station, product, version)
            return await station.gate.run(_answer, station, found, upload, accepted - start, accepted, overlay)

    @router.post(
        "/v1/inspect/batch",
        response_class=Response,
        responses={
            **ERRORS,
            200: {
                "description": "A verdict of each image, in their order; failed ones too",
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "required": ["results"],
                            "properties": {"results": {"type": "array", "items": _VERDICT}},
                        }
                    }
                },
            },
        },
        openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": _FORM}}},
    )
    async def batch(request: Request, product: ProductQuery = None, version: VersionQuery = None) -> Response:
        """Judge the files of a form, one after the other; other requests come in between."""
        start = time.perf_counter()
        with station.gate.enter():
            uploads = await read_images(request, station)
            if len(uploads) > station.limits.batch:
                raise Refusal(400, f"There are {len(uploads)} images, and a batch has at most {station.limits.batch}.")
            accepted = time.perf_counter()
            found = await find_product(station, product, version)
            results = []
            for upload in uploads:
                inspection = await station.gate.run(_judge, station, found, upload, accepted - start, accepted)
                results.append(inspection.fields)
                start = accepted = time.perf_counter()
            return json_answer({"results": results})

    return router


def _judge(station: Station, product: Product, upload: Upload, upload_seconds: float, accepted: float) -> Inspection:
    seconds = {"upload": upload_seconds, "queue": time.perf_counter() - accepted}
    return judge_sent(station, product, upload.content, upload.name or REQUEST, seconds)


def _answer(
    station: Station,
    product: Product,
    upload: Upload,
    upload_seconds: float,
    accepted: float,
    overlay: str | None,
) -> Response:
    """In a thread that judges, the answer is made, too."""
    inspection = _judge(station, product, upload, upload_seconds, accepted)
    fields = inspection.fields
    if inspection.verdict == "failed":
        return json_answer(fields, 422)
    if overlay is None or inspection.result is None:
        return json_answer(fields)
    image = decode(upload.content, fields["path"], station.limits.pixels)
    picture = encode_overlay(
        to_rgb(image, "bgr", bits=product.detector.info.bits), inspection.result, name=fields["path"]
    )
    headers = {"Rstpm-Edge-Verdict": inspection.verdict, "Rstpm-Edge-Score": repr(fields["score"])}
    return Response(picture, 200, headers, media_type="image/png")
