"""What the detector says about one image."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.image.roi import Roi

Verdict: TypeAlias = Literal["normal", "anomalous", "invalid"]


@dataclass(frozen=True)
class ScoreTerm:
    """One of what the score is the sum of.

    `name` is "score_map" or "anomaly_map", the highest value of the map of that name; "coarse_residuals" or
    "coarse_angles", that of the coarsest level by itself; or "bias". `value` is its part of the score. `position`
    (x, y) is the image pixel where it was found, None for the bias. `shares` are what each of the model's outputs adds
    to `value`, by its name, such as stpm_8: pair and stride.
    """

    name: str
    value: float
    position: tuple[int, int] | None
    shares: Mapping[str, float]


@dataclass(frozen=True)
class Explanation:
    """Where a score comes from: of an image, or of one region, as if anomalies counted only there.

    `score` is the sum of `terms`. `anomaly` are what each output adds to the anomaly map where that is highest, by the
    output's name; their sum is the map's value there, `Region.peak`. `pair_scores` are what the score would be had one
    pair alone seen what it saw, and all other maps been everywhere as they are on average on the held-out good images;
    `rejecting_alone` are the pairs whose score is above the threshold even so. Both may reject alone, or neither. What
    a threshold promises holds for the score of all maps, not for that of a pair.
    """

    score: float
    terms: tuple[ScoreTerm, ...]
    anomaly: Mapping[str, float]
    pair_scores: Mapping[str, float]
    rejecting_alone: tuple[str, ...]


@dataclass(frozen=True)
class Region:
    """A connected part of an anomalous image whose anomaly is above the threshold; where none is, the surroundings of
    the highest one. Pixels are those of the image.

    `box` is (x, y, width, height); `area` counts pixels; `peak` is the highest anomaly inside and `position`
    is where it is, (x, y). The model's grid is coarser than the image, so all of them are as exact as it is.
    `explanation` says what made it, with `Detector(explain=True)`.
    """

    box: tuple[int, int, int, int]
    area: int
    peak: float
    position: tuple[int, int]
    explanation: Explanation | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """The verdict on one image.

    `verdict` is "normal", "anomalous" or "invalid": of an image that is badly exposed, out of focus, empty, of the
    wrong colours, or as a whole unlike all that the model learned from, nothing can be said, and its part counts as not
    good. `invalid_reason` says why; it is None for all others, and where the model has no limits to tell it by.

    `score` is in no unit and without bounds; compare it with `threshold` and with `typical_score`, the median over the
    good images that the model was calibrated on. Where the model has score maps (`Bundle.score_fusion`), it is a sum of
    maxima: of the fused errors of all levels, of the angles at the cells of the coarsest level, and in older files of
    further maps; its unit is that of the anomaly map. For other models it is the highest value of the anomaly map.
    `alpha` and `rate_with_confidence` are what `threshold` promises: the share of good images, at most, that score
    higher; the one on average over calibrations, the other for this model with 95 % confidence. Both are None where
    nothing is promised: for a threshold that was set by hand, or with another ROI than the model was calibrated with.
    `rate_with_confidence` is None also where the held-out sessions of the model differ (`train --sessions`).
    `p_value`, in (0, 1], says how often a good image scores this high: (1 + how many calibration images do)
    / (n + 1).
    `light_p_value`, in (0, 1], says how often a good image is at least as bright; None where the model does not know.
    `novelty`, 0 or more, is how far the image as a whole lies from the nearest good photo that the model learned from:
    next to nothing for that photo itself, and beyond the model's limit it is invalid; None where the model has none.
    `position` (x, y) is the image pixel where the map is highest. `regions`, parts of the map above the threshold, are
    sorted by peak, highest first; an anomalous image whose map stays below it has the region around its highest value.
    `roi` (x, y, width, height) is the part of the image that was judged: all of it unless the detector has a ROI.
    `masked` says whether a mask told where in it anomalies count: then the score may be lower than without.
    `model_map` (h, w) float32 is the anomaly map of that part at the model's resolution, read-only; what a mask
    ignores holds the lowest value of the rest.
    `model_sha256` is that of the model file that judged, in hexadecimal; None where it was no file.
    `explanation` says where the score comes from, with `Detector(explain=True)`.
    """

    score: float
    p_value: float
    threshold: float
    alpha: float | None
    rate_with_confidence: float | None
    typical_score: float
    position: tuple[int, int]
    regions: tuple[Region, ...]
    roi: Roi
    image_size: tuple[int, int]  # (height, width)
    model_map: NDArray[np.float32]
    model_sha256: str | None = None
    explanation: Explanation | None = None
    invalid_reason: str | None = None
    light_p_value: float | None = None
    novelty: float | None = None
    masked: bool = False

    @property
    def verdict(self) -> Verdict:
        """What to do with the part: only a "normal" one is good."""
        if self.invalid_reason is not None:
            return "invalid"
        return "anomalous" if self.is_anomalous else "normal"

    @property
    def is_anomalous(self) -> bool:
        """Whether the score is above the threshold, also of an image that is invalid: see `verdict`."""
        return self.score > self.threshold

    @property
    def span(self) -> float:
        """How far the threshold lies above the typical score: the unit that maps are drawn and stored in."""
        span = self.threshold - self.typical_score
        # Not positive when the user set the threshold lower, or all calibration images score alike.
        return span if span > 0 else max(abs(self.threshold), 1e-6)

    @cached_property
    def anomaly_map(self) -> NDArray[np.float32]:
        """The anomaly map at the image's size, (H, W) float32; outside of the ROI its lowest value, or that of a
        typical good part where that is lower.

        Computed when first asked for: for a 20-megapixel image it takes 80 MB, which a verdict does not need.
        """
        return self.resized_map(*self.image_size)

    def resized_map(self, height: int, width: int) -> NDArray[np.float32]:
        """The anomaly map of the image at any size, (height, width) float32, interpolated bilinearly."""
        (top, bottom), (left, right) = self.judged_part(height, width)
        inner = cv2.resize(self.model_map, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
        if inner.shape == (height, width):
            return np.asarray(inner, np.float32)
        # Never an anomaly, however anomalous all of the ROI is.
        lowest = min(float(self.model_map.min()), self.threshold - self.span)
        resized = np.full((height, width), lowest, np.float32)
        resized[top:bottom, left:right] = inner
        return resized

    def judged_part(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows and columns, from and to, of the ROI where the image is drawn at this size; at least one of each."""
        x, y, roi_width, roi_height = self.roi

        def scaled(start: int, length: int, side: int, whole: int) -> tuple[int, int]:
            first = min(round(start * side / whole), side - 1)
            return first, max(round((start + length) * side / whole), first + 1)

        return scaled(y, roi_height, height, self.image_size[0]), scaled(x, roi_width, width, self.image_size[1])

    def __repr__(self) -> str:
        return (
            f"<Result {self.verdict}: score {self.score:.4g}, threshold {self.threshold:.4g}, "
            f"p-value {self.p_value:.3g}, {len(self.regions)} regions>"
        )
