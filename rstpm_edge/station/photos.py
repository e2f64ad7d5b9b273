"""The photo of an inspection, for people: as pixels, smaller, and with the heat map to lay over it."""

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.errors import ImageError
from rstpm_edge.image.preprocess import to_rgb
from rstpm_edge.outputs.drawing import heat_colours
from rstpm_edge.station.event import Inspection
from rstpm_edge.station.history.pictures import MAP_THRESHOLD
from rstpm_edge.station.judging import decode
from rstpm_edge.station.product import ProductName
from rstpm_edge.station.station import Station

FIRST_HEAT = 0.25  # of the way where 0 is a typical good part and 0.5 the threshold: below it nothing is coloured


def rgb_of(station: Station, inspection: Inspection, pixels: int) -> NDArray[np.uint8] | None:
    """The photo (H, W, 3) RGB, uint8; None where there is none, or it cannot be decoded within so many pixels."""
    photo = inspection.photo
    if photo is None:
        return None
    try:
        if isinstance(photo, bytes | memoryview):
            photo = decode(bytes(photo), "the image", pixels)
        judged_by = ProductName(*(inspection.model or (inspection.product, inspection.version)))
        return to_rgb(photo, "bgr", bits=_bits(station, judged_by))
    except ImageError:
        return None


def heat_png(map_png: bytes) -> bytes:
    """A kept map (`history.pictures.map_png`) as a PNG with colours and transparency, to lie over the photo.

    Colours mean the same in every picture of one model, as in `draw_overlay`: none up to half way to the threshold.
    """
    grey = np.asarray(cv2.imdecode(np.frombuffer(map_png, np.uint8), cv2.IMREAD_GRAYSCALE))
    level = np.minimum(grey.astype(np.float32) / (2 * MAP_THRESHOLD), 1)
    alpha = np.clip((level - FIRST_HEAT) / FIRST_HEAT, 0, 1)
    colours = cv2.cvtColor(heat_colours(level), cv2.COLOR_RGB2BGR)
    with_alpha = np.dstack([colours, (alpha * 255).astype(np.uint8)])
    encoded: bytes = cv2.imencode(".png", with_alpha)[1].tobytes()
    return encoded


def _bits(station: Station, name: ProductName) -> int:
    for product in station.loaded():
        if product.name == name:
            return product.detector.info.bits
    return 16
