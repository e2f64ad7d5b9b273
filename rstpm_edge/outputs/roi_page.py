"""A page to draw a ROI and a mask on: one HTML file with the photo in it, which loads nothing."""

import base64
import html
import json
import re
from importlib import resources

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.image.roi import Roi
from rstpm_edge.outputs.drawing import scaled

LARGEST = 2400  # pixels of the photo's longer side in the page; coordinates are those of the photo all the same


def page_of(photo: NDArray[np.uint8], name: str, roi: Roi | None = None) -> str:
    """The page for `photo` (H, W, 3) BGR; `roi` is drawn in."""
    height, width = photo.shape[:2]
    scale = min(LARGEST / max(height, width), 1.0)
    if scale < 1:
        photo = scaled(photo, scale)
    jpeg = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    facts = json.dumps({"width": width, "height": height, "roi": roi})
    template = resources.files("rstpm_edge.outputs").joinpath("roi_page.html").read_text(encoding="utf-8")
    values = {
        "NAME": html.escape(name),
        "FACTS": html.escape(facts),
        "PHOTO": "data:image/jpeg;base64," + base64.b64encode(jpeg).decode(),
    }
    return re.sub("@(NAME|FACTS|PHOTO)@", lambda found: values[found[1]], template)  # in one go: a name may hold a mark
