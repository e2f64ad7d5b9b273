"""Judging an image that a request brought."""

import asyncio
import struct
import time
from typing import Any

from numpy.typing import NDArray

from rstpm_edge.errors import ImageError, InvalidImageError
from rstpm_edge.image.decode import decode_stored
from rstpm_edge.image.file_checks import HEAD, format_of
from rstpm_edge.image.formats.problem import Problem
from rstpm_edge.outputs.verdict_json import failure_fields, verdict_fields
from rstpm_edge.sources.frames import Failure, Frame
from rstpm_edge.station.event import Inspection
from rstpm_edge.station.product import Product
from rstpm_edge.station.station import Station
from rstpm_edge.station.uploads import Upload

REQUEST = "request"  # the origin of what was sent


async def find_product(station: Station, name: str | None, version: str | None) -> Product:
    """The product, once it is loaded; requests for other ones do not wait for that.

    Raises UnknownProduct, and what `Detector` does.
    """
    found = station.products.find(station.products.resolve(name, version))
    # A client that goes away must not cancel what others wait for, too.
    return found.result() if found.done() else await asyncio.shield(asyncio.wrap_future(found))


def judge_upload(
    station: Station, product: Product, upload: Upload, *, upload_seconds: float, accepted: float
) -> Inspection:
    """Decode an image file, judge and publish it. `accepted` is when it had arrived, by time.perf_counter.

    An image that cannot be read or judged has no result. Raises ModelError and UsageError, which are none of its
    faults.
    """
    start = time.perf_counter()
    seconds = {"upload": upload_seconds, "queue": start - accepted}
    name = upload.name or "request"
    try:
        image = decode(upload.content, name, station.limits.pixels)
        decoded = time.perf_counter()
        frame = Frame(name, image, "", (decoded - start) * 1000)
        result = product.detector(image)
    except InvalidImageError as error:
        failure = Failure(name, f"Cannot judge {name}: {error}", invalid_reason=str(error))
        return _published(station, product, upload, failure_fields(failure), seconds=seconds)
    except ImageError as error:
        return _published(station, product, upload, failure_fields(Failure(name, str(error))), seconds=seconds)
    judged = time.perf_counter()
    seconds |= {"decode": decoded - start, "judge": judged - decoded}
    fields = verdict_fields(frame, result, (judged - start) * 1000)
    return _published(station, product, upload, fields, result, seconds)


def decode(content: bytes, name: str, pixels: int) -> NDArray[Any]:
    """As `decode_stored`, for images of at most so many pixels. Raises ImageError."""
    try:
        width, height = format_of(content[:HEAD]).size(content)
    except (Problem, struct.error, IndexError, OverflowError):
        width = height = 0  # the decoder says what is wrong
    if width * height > pixels:
        raise ImageError(f"Cannot read {name}: it measures {width}×{height} pixels, and this station takes {pixels:,}.")
    return decode_stored(content, name)


def _published(
    station: Station,
    product: Product,
    upload: Upload,
    fields: Any,
    result: Any = None,
    seconds: Any = None,
) -> Inspection:
    name = product.name
    return station.feed.publish(
        Inspection(time.time(), REQUEST, name.name, name.version, fields, result, upload.content, seconds or {})
    )
