"""/v2: the Open Inference Protocol, which clients of KServe, Triton and OpenVINO Model Server speak."""

import asyncio
import time
from typing import Annotated, Any

import cv2
import numpy as np
from fastapi import APIRouter, Depends, Path, Request
from numpy.typing import NDArray
from starlette.responses import Response

from rstpm_edge import __version__
from rstpm_edge.result import Result
from rstpm_edge.station.answers import Refusal, json_answer
from rstpm_edge.station.event import REQUEST
from rstpm_edge.station.judging import find_product, judge_sent
from rstpm_edge.station.permission import Needs, who_asks
from rstpm_edge.station.product import Product, ProductName
from rstpm_edge.station.routes.inspect import ERRORS
from rstpm_edge.station.station import Station
from rstpm_edge.station.tensors import INPUTS, LENGTH_HEADER, OUTPUTS, answer_of, parse_inference
from rstpm_edge.station.uploads import read_body

ModelPath = Annotated[str, Path(max_length=100, description="A product")]
VersionPath = Annotated[str, Path(max_length=100, description="A version of it")]
_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string", "enum": ["image", "file"]},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {"type": "string"},
        "data": {"type": "array", "items": {}},
    },
}
_REQUEST = {
    "type": "object",
    "required": ["inputs"],
    "properties": {"id": {"type": "string"}, "inputs": {"type": "array", "items": _TENSOR}},
}


def open_inference_router(station: Station) -> APIRouter:
    """The routes of this subject."""
    router = APIRouter(
        tags=["open inference"], dependencies=[Depends(Needs(station.access, "inspect"))], responses=ERRORS
    )
    infers = {"requestBody": {"required": True, "content": {"application/json": {"schema": _REQUEST}}}}

    @router.get("/v2", response_class=Response)
    async def server() -> Response:
        """What this server is."""
        extensions = ["binary_tensor_data", "model_repository"]
        return json_answer({"name": "rstpm-edge", "version": __version__, "extensions": extensions})

    @router.get("/v2/models/{model}", response_class=Response)
    @router.get("/v2/models/{model}/versions/{version}", response_class=Response)
    async def metadata(model: ModelPath, version: str | None = None) -> Response:
        """Its tensors. Give image, or file."""
        name = station.products.resolve(model, version)
        versions = list(station.products.catalogue.get(name.name, ()))
        return json_answer(
            {
                "name": name.name,
                "versions": versions if version is None else [name.version],
                "platform": "rstpm-edge",
                "inputs": INPUTS,
                "outputs": OUTPUTS,
            }
        )

    @router.get("/v2/models/{model}/ready", response_class=Response)
    @router.get("/v2/models/{model}/versions/{version}/ready", response_class=Response)
    async def ready(model: ModelPath, version: str | None = None) -> Response:
        """Whether it can be asked; it is loaded then, if it is not yet."""
        name = station.products.resolve(model, version)
        return json_answer({"name": name.name, "version": name.version, "ready": True})

    @router.post("/v2/models/{model}/infer", response_class=Response, openapi_extra=infers)
    @router.post("/v2/models/{model}/versions/{version}/infer", response_class=Response, openapi_extra=infers)
    async def infer(request: Request, model: ModelPath, version: str | None = None) -> Response:
        """Judge the images of a tensor."""
        start = time.perf_counter()
        with station.gate.enter():
            body = await read_body(request, station.limits)
            accepted = time.perf_counter()
            product = await find_product(station, model, version)
            length = request.headers.get(LENGTH_HEADER)
            inference = await station.gate.run(parse_inference, body, length, station.limits)
            results = []
            for number, image in enumerate(inference.images, 1):
                name = f"{inference.id or REQUEST}" + (f" #{number}" if len(inference.images) > 1 else "")
                upload_seconds, start = accepted - start, accepted
                results.append(await station.gate.run(_judged, station, product, image, name, upload_seconds, accepted))
                start = accepted = time.perf_counter()
            of = product.name
            answer, headers = await station.gate.run(answer_of, results, inference, of.name, of.version)
            return Response(answer, headers=dict(headers))

    return router


def repository_router(station: Station) -> APIRouter:
    """The routes of the extension for repositories of models."""
    router = APIRouter(tags=["models"], responses=ERRORS)

    @router.post(
        "/v2/repository/index", dependencies=[Depends(Needs(station.access, "inspect"))], response_class=Response
    )
    async def index() -> Response:
        """All products and versions; those that are in memory are READY."""
        loaded = {product.name for product in station.products.loaded()}
        return json_answer(
            [
                {
                    "name": name,
                    "version": version,
                    "state": "READY" if ProductName(name, version) in loaded else "UNAVAILABLE",
                    "reason": "" if ProductName(name, version) in loaded else "it is loaded when it is asked for",
                }
                for name, versions in station.products.catalogue.items()
                for version in versions
            ]
        )

    manages = [Depends(Needs(station.access, "manage"))]

    async def record(event: str, request: Request, name: ProductName) -> None:
        """In a thread, since it waits for the disk."""
        facts = {"by": who_asks(station.access, request), "product": name.name, "product_version": name.version}
        await asyncio.get_running_loop().run_in_executor(None, station.record, event, facts)

    @router.post("/v2/repository/models/{model}/load", dependencies=manages, response_class=Response)
    async def load(request: Request, model: ModelPath) -> Response:
        """Load its newest version, or take the file as it is now."""
        name = station.products.resolve(model)
        await record("load asked", request, name)
        loaded = any(product.name == name for product in station.products.loaded())
        product = await find_product(station, name.name, name.version)
        if loaded:
            refused = await asyncio.get_running_loop().run_in_executor(None, product.take, station.report)
            if refused is not None:
                raise refused
        return json_answer({"model_sha256": product.detector.sha256})

    @router.post("/v2/repository/models/{model}/unload", dependencies=manages, response_class=Response)
    async def unload(request: Request, model: ModelPath) -> Response:
        """Let go of all its versions; the next request loads them anew."""
        await record("unload asked", request, station.products.resolve(model))
        for version in station.products.catalogue.get(model, ()):
            station.products.unload(ProductName(model, version))
        return json_answer({})

    return router


def _judged(
    station: Station,
    product: Product,
    image: NDArray[Any] | bytes,
    name: str,
    upload_seconds: float,
    accepted: float,
) -> Result:
    """Raises Refusal for an image that has no score."""
    seconds = {"upload": upload_seconds, "queue": time.perf_counter() - accepted}
    sent = image if isinstance(image, bytes) else _in_opencvs_order(image)
    inspection = judge_sent(station, product, sent, name, seconds)
    if inspection.result is None:
        raise Refusal(422, str(inspection.fields["error"]))
    return inspection.result


def _in_opencvs_order(image: NDArray[Any]) -> NDArray[Any]:
    if image.shape[2] == 1:
        return image
    code = cv2.COLOR_RGB2BGR if image.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(image), code))
