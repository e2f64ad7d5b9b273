"""What can go wrong with the part that `part` renders: six kinds of defect.

A defect edits the surface (its height, colour, gloss or print) before any light falls on it, so that its look
follows from the light like everything else in the picture. Each function takes the good surface, a random
generator and a `strength` (1 is normal; the caller raises it when the defect would be too faint to see), and
returns the spoilt surface with the `support`: where it may have changed, as a float mask.

Coordinates and heights are in pixels of the surface, x to the right and y down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..data.noise import Field, blur, float32, smooth_noise

Defect = Callable[["Surface", np.random.Generator, float], tuple["Surface", Field]]

_SUBPIXEL_BITS = 4  # cv2 draws at fixed-point positions; whole pixels would make thin curves wobble


@dataclass(frozen=True)
class Surface:
    """The part from straight above, before light and camera. Fields are float32 (h, w) unless noted."""

    side: float  # pixels per unit of length; one unit is the shorter side of the picture
    height: Field  # 0 on the plate's face, negative below it
    colour: Field  # (3, h, w) linear BGR reflectance without the print
    gloss: Field  # 0 matt paint, 1 bare metal
    ink: Field  # 0 bare, 1 printed
    groove: Field  # (h, w) height gradient across the machining marks
    tangent: Field  # (h, w, 2) unit vector along the machining marks
    face: NDArray[np.bool_]  # flat metal, a little away from every edge
    rims: Field  # (n, 4) points on rims and edges: x, y, and the unit vector into the metal


def planes(colour: list[float]) -> Field:
    """A BGR colour as (3, 1, 1), to paint (h, w) fields with."""
    return float32(colour).reshape(3, 1, 1)


def scratch(surface: Surface, rng: np.random.Generator, strength: float) -> tuple[Surface, Field]:
    """A thin curved groove with material thrown up on both sides."""
    start = _point_on_face(surface, rng)
    length = surface.side * rng.uniform(0.08, 0.34)
    points = _arc(start, rng.uniform(0, 2 * np.pi), length, bend=rng.uniform(-0.8, 0.8))
    width = surface.side * rng.uniform(0.0026, 0.0045)
    pressure = np.sqrt(np.sin(np.linspace(0.15, np.pi - 0.35, len(points))))  # set down and lifted off gently
    groove = np.zeros_like(surface.height)
    _draw(groove, points, width, pressure)
    groove = blur(groove, 0.25 * width) * _above_holes(surface)
    raised = blur(groove, 0.8 * width)
    relief = float32(strength * 1.1 * width * (groove - 0.8 * raised))
    return (
        replace(
            surface,
            height=surface.height - relief,
            ink=surface.ink * (1 - groove),
            groove=surface.groove * (1 - groove),  # the tool mark is gone where the scratch has ploughed
        ),
        _widen(groove > 0.2, 0.5 * width),
    )


def dent(surface: Surface, rng: np.random.Generator, strength: float) -> tuple[Surface, Field]:
    """An oval hollow with a low raised rim, from a blow."""
    x, y = _point_on_face(surface, rng)
    long, short = surface.side * rng.uniform(0.012, 0.032) * np.array([1.0, rng.uniform(0.6, 1.0)])
    turn = rng.uniform(0, np.pi)
    columns, rows = _offsets(surface, x, y)
    along = (np.cos(turn) * columns + np.sin(turn) * rows) / long
    across = (np.cos(turn) * rows - np.sin(turn) * columns) / short
    square = float32(along**2 + across**2)
    square *= 1 + 0.08 * smooth_noise(rng, surface.height.shape, 1.5 * short)
    bowl = np.exp(-0.5 * np.maximum(square, 0) ** 1.4)  # steeper walls than a Gaussian's, as from a hard edge
    depth = strength * rng.uniform(0.3, 0.55) * short
    profile = float32(bowl - 0.2 * np.exp(-0.5 * ((np.sqrt(np.maximum(square, 0)) - 1.9) / 0.4) ** 2))
    return (
        replace(
            surface,
            height=surface.height - float32(depth * profile) * _above_holes(surface),
            groove=surface.groove * float32(1 - 0.6 * bowl),
        ),
        float32(square < 2.2**2),
    )


def crack(surface: Surface, rng: np.random.Generator, strength: float) -> tuple[Surface, Field]:
    """A dark ragged line that starts at a hole or an edge, and may branch."""
    x, y, inward_x, inward_y = surface.rims[rng.integers(len(surface.rims))]
    heading = np.arctan2(inward_y, inward_x) + rng.uniform(-0.5, 0.5)
    length = surface.side * rng.uniform(0.06, 0.2)
    width = surface.side * rng.uniform(0.003, 0.0055) * min(strength, 2.0)
    gap = np.zeros_like(surface.height)
    trunk = _ragged(rng, np.array([x, y]), heading, length)
    _draw(gap, trunk, width, np.linspace(1.0, 0.45, len(trunk)))
    for _ in range(rng.integers(0, 3)):
        fork = rng.integers(len(trunk) // 4, len(trunk))
        turn = rng.choice([-1, 1]) * rng.uniform(0.4, 0.9)
        branch = _ragged(rng, trunk[fork], heading + turn, length * rng.uniform(0.2, 0.45))
        _draw(gap, branch, 0.7 * width, np.linspace(0.8, 0.4, len(branch)))
    gap *= _above_holes(surface)
    lip = blur(gap, 1.2 * width)
    return (
        replace(
            surface,
            height=surface.height - 1.5 * width * gap + 0.5 * width * lip,
            colour=surface.colour * (1 - 0.93 * np.minimum(gap * strength, 1)),
        ),
        _widen(gap > 0.2, 0.5 * width),
    )


def stain(surface: Surface, rng: np.random.Generator, strength: float) -> tuple[Surface, Field]:
    """A translucent patch of dried oil or of rust."""
    x, y = _point_on_face(surface, rng)
    radius = surface.side * rng.uniform(0.025, 0.085)
    shape = surface.height.shape
    columns, rows = _offsets(surface, x, y)
    inside = 1 - np.hypot(columns, rows * rng.uniform(0.8, 1.5)) / radius
    inside = float32(inside + 0.22 * smooth_noise(rng, shape, 0.9 * radius))
    inside += 0.07 * smooth_noise(rng, shape, 0.25 * radius)
    rust = rng.random() < 0.5
    if rust:  # eats in from many points: mottled, soft at the edge, matt
        mottle = 0.7 + 0.25 * smooth_noise(rng, shape, 6) + 0.25 * smooth_noise(rng, shape, 17)
        film = np.clip(2.2 * inside, 0, 1) * np.clip(mottle, 0.1, 1)
        tint, matt = planes([0.05, 0.16, 0.40]), 0.75
    else:  # dries from the outside in: a thin even film, darker along its edge
        film = np.clip(9 * inside, 0, 1) * (0.55 + 0.45 * np.exp(-np.maximum(inside, 0) / 0.12))
        tint, matt = planes([0.20, 0.42, 0.55]), 0.3
    film = np.minimum(film * strength * rng.uniform(0.65, 1.0), 1) * _above_holes(surface)
    return (
        replace(
            surface,
            colour=surface.colour * (1 - film * (1 - tint)),
            gloss=surface.gloss * (1 - matt * film),
        ),
        float32(film > 0.08),
    )


def missing_print(surface: Surface, rng: np.random.Generator, strength: float) -> tuple[Surface, Field]:
    """Part of the print not transferred, or wiped while it was wet."""
    rows, columns = np.nonzero(surface.ink > 0.5)
    picked = rng.integers(len(rows))
    x, y = columns[picked], rows[picked]
    radius = surface.side * rng.uniform(0.035, 0.08)
    far_x, far_y = _offsets(surface, x, y)
    ragged = 0.2 * smooth_noise(rng, surface.height.shape, 0.5 * radius)
    region = float32(np.clip(6 * (1 - np.hypot(far_x, 1.5 * far_y) / radius + ragged), 0, 1))
    region = blur(region, 1.0)
    if rng.random() < 0.6:
        left_over = 0.12 / strength
        ink = surface.ink * (1 - region * (1 - left_over))
    else:
        reach = 2 * round(surface.side * rng.uniform(0.015, 0.03)) + 1
        smear = float32(cv2.blur(surface.ink, (reach, 1)))
        smear = float32(cv2.blur(smear, (reach // 2, 3)))
        region = blur(region, 0.15 * reach)
        ink = surface.ink * (1 - region) + smear * region * 0.8
    changed = float32(np.abs(ink - surface.ink) > 0.15)
    return replace(surface, ink=float32(ink)), changed


def burr(surface: Surface, rng: np.random.Generator, strength: float) -> tuple[Surface, Field]:
    """Torn material at a rim or edge: broken out, or pushed up over the hole."""
    x, y, inward_x, inward_y = surface.rims[rng.integers(len(surface.rims))]
    radius = surface.side * rng.uniform(0.017, 0.038) * min(strength, 1.6)
    far_x, far_y = _offsets(surface, x, y)
    depth_in = far_x * inward_x + far_y * inward_y  # how far into the metal
    sideways = far_y * inward_x - far_x * inward_y
    jagged = smooth_noise(rng, surface.height.shape, 0.6 * radius)
    facets = smooth_noise(rng, surface.height.shape, 0.4 * radius)
    if rng.random() < 0.5:  # a bite out of the rim, broken rough
        reach = 1 - np.hypot(depth_in, sideways * 0.8) / radius + 0.2 * jagged
        bite = np.clip(3 * reach, 0, 1) * _above_holes(surface)
        change = -bite * radius * (0.45 + 0.12 * facets)
    else:  # a ragged lip that stands up and hangs over the hole
        reach = 1 - np.hypot(2.4 * (depth_in + 0.1 * radius), 0.6 * sideways) / radius + 0.25 * jagged
        bite = np.clip(3 * reach, 0, 1)
        lip = radius * (0.16 + 0.07 * facets)
        change = bite * (np.maximum(surface.height, lip) - surface.height)
    bite = float32(bite)
    metal = planes([0.80, 0.82, 0.83])  # fresh fracture, brighter than the machined face around it
    return (
        replace(
            surface,
            height=surface.height + float32(change),
            colour=surface.colour * (1 - bite) + metal * bite,
            gloss=np.maximum(surface.gloss, 0.9 * bite),
            groove=surface.groove * (1 - bite) + 0.3 * bite * facets,
        ),
        float32(bite > 0.15),
    )


DEFECTS: dict[str, Defect] = {
    "scratch": scratch,
    "dent": dent,
    "crack": crack,
    "stain": stain,
    "missing_print": missing_print,
    "burr": burr,
}


def _point_on_face(surface: Surface, rng: np.random.Generator) -> tuple[float, float]:
    rows, columns = np.nonzero(surface.face)
    picked = rng.integers(len(rows))
    return float(columns[picked]), float(rows[picked])


def _offsets(surface: Surface, x: float, y: float) -> tuple[Field, Field]:
    """Distances from (x, y): a row (1, w) to the right and a column (h, 1) down; they broadcast."""
    height, width = surface.height.shape
    columns = np.arange(width, dtype=np.float32)[None, :] - np.float32(x)
    rows = np.arange(height, dtype=np.float32)[:, None] - np.float32(y)
    return columns, rows


def _above_holes(surface: Surface) -> Field:
    """1 on metal near the face, 0 in holes and beside the part: nothing marks the air."""
    above = surface.height / surface.side + 0.022  # below every chamfer, above the floors of holes and slot
    return float32(np.clip(1 + above / 0.004, 0, 1))


def _arc(start: tuple[float, float], heading: float, length: float, bend: float) -> NDArray[np.float64]:
    """Points (n, 2) along a curve around `start`; it turns by `bend` radians, more towards its end."""
    share = np.linspace(0, 1, 32)
    angles = heading + bend * share**2
    steps = np.stack([np.cos(angles), np.sin(angles)], axis=1) * (length / len(share))
    path = np.cumsum(steps, axis=0)
    return np.asarray(path - path[len(path) // 2] + start)


def _ragged(rng: np.random.Generator, start: NDArray[np.float64], heading: float, length: float) -> NDArray[np.float64]:
    """Points (n, 2) of a walk that keeps its heading on the whole and kinks on the way, as cracks do."""
    kinks = 14
    angles = heading + rng.normal(0, 0.45, kinks)
    lengths = rng.uniform(0.4, 1.6, kinks) * length / kinks
    steps = np.stack([np.cos(angles), np.sin(angles)], axis=1) * lengths[:, None]
    return np.vstack([start, start + np.cumsum(steps, axis=0)])


def _draw(field: Field, points: NDArray[np.float64], width: float, weight: NDArray[np.float64]) -> None:
    """Draw a line of changing width and weight into `field`, in place."""
    fixed = np.round(points * 2**_SUBPIXEL_BITS).astype(int)
    for start, end, share in zip(fixed[:-1], fixed[1:], weight, strict=False):
        stroke = max(1, round(width * share))
        cv2.line(field, start.tolist(), end.tolist(), float(share), stroke, cv2.LINE_8, _SUBPIXEL_BITS)


def _widen(region: NDArray[np.bool_], reach: float) -> Field:
    size = 2 * max(1, round(reach)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return float32(cv2.dilate(region.astype(np.uint8), kernel))
