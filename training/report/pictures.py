"""Small pictures for the report, as data URIs: photo, overlay, ground truth and the six maps."""

import base64
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.image.decode import read_image
from rstpm_edge.image.roi import crop
from rstpm_edge.outputs.drawing import Colour, Image, heat_colours, scaled, scaled_size
from rstpm_edge.outputs.overlay import draw_marks

from ..evaluation.predict import Predictions

PANEL, MAP, THUMBNAIL = 340, 140, 150  # longest sides in pixels
GAP, GAP_COLOUR = 6, 235  # between the two halves of a thumbnail
JPEG_QUALITY = 82
CONTOUR: Colour = (86, 180, 233)  # sky blue: apart from the heat map's colours, for colour-blind eyes too


@dataclass(frozen=True)
class EmbeddedPicture:
    """An image file as a data URI, and its size in pixels."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Views:
    """One test image as the report shows it in detail. `truth` is None where there is no mask to show."""

    photo: EmbeddedPicture
    overlay: EmbeddedPicture
    truth: EmbeddedPicture | None
    maps: tuple[EmbeddedPicture, ...]  # six, in the order of Bundle.map_names

    @property
    def size(self) -> int:
        """Bytes that the pictures take in the report."""
        pictures = (self.photo, self.overlay, *self.maps, *([self.truth] if self.truth else []))
        return sum(len(picture.uri) for picture in pictures)


class Painter:
    """Draws images of some predictions; each photo is read when it is drawn."""

    def __init__(self, predictions: Predictions) -> None:
        self._predictions = predictions
        self._score = predictions.scorer(predictions.bundle.fusion, predictions.bundle.score_fusion)
        self._maps = [(one, *_scale(one, predictions)) for one in predictions.outputs.anomaly_maps.six]

    def views(self, i: int) -> Views:
        """Everything about image i. Raises ImageError where its photo can no longer be read."""
        photo, overlay = self._photo_and_overlay(i)
        mask = self._predictions.masks[i]
        marked = self._predictions.images[i].is_defective and mask is not None
        return Views(
            photo=jpeg(photo),
            overlay=jpeg(overlay),
            truth=jpeg(_outlined(photo, mask)) if marked and mask is not None else None,
            maps=tuple(jpeg(self._map(*drawn, i)) for drawn in self._maps),
        )

    def thumbnail(self, i: int) -> EmbeddedPicture:
        """Photo and overlay of image i in one picture, side by side or, for a wide image, one above the other."""
        halves = [scaled(panel, THUMBNAIL / max(panel.shape[:2])) for panel in self._photo_and_overlay(i)]
        height, width = halves[0].shape[:2]
        wide = width > height
        gap = np.full((GAP, width, 3) if wide else (height, GAP, 3), GAP_COLOUR, np.uint8)
        return jpeg(np.concatenate([halves[0], gap, halves[1]], axis=0 if wide else 1))

    def _photo_and_overlay(self, i: int) -> tuple[Image, Image]:
        path = self._predictions.images[i].path
        image = crop(read_image(path, bits=self._predictions.bundle.bits), self._predictions.grids[i].roi, path)
        photo = scaled(image, PANEL / max(image.shape[:2]))
        return photo, draw_marks(photo, self._predictions.result(i, self._score(i)), image.shape[1])

    def _map(self, model_map: NDArray[np.float32], low: float, high: float, i: int) -> Image:
        """One of the six maps, where it lies on the image."""
        bundle, grid = self._predictions.bundle, self._predictions.grids[i]
        values = np.clip((model_map[i] - low) / (high - low), 0, 1)
        whole = cv2.resize(values, (bundle.width, bundle.height), interpolation=cv2.INTER_LINEAR)
        size = scaled_size(grid.height, grid.width, MAP / max(grid.height, grid.width))
        inside = cv2.resize(whole[grid.placement.window], size, interpolation=cv2.INTER_AREA)
        return heat_colours(np.asarray(inside, np.float32))


def jpeg(image: Image) -> EmbeddedPicture:
    """An RGB picture (H, W, 3) as a JPEG file."""
    content = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    uri = "data:image/jpeg;base64," + base64.b64encode(content.tobytes()).decode()
    return EmbeddedPicture(uri, image.shape[1], image.shape[0])


def _scale(maps: NDArray[np.float32], predictions: Predictions) -> tuple[float, float]:
    """From the median over good images to the typical peak on defective ones: the same for every image."""
    defective = np.array([image.is_defective for image in predictions.images])
    low = float(np.median(maps[~defective]))
    high = float(np.median(maps[defective].max(axis=(1, 2))))
    return low, max(high, low + 1e-6)  # a map that shows no defect at all must not divide by zero


def _outlined(photo: Image, mask: NDArray[np.bool_]) -> Image:
    """The photo dimmed where people saw no defect, with a line around what they marked."""
    height, width = photo.shape[:2]
    # By area, and above zero: the smallest defect stays visible.
    inside = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) > 0
    shown: Image = np.where(inside[..., None], photo, photo // 2)
    # Around the defect, not on it: some are no wider than the line.
    around = cv2.dilate(inside.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    shown[around & ~inside] = CONTOUR
    return shown
