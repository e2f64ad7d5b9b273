"""Photographs of a surface: its pose, light and shadow, lens and sensor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

from ..data.noise import Field, blur, float32
from .part_defects import Surface, planes
from .part_surface import INK, THICKNESS


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


def photograph(surface: Surface, shot: Shot) -> Field:
    """Linear radiance on the sensor before noise, (H, W, 3)."""
    # The part lies straight and the lamp turns instead.
    light = replace(shot.light, azimuth=shot.light.azimuth - shot.pose.angle)
    image = blur(project(_shade(surface, light), shot), shot.camera.defocus)
    return image * (shot.camera.exposure * _vignette(shot.size))[..., None]


def project(field: Field, shot: Shot) -> Field:
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
    colour = surface.colour * (1 - surface.ink) + INK * surface.ink
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
    walls = np.maximum(blur(half, 0.012 * surface.side) - half, 0) / (THICKNESS * surface.side)
    open_sky = 1 / (1 + 3.0 * walls)

    azimuth, rise = np.radians(light.azimuth), np.tan(np.radians(light.elevation))
    shadow = np.zeros_like(half)
    reach = (THICKNESS + 0.01) * surface.side / rise
    for step in reach * np.linspace(0.08, 1, 9) ** 1.3:
        matrix = float32([[1, 0, -np.cos(azimuth) * step / 2], [0, 1, -np.sin(azimuth) * step / 2]])
        towards = cv2.warpAffine(half, matrix, half.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
        # A lamp of some width: the penumbra grows with the distance to the edge that casts it.
        np.maximum(shadow, (float32(towards) - step * rise - half) / (1 + 0.25 * step) + 0.3, out=shadow)
    lit = blur(1 - np.clip(shadow, 0, 1), 1.0)
    full = surface.height.shape[::-1]
    return float32(cv2.resize(open_sky, full)), float32(cv2.resize(lit, full))


def tone(scene: Field) -> Field:
    """Grey levels 0 to 255 of linear radiance: a soft shoulder for the highlights, then gamma."""
    return float32(255 * (1 - np.exp(-1.7 * np.maximum(scene, 0))) ** (1 / 2.2))


def add_noise(scene: Field, camera: Camera, rng: np.random.Generator) -> Field:
    """Photon noise, which grows with the signal, and the noise of reading the sensor."""
    noise = rng.standard_normal(scene.shape, dtype=np.float32)
    return scene + noise * np.sqrt(camera.shot_noise * np.maximum(scene, 0) + camera.read_noise**2)
