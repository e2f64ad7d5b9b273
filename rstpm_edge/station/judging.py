"""Judging an image that a request brought."""

import asyncio
import struct
import time
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from rstpm_edge.errors import ImageError, InvalidImageError
from rstpm_edge.image.decode import decode_stored
from rstpm_edge.image.file_checks import HEAD, format_of
from rstpm_edge.image.formats.problem import Problem
from rstpm_edge.outputs.verdict_json import failure_fields, verdict_fields
from rstpm_edge.sources.frames import Failure, Frame
from rstpm_edge.station.event import REQUEST, Inspection
from rstpm_edge.station.product import Product
from rstpm_edge.station.station import Station


async def find_product(station: Station, name: str | None, version: str | None) -> Product:
    """The product, once it is loaded; requests for other ones do not wait for that.

    Raises UnknownProduct, and what `Detector` does.
    """
    found = station.products.find(station.products.resolve(name, version))
    # A client that goes away must not cancel what others wait for, too.
    return found.result() if found.done() else await asyncio.shield(asyncio.wrap_future(found))


def judge_sent(
    station: Station, product: Product, image: NDArray[Any] | bytes, name: str, seconds: Mapping[str, float]
) -> Inspection:
    """Judge an image and publish that: an array (H, W, C), BGR, BGRA or grey, or what an image file holds.

    `seconds` is what was spent on it so far. An image that cannot be read or judged has no result. Raises ModelError
    and UsageError, which are no fault of the image.
    """
    start = time.perf_counter()
    result = None
    try:
        pixels = decode(image, name, station.limits.pixels) if isinstance(image, bytes) else image
        decoded = time.perf_counter()
        result = product.detector(pixels)
    except InvalidImageError as error:
        fields = failure_fields(Failure(name, f"Cannot judge {name}: {error}", invalid_reason=str(error)))
    except ImageError as error:
        fields = failure_fields(Failure(name, str(error)))
    else:
        judged = time.perf_counter()
        seconds = {**seconds, "decode": decoded - start, "judge": judged - decoded}
        frame = Frame(name, pixels, "", (decoded - start) * 1000)
        fields = verdict_fields(frame, result, (judged - start) * 1000)
    of = product.name
    return station.feed.publish(Inspection(time.time(), REQUEST, of.name, of.version, fields, result, image, seconds))


def decode(content: bytes, name: str, pixels: int) -> NDArray[Any]:
    """As `decode_stored`, for images of at most so many pixels. Raises ImageError."""
    try:
        width, height = format_of(content[:HEAD]).size(content)
    except (Problem, struct.error, IndexError, OverflowError):
        width = height = 0  # the decoder says what is wrong
    if width * height > pixels:
        raise ImageError(f"Cannot read {name}: it measures {width}×{height} pixels, and this station takes {pixels:,}.")
    return decode_stored(content, name)
