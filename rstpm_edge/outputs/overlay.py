"""A picture of a verdict for people: the photo, the photo with its anomalies, and the numbers."""

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.outputs.drawing import (
    ANOMALOUS,
    BACKGROUND,
    FAINT,
    FONT,
    INVALID,
    LARGE,
    MEDIUM,
    NORMAL,
    SMALL,
    TEXT,
    Colour,
    Image,
    heat_colours,
    scaled,
    shortened,
    text_width,
)
from rstpm_edge.result import Region, Result

PANEL_MIN = 384  # a small photo is enlarged to this height, so that the marks on it can be told apart
PANEL_MAX = 800  # longest side of a panel; two of them still fit a screen
CANVAS_MIN = 680  # the header's text needs this width
MARGIN = 12
HEADER, FOOTER = 76, 46
MAX_BOXES = 20  # more of them would hide the part


def draw_overlay(image: Image, result: Result, *, name: str = "") -> Image:
    """Draw `result` for `image` (H, W, 3) uint8 RGB; gives (H', W', 3) uint8 RGB of a handy size.

    Photo first, then the photo with a heat map, contours and boxes of the regions, side by side or, for a
    wide image, one above the other. Colours mean the same in every picture of one model: transparent at the
    score of a typical good image, the middle of the scale at the threshold.
    """
    photo = _panel(image)
    height, width = photo.shape[:2]
    marked = draw_marks(photo, result, image.shape[1])
    stacked = width > 2 * height
    gap = np.full((MARGIN, width, 3) if stacked else (height, MARGIN, 3), BACKGROUND, np.uint8)
    panels = np.concatenate([photo, gap, marked], axis=0 if stacked else 1)

    canvas_width = max(panels.shape[1] + 2 * MARGIN, CANVAS_MIN)
    canvas = np.full((HEADER + panels.shape[0] + FOOTER, canvas_width, 3), BACKGROUND, np.uint8)
    left = (canvas_width - panels.shape[1]) // 2
    canvas[HEADER : HEADER + panels.shape[0], left : left + panels.shape[1]] = panels
    _draw_header(canvas, result, name)
    _draw_scale(canvas, result)
    return canvas


def encode_overlay(image: Image, result: Result, *, name: str = "") -> bytes:
    """`draw_overlay` as a PNG file."""
    overlay = cv2.cvtColor(draw_overlay(image, result, name=name), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", overlay)[1].tobytes()


def draw_marks(photo: Image, result: Result, image_width: int) -> Image:
    """The heat map, contours and boxes alone, on a `photo` (H, W, 3) of any size; gives one of the same size.

    `image_width` is that of the image which was judged: regions are in its pixels.
    """
    height, width = photo.shape[:2]
    anomaly = result.resized_map(height, width)
    level = _level(anomaly, result)
    heat = heat_colours(level)
    # Nothing up to half way to the threshold, so that good parts of the photo stay as they are.
    alpha = (0.5 * np.clip((level - 0.25) / 0.25, 0, 1))[..., None]
    marked: Image = (photo * (1 - alpha) + heat * alpha + 0.5).astype(np.uint8)
    (top, bottom), (left, right) = result.judged_part(height, width)
    outside = np.ones((height, width), np.bool_)
    outside[top:bottom, left:right] = False
    marked[outside] //= 2  # what was not judged recedes

    # The score, not the map, is judged: on a normal image an outline would say that something was found. Nor was it on
    # an invalid one.
    anomalous = result.verdict == "anomalous"
    found = (anomaly > result.threshold) & anomalous
    contours, _ = cv2.findContours(found.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    for colour, thickness in ((BACKGROUND, 3), (TEXT, 1)):  # a light line with a dark rim shows on any part
        cv2.drawContours(marked, contours, -1, colour, thickness, cv2.LINE_AA)
        for region in result.regions[:MAX_BOXES] if anomalous else ():
            _draw_box(marked, region, width / image_width, colour, thickness)
    return marked


def _panel(image: Image) -> Image:
    height, width = image.shape[:2]
    return scaled(image, min(max(PANEL_MIN / height, 1.0), PANEL_MAX / max(height, width)))


def _draw_box(canvas: Image, region: Region, scale: float, colour: Colour, thickness: int) -> None:
    x, y, width, height = (value * scale for value in region.box)
    room = 4  # between the contour and its box
    corner = (max(round(x) - room, 0), max(round(y) - room, 0))
    opposite = (
        min(round(x + width) + room, canvas.shape[1] - 1),
        min(round(y + height) + room, canvas.shape[0] - 1),
    )
    cv2.rectangle(canvas, corner, opposite, colour, thickness)


def _level(anomaly: NDArray[np.float32], result: Result) -> NDArray[np.float32]:
    """0 at the score of a typical good image, 0.5 at the threshold, clipped to 0…1."""
    level = 0.5 + (anomaly - result.threshold) / (2 * result.span)
    return np.asarray(np.clip(level, 0, 1), np.float32)


def _draw_header(canvas: Image, result: Result, name: str) -> None:
    verdict = result.verdict
    colour = {"anomalous": ANOMALOUS, "normal": NORMAL, "invalid": INVALID}[verdict]
    canvas[: HEADER - MARGIN, :6] = colour
    if verdict == "invalid":
        cv2.rectangle(canvas, (18, 12), (55, 49), colour, -1, cv2.LINE_AA)
        cv2.line(canvas, (27, 31), (46, 31), TEXT, 3, cv2.LINE_AA)
    elif verdict == "anomalous":
        triangle = np.array([[36, 12], [56, 48], [16, 48]], np.int32)
        cv2.fillPoly(canvas, [triangle], colour, cv2.LINE_AA)
        cv2.line(canvas, (36, 24), (36, 36), TEXT, 3, cv2.LINE_AA)
        cv2.circle(canvas, (36, 43), 2, TEXT, -1, cv2.LINE_AA)
    else:
        cv2.circle(canvas, (36, 31), 19, colour, -1, cv2.LINE_AA)
        tick = np.array([[27, 31], [34, 38], [46, 24]], np.int32)
        cv2.polylines(canvas, [tick], False, TEXT, 3, cv2.LINE_AA)
    right = _write(canvas, verdict.upper(), 68, 28, LARGE, TEXT, 2)
    facts = result.invalid_reason or (
        f"score {result.score:.4g}   threshold {result.threshold:.4g}   p-value {result.p_value:.2g}   "
        f"regions {len(result.regions)}"
    )
    _write(canvas, facts, right + 18, 28, MEDIUM, TEXT)
    _write(canvas, name, 68, 52, MEDIUM, FAINT)


def _draw_scale(canvas: Image, result: Result) -> None:
    width, thick = 280, 8
    left, top = canvas.shape[1] - MARGIN - width, canvas.shape[0] - FOOTER + MARGIN
    ramp = np.linspace(0, 1, width, dtype=np.float32)[None].repeat(thick, axis=0)
    canvas[top : top + thick, left : left + width] = heat_colours(ramp)
    middle = left + width // 2
    cv2.line(canvas, (middle, top - 3), (middle, top + thick + 2), TEXT, 1)
    low, high = result.threshold - result.span, result.threshold + result.span
    labels = (f"typical {low:.3g}", f"threshold {result.threshold:.3g}", f"{high:.3g}")
    for label, place in zip(labels, (0, 0.5, 1), strict=True):
        (size, _), _ = cv2.getTextSize(label, FONT, SMALL, 1)
        _write(canvas, label, left + round(place * (width - size)), top + thick + 15, SMALL, FAINT)


def _write(canvas: Image, text: str, x: int, y: int, scale: float, colour: Colour, thickness: int = 1) -> int:
    """Write `text`, shortened to what fits, with its baseline at y; gives the x where it ends."""
    text = shortened(text, canvas.shape[1] - MARGIN - x, scale, thickness)
    cv2.putText(canvas, text, (x, y), FONT, scale, colour, thickness, cv2.LINE_AA)
    return x + text_width(text, scale, thickness)
