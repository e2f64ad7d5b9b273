"""A synthetic inspection data set: one milled aluminium cover plate, good parts and six kinds of defect.

    write_dataset(Path("demo-data"))     # MVTec AD layout, about 170 pictures

For trying the whole chain without a data set of one's own, and for tests. A part is a height field with
colour, gloss and print (`Surface`); defects edit that; light, shadow, lens and sensor make a photograph of
it. Surfaces have twice the resolution of the picture and lie straight; the pose is applied after the light.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.atomic_files import new_file

from ..data.noise import Field, blur, float32, smooth_noise
from .part_defects import DEFECTS, Surface, planes

Image = NDArray[np.uint8]

DEFECT_KINDS: tuple[str, ...] = tuple(DEFECTS)

_OVERSAMPLING = 2
_MIN_CHANGE = 9.0  # grey levels: about four times the sensor noise, where a careful eye starts to see it
_MIN_CONTRAST = 17.0  # mean change over the mask; fainter defects are drawn again, stronger
_MIN_AREA = 3e-4  # of the shorter side squared: 30 pixels at 320

# The drawing of the part. Lengths are in units of the picture's shorter side, the origin is its centre.
_PLATE = (0.43, 0.37)  # half width, half height
_CORNER = 0.06
_CHAMFER = 0.014
_THICKNESS = 0.05
_BORE = (-0.09, -0.02, 0.095)  # x, y, radius
_SEAT = 0.165  # radius of the turned recess around the bore
_SEAT_DEPTH = 0.012
_SCREWS = [(x, y) for x in (-0.36, 0.36) for y in (-0.30, 0.30)]
_SCREW_BORE, _SCREW_HEAD = 0.02, 0.042
_SLOT = (0.25, -0.02, 0.028, 0.11)  # x, y, half width, half length between the centres of its ends
_SLOT_DEPTH = 0.03

# Linear reflectance, BGR as planes (3, 1, 1).
_ALUMINIUM = planes([0.83, 0.84, 0.84])
_INK = planes([0.075, 0.065, 0.06])
_BELT = planes([0.055, 0.047, 0.036])


@dataclass(frozen=True)
class Pose:
    """Where the part lies on the belt: degrees, shift in units of the shorter side, scale about 1."""

    angle: float
    shift: tuple[float, float]
    scale: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Pose:
        """As a feeder with some play would place it."""
        shift = rng.normal(0, 0.008, 2)
        return cls(rng.uniform(-2.5, 2.5), (float(shift[0]), float(shift[1])), 1 + rng.normal(0, 0.007))


@dataclass(frozen=True)
class Light:
    """One lamp near the part and the diffuse surroundings; BGR colours, relative to white 1."""

    azimuth: float  # degrees, in the picture; 0 is from the right, 90 from below
    elevation: float  # degrees above the belt
    distance: float  # from the centre of the part, in units of the shorter side
    key: Field  # (3, 1, 1) radiance of the lamp
    fill: Field  # (3, 1, 1) radiance of the surroundings

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Light:
        """As a station's lamp drifts and is bumped: a few degrees, some ten percent, a slight tint."""
        warmth = rng.normal(0, 0.02)
        white_balance = planes([1 - warmth, 1 + rng.normal(0, 0.006), 1 + warmth])
        level = np.exp(rng.normal(0, 0.06))
        return cls(
            azimuth=rng.normal(-112, 6),
            elevation=rng.normal(52, 2.5),
            distance=rng.uniform(1.4, 1.7),
            key=float32(level * white_balance * planes([0.97, 1.0, 1.02])),
            fill=float32(level * rng.uniform(0.9, 1.1) * white_balance * planes([1.04, 1.0, 0.97])),
        )


@dataclass(frozen=True)
class Camera:
    """Lens and sensor."""

    defocus: float  # blur sigma in pixels of the picture
    exposure: float
    shot_noise: float  # variance per unit of linear signal
    read_noise: float  # standard deviation, linear signal

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Camera:
        """A sharp industrial camera, sometimes slightly out of focus."""
        return cls(rng.uniform(0.25, 0.65), float(np.exp(rng.normal(0, 0.02))), 1.2e-4, 0.0025)


@dataclass(frozen=True)
class Shot:
    """All that a photograph depends on besides the part."""

    size: tuple[int, int]  # of the picture: height, width
    pose: Pose
    light: Light
    camera: Camera


def render_part(
    seed: int | np.random.Generator, *, size: tuple[int, int] = (320, 320), defect: str | None = None
) -> tuple[Image, Image]:
    """Photograph one part: the image, uint8 (H, W, 3) BGR, and the defect's mask, uint8 (H, W), 0 or 255.

    The same integer seed gives the same part, pose, light and noise with any `defect`, or with none. A
    generator gives a new part at each call. `size` is (height, width).
    """
    if defect is not None and defect not in DEFECTS:
        raise ValueError(f"unknown defect {defect!r}; choose from {', '.join(DEFECT_KINDS)}")
    if min(size) < 128:
        raise ValueError(f"size is {size}; a scratch needs at least 128 pixels each way to show")
    part_rng, scene_rng, defect_rng, noise_rng = np.random.default_rng(seed).spawn(4)
    surface = _new_part(part_rng, size)
    shot = Shot(size, Pose.draw(scene_rng), Light.draw(scene_rng), Camera.draw(scene_rng))
    scene = _photograph(surface, shot)
    mask = np.zeros(size, np.uint8)
    if defect is not None:
        scene, mask = _spoil(surface, scene, shot, defect, defect_rng)
    return np.rint(_tone(_add_noise(scene, shot.camera, noise_rng))).astype(np.uint8), mask


def write_dataset(
    folder: Path,
    *,
    seed: int = 0,
    train: int = 120,
    test_good: int = 20,
    test_per_kind: int = 5,
    size: tuple[int, int] = (320, 320),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write a data set in MVTec AD layout: train/good, test/good, test/KIND, ground_truth/KIND.

    A picture depends on the seed, its folder and its number alone: asking for more leaves the others alone. `progress`
    gets (done, total) after each.
    """
    done, total = 0, train + test_good + test_per_kind * len(DEFECT_KINDS)
    groups = [("train", "good", train), ("test", "good", test_good)]
    groups += [("test", kind, test_per_kind) for kind in DEFECT_KINDS]
    for split, kind, count in groups:
        for index in range(count):
            rng = np.random.default_rng([seed, zlib.crc32(f"{split}/{kind}".encode()), index])
            image, mask = render_part(rng, size=size, defect=None if kind == "good" else kind)
            _write(folder / split / kind / f"{index:03}.png", image)
            if kind != "good":
                _write(folder / "ground_truth" / kind / f"{index:03}_mask.png", mask)
            done += 1
            progress(done, total)


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
    height = float32(np.where(through, -_THICKNESS, height) * side)
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


def _new_part(rng: np.random.Generator, size: tuple[int, int]) -> Surface:
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


def _photograph(surface: Surface, shot: Shot) -> Field:
    """Linear radiance on the sensor before noise, (H, W, 3)."""
    # The part lies straight and the lamp turns instead.
    light = replace(shot.light, azimuth=shot.light.azimuth - shot.pose.angle)
    image = blur(_project(_shade(surface, light), shot), shot.camera.defocus)
    return image * (shot.camera.exposure * _vignette(shot.size))[..., None]


def _project(field: Field, shot: Shot) -> Field:
    """A field on the surface as the camera sees it: in the part's pose, at the picture's resolution."""
    height, width = field.shape[:2]
    # cv2 turns anticlockwise for positive angles; ours are clockwise, as azimuths are with y down.
    centre = ((width - 1) / 2, (height - 1) / 2)
    matrix = np.array(cv2.getRotationMatrix2D(centre, -shot.pose.angle, shot.pose.scale))
    matrix[:, 2] += np.multiply(shot.pose.shift, min(height, width))
    large = cv2.warpAffine(field, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    return float32(cv2.resize(large, shot.size[::-1], interpolation=cv2.INTER_AREA))


@lru_cache(maxsize=4)
def _vignette(size: tuple[int, int]) -> Field:
    y, x = (np.linspace(-1, 1, length, dtype=np.float32) for length in size)
    return 1 - 0.07 * (x[None, :] ** 2 + y[:, None] ** 2)


def _shade(surface: Surface, light: Light) -> Field:
    """Radiance towards the camera straight above, linear BGR (h, w, 3)."""
    slope_x = float32(cv2.Sobel(surface.height, cv2.CV_32F, 1, 0, ksize=1, scale=0.5))
    slope_y = float32(cv2.Sobel(surface.height, cv2.CV_32F, 0, 1, ksize=1, scale=0.5))
    along_x, along_y = surface.tangent[..., 0], surface.tangent[..., 1]
    groove = surface.groove * (1 - 0.75 * surface.ink)  # ink fills the marks
    slope_x -= groove * along_y
    slope_y += groove * along_x
    steep = 1 / np.sqrt(1 + slope_x**2 + slope_y**2)

    lamp_x, lamp_y, lamp_z, near = _lamp(surface, light)
    lambert = np.maximum(lamp_z - slope_x * lamp_x - slope_y * lamp_y, 0) * steep
    # A facet mirrors the lamp into the camera when it slopes by -lamp / (1 + lamp_z). Facets scatter around
    # the local slope, far across the machining marks and little along them: an anisotropic GGX lobe.
    away_x = slope_x + lamp_x / (1 + lamp_z)
    away_y = slope_y + lamp_y / (1 + lamp_z)
    along = away_x * along_x + away_y * along_y
    across = away_y * along_x - away_x * along_y
    lobe = 1 / (1 + (along / 0.18) ** 2 + (across / 0.40) ** 2) ** 2
    # Surroundings: bright above, darker to the sides, brightest towards the lamp.
    skew = -(slope_x * lamp_x + slope_y * lamp_y) * steep
    sky = (0.25 + 0.75 * steep**4) * (1 + 0.45 * skew)

    open_sky, lit = _occlusion(surface, light)
    direct = near * lit
    shine = surface.gloss * (1 - 0.85 * surface.ink)
    mirror_key, mirror_fill = shine * (1.3 * lobe * direct), shine * (0.13 * sky * open_sky)
    matt = 1 - 0.8 * shine
    matt_key, matt_fill = matt * (0.55 * lambert * direct), matt * (0.22 * open_sky)
    key, fill = mirror_key + matt_key, mirror_fill + matt_fill
    colour = surface.colour * (1 - surface.ink) + _INK * surface.ink
    return float32(cv2.merge(list(colour * (key * light.key + fill * light.fill))))


def _lamp(surface: Surface, light: Light) -> tuple[Field, Field, Field, Field]:
    """Unit vector to the lamp at each pixel, x, y, z, and the lamp's relative strength there; (h, w) each."""
    azimuth, elevation = np.radians(light.azimuth), np.radians(light.elevation)
    rows, columns = surface.height.shape
    x = (np.arange(columns, dtype=np.float32) - (columns - 1) / 2) / surface.side
    y = (np.arange(rows, dtype=np.float32) - (rows - 1) / 2) / surface.side
    to_x = np.float32(light.distance * np.cos(elevation) * np.cos(azimuth)) - x[None, :]
    to_y = np.float32(light.distance * np.cos(elevation) * np.sin(azimuth)) - y[:, None]
    to_z = np.float32(light.distance * np.sin(elevation))
    inverse = 1 / np.sqrt(to_x**2 + to_y**2 + to_z**2)
    return to_x * inverse, to_y * inverse, to_z * inverse, (light.distance * inverse) ** 2


def _occlusion(surface: Surface, light: Light) -> tuple[Field, Field]:
    """How open each point is to the surroundings, and to the lamp: 0 to 1, (h, w) each."""
    half = float32(cv2.resize(surface.height, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    walls = np.maximum(blur(half, 0.012 * surface.side) - half, 0) / (_THICKNESS * surface.side)
    open_sky = 1 / (1 + 3.0 * walls)

    azimuth, rise = np.radians(light.azimuth), np.tan(np.radians(light.elevation))
    shadow = np.zeros_like(half)
    reach = (_THICKNESS + 0.01) * surface.side / rise
    for step in reach * np.linspace(0.08, 1, 9) ** 1.3:
        matrix = float32([[1, 0, -np.cos(azimuth) * step / 2], [0, 1, -np.sin(azimuth) * step / 2]])
        towards = cv2.warpAffine(half, matrix, half.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
        # A lamp of some width: the penumbra grows with the distance to the edge that casts it.
        np.maximum(shadow, (float32(towards) - step * rise - half) / (1 + 0.25 * step) + 0.3, out=shadow)
    lit = blur(1 - np.clip(shadow, 0, 1), 1.0)
    full = surface.height.shape[::-1]
    return float32(cv2.resize(open_sky, full)), float32(cv2.resize(lit, full))


def _spoil(surface: Surface, good: Field, shot: Shot, kind: str, rng: np.random.Generator) -> tuple[Field, Image]:
    """The photograph with a defect, and the mask of it; drawn again, stronger, until it can be seen."""
    before = _tone(good)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
    for strength in 1.25 ** np.arange(12):
        spoilt, support = DEFECTS[kind](surface, rng, float(strength))
        scene = _photograph(spoilt, shot)
        near = _project(support, shot) > 0.25
        change = np.abs(_tone(scene) - before).max(axis=2)
        seen = (change > _MIN_CHANGE) & near
        # Closed, because a defect includes what lies between its edges; an outline of a dent is not the dent.
        mask = np.asarray(cv2.morphologyEx(seen.astype(np.uint8), cv2.MORPH_CLOSE, kernel), np.uint8)
        mask &= near.astype(np.uint8)
        if mask.sum() >= _MIN_AREA * min(shot.size) ** 2 and change[mask > 0].mean() >= _MIN_CONTRAST:
            return scene, mask * np.uint8(255)
    raise RuntimeError(f"could not draw a visible {kind}")


def _tone(scene: Field) -> Field:
    """Grey levels 0 to 255 of linear radiance: a soft shoulder for the highlights, then gamma."""
    return float32(255 * (1 - np.exp(-1.7 * np.maximum(scene, 0))) ** (1 / 2.2))


def _add_noise(scene: Field, camera: Camera, rng: np.random.Generator) -> Field:
    """Photon noise, which grows with the signal, and the noise of reading the sensor."""
    noise = rng.standard_normal(scene.shape, dtype=np.float32)
    return scene + noise * np.sqrt(camera.shot_noise * np.maximum(scene, 0) + camera.read_noise**2)


def _write(path: Path, image: Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    done, encoded = cv2.imencode(".png", image)
    if not done:
        raise OSError(f"could not encode {path}")
    with new_file(path) as file:
        file.write(encoded.tobytes())
