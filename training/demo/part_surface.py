"""The part of the demo before any light falls on it: a plate as it is drawn, with the marks of its machining.

Surfaces have twice the resolution of the picture and lie straight.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ..data.noise import Field, blur, float32, smooth_noise
from .part_defects import Surface, planes

_OVERSAMPLING = 2

# The drawing of the part. Lengths are in units of the picture's shorter side, the origin is its centre.
_PLATE = (0.43, 0.37)  # half width, half height
_CORNER = 0.06
_CHAMFER = 0.014
THICKNESS = 0.05
_BORE = (-0.09, -0.02, 0.095)  # x, y, radius
_SEAT = 0.165  # radius of the turned recess around the bore
_SEAT_DEPTH = 0.012
_SCREWS = [(x, y) for x in (-0.36, 0.36) for y in (-0.30, 0.30)]
_SCREW_BORE, _SCREW_HEAD = 0.02, 0.042
_SLOT = (0.25, -0.02, 0.028, 0.11)  # x, y, half width, half length between the centres of its ends
_SLOT_DEPTH = 0.03

# Linear reflectance, BGR as planes (3, 1, 1).
_ALUMINIUM = planes([0.83, 0.84, 0.84])
INK = planes([0.075, 0.065, 0.06])
_BELT = planes([0.055, 0.047, 0.036])


@lru_cache(maxsize=4)
def _drawing(size: tuple[int, int]) -> Surface:
    """The part as designed, without machining marks, on the belt; do not write into its arrays."""
    rows, columns = (length * _OVERSAMPLING for length in size)
    side = float(min(rows, columns))
    x = ((np.arange(columns, dtype=np.float32) - (columns - 1) / 2) / side)[None, :]
    y = ((np.arange(rows, dtype=np.float32) - (rows - 1) / 2) / side)[:, None]

    # Signed distances, negative inside the shape.
    right, below = np.abs(x) - _PLATE[0], np.abs(y) - _PLATE[1]
    rounded = np.hypot(np.maximum(right + _CORNER, 0), np.maximum(below + _CORNER, 0)) - _CORNER
    plate = np.where(rounded > -_CORNER, rounded, np.maximum(right, below))
    bore = np.hypot(x - _BORE[0], y - _BORE[1])
    slot = np.hypot(x - _SLOT[0], np.maximum(np.abs(y - _SLOT[1]) - _SLOT[3], 0)) - _SLOT[2]
    screw = np.minimum.reduce([np.hypot(x - sx, y - sy) for sx, sy in _SCREWS])

    height = -0.5 * np.clip(plate + _CHAMFER, 0, _CHAMFER)
    seat = -_SEAT_DEPTH * np.clip((_SEAT - bore) / 0.004, 0, 1)
    height = np.minimum(height, seat + 0.7 * np.clip(bore - _BORE[2] - 0.01, -0.01, 0))
    height = np.minimum(height, 0.7 * np.clip(screw - _SCREW_HEAD, -1, 0))
    height = np.minimum(height, -_SLOT_DEPTH * np.clip(-slot / 0.006, 0, 1))
    through = (plate > 0) | (bore < _BORE[2]) | (screw < _SCREW_BORE)
    height = float32(np.where(through, -THICKNESS, height) * side)
    metal = float32(~through)

    face = (plate < -0.03) & (bore > _SEAT + 0.02) & (slot > 0.02) & (screw > _SCREW_HEAD + 0.015)
    turned = ((bore < _SEAT) | (screw < _SCREW_HEAD))[..., None]
    centre_x = np.where(bore < _SEAT, _BORE[0], np.sign(x) * _SCREWS[-1][0])
    centre_y = np.where(bore < _SEAT, _BORE[1], np.sign(y) * _SCREWS[-1][1])
    around = np.stack([-(y - centre_y), x - centre_x], axis=-1)
    around /= np.maximum(np.linalg.norm(around, axis=-1, keepdims=True), 1e-6)
    tangent = np.where(turned, around, float32([1, 0]))  # the face is brushed from left to right
    return Surface(
        side=side,
        height=blur(height, 0.8),
        colour=metal * (_ALUMINIUM - _BELT) + _BELT,
        gloss=metal,
        ink=_artwork(rows, columns, side),
        groove=np.zeros_like(height),
        tangent=float32(tangent),
        face=face,
        rims=_rims(rows, columns, side),
    )


def _artwork(rows: int, columns: int, side: float) -> Field:
    """The print: a maker's mark, type and lot, and a data matrix; 0 to 1, (rows, columns)."""
    ink = np.zeros((rows, columns), np.uint8)

    def at(x: float, y: float) -> tuple[int, int]:
        return round(columns / 2 + x * side), round(rows / 2 + y * side)

    stroke = max(1, round(0.0065 * side))
    lines = [
        ("RSTPM", -0.065, -0.258, 0.0021, round(1.4 * stroke)),
        ("RX-2040", -0.27, 0.265, 0.0019, stroke),
        ("LOT 47A", -0.27, 0.33, 0.0016, stroke),
    ]
    for text, x, y, scale, weight in lines:
        cv2.putText(ink, text, at(x, y), cv2.FONT_HERSHEY_SIMPLEX, scale * side, 255, weight, cv2.LINE_AA)
    mark_x, mark_y = -0.12, -0.28
    cv2.circle(ink, at(mark_x, mark_y), round(0.036 * side), 255, stroke, cv2.LINE_AA)
    wedge = [at(mark_x + dx, mark_y + dy) for dx, dy in [(-0.02, 0.015), (0.0, -0.024), (0.02, 0.015)]]
    cv2.fillPoly(ink, [np.array(wedge)], 255, cv2.LINE_AA)

    cells = np.random.default_rng(2040).integers(0, 2, (12, 12), dtype=np.uint8)
    cells[:, 0] = cells[-1] = 1  # the finder pattern of a data matrix: two solid and two dashed sides
    cells[0, ::2], cells[0, 1::2], cells[1::2, -1], cells[::2, -1] = 1, 0, 1, 0
    cell = max(1, round(0.0095 * side))
    left, top = at(0.15, 0.215)
    ink[top : top + 12 * cell, left : left + 12 * cell] = np.kron(cells, np.full((cell, cell), 255, np.uint8))
    return blur(float32(ink / 255), 0.7)


def _rims(rows: int, columns: int, side: float) -> Field:
    """Points on the rims of holes and the edge of the plate, with the direction into the metal; (n, 4)."""
    turn = np.arange(0, 2 * np.pi, np.pi / 60)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    bore, seat = (np.hstack([circle * radius + _BORE[:2], circle]) for radius in (_BORE[2] + 0.006, _SEAT))
    screws = [np.hstack([circle[::5] * _SCREW_HEAD + centre, circle[::5]]) for centre in _SCREWS]
    half_width, half_height = _PLATE
    share, one = np.linspace(-0.85, 0.85, 40), np.ones(40)
    edges = [
        np.stack([half_width * share, sign * half_height * one, 0 * one, -sign * one], axis=1) for sign in (-1, 1)
    ] + [np.stack([sign * half_width * one, half_height * share, -sign * one, 0 * one], axis=1) for sign in (-1, 1)]
    rims = np.vstack([bore, seat, *screws, *edges])
    rims[:, :2] = rims[:, :2] * side + [(columns - 1) / 2, (rows - 1) / 2]
    return float32(rims)


def new_part(rng: np.random.Generator, size: tuple[int, int]) -> Surface:
    """A good part: the drawing with the machining marks, faint clouds and play of the print that all have."""
    drawing = _drawing(size)
    shape = drawing.height.shape
    metal = drawing.gloss
    cloudy = smooth_noise(rng, shape, 0.12 * drawing.side)
    rings, turned = _rings(size)
    tool = 0.05 * rng.standard_normal(rings.max() + 1, dtype=np.float32)
    groove = _brushed(rng, shape) * (0.062 + 0.006 * cloudy) * (1 - 0.4 * turned) + tool[rings] * turned
    belt = _rubber(rng, shape)
    shade = metal * (1 + 0.012 * cloudy) + (1 - metal) * (1 + 0.22 * belt)
    dx, dy = rng.normal(0, 0.0012 * drawing.side, 2)
    ink = float32(cv2.warpAffine(drawing.ink, float32([[1, 0, dx], [0, 1, dy]]), shape[::-1]))
    uneven = 0.93 + 0.04 * smooth_noise(rng, shape, 12)
    return replace(
        drawing,
        colour=drawing.colour * shade,
        gloss=metal * float32(0.92 - 0.02 * np.abs(smooth_noise(rng, shape, 0.08 * drawing.side))),
        ink=np.clip(ink * uneven, 0, 1),
        groove=groove * metal,
    )


def _brushed(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    """Marks of a brush from left to right: fine streaks of several lengths; (h, w), standard deviation 1."""
    height, width = shape
    streaks = np.zeros(shape, np.float32)
    for length, weight in [(12, 0.7), (60, 1.0), (240, 0.7)]:
        noise = rng.standard_normal((height, width // length + 4), dtype=np.float32)
        streaks += weight * float32(cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR))
    return float32(streaks / streaks.std())


@lru_cache(maxsize=4)
def _rings(size: tuple[int, int]) -> tuple[NDArray[np.int32], Field]:
    """Distance from the bore's centre, in whole pixels, and 1 where the metal is turned; (h, w) each."""
    drawing = _drawing(size)
    rows, columns = drawing.height.shape
    x = np.arange(columns) - (columns - 1) / 2 - _BORE[0] * drawing.side
    y = np.arange(rows) - (rows - 1) / 2 - _BORE[1] * drawing.side
    return np.hypot(x[None, :], y[:, None]).astype(np.int32), float32(drawing.tangent[..., 1] != 0)


def _rubber(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    """The belt's texture, mean 0: a fine pattern with grime on it."""
    down, across = (np.sin(np.arange(length) * (2 * np.pi / 9) + rng.uniform(0, 2 * np.pi)) for length in shape)
    weave = down[:, None] * across
    return float32(0.6 * weave + 0.6 * smooth_noise(rng, shape, 2.5) + 0.35 * smooth_noise(rng, shape, 60))
