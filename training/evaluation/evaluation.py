"""What an evaluation found, as the report, the JSON and the tables of the benchmark take it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from rstpm_edge.calibration import clopper_pearson


@dataclass(frozen=True)
class Metrics:
    """One row of the table; all in 0…1. The pixel metrics are None where a defect has no mask."""

    image_auroc: float
    image_ap: float
    image_f1: float  # at the best threshold
    pixel_auroc: float | None = None
    pixel_ap: float | None = None
    aupro_30: float | None = None  # integrated to a false-positive rate of 0.3
    aupro_05: float | None = None


@dataclass(frozen=True)
class Verdicts:
    """What a threshold does: of how many images it says "anomalous"."""

    images: int
    anomalous: int

    @property
    def rate(self) -> float:
        """The share called anomalous."""
        return self.anomalous / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Clopper-Pearson interval of that share."""
        return clopper_pearson(self.anomalous, self.images)

    def to_json(self) -> dict[str, object]:
        """{"images": …, "anomalous": …, "rate": …, "interval": […, …]}"""
        return {**asdict(self), "rate": self.rate, "interval": list(self.interval)}


@dataclass(frozen=True)
class OperatingPoint:
    """What the threshold for a false-reject rate `alpha` does on the test images.

    It is set by the model's calibration images alone, so the figures are those of a model that had it from the
    start: no test image had a say. `alpha` is the share of good parts that they allow to be rejected, on average. It is
    None where they say nothing: another part of the photos is judged, or the threshold given lies below them all.
    """

    alpha: float | None
    rate_with_confidence: float | None  # with 95 % confidence; None where sessions differ, too
    threshold: float
    false_rejects: Verdicts
    recall: Verdicts

    def to_json(self) -> dict[str, object]:
        """{"alpha": …, "rate_with_confidence": …, "threshold": …, "false_rejects": {…}, "recall": {…}}"""
        return {
            "alpha": self.alpha,
            "rate_with_confidence": self.rate_with_confidence,
            "threshold": self.threshold,
            "false_rejects": self.false_rejects.to_json(),
            "recall": self.recall.to_json(),
        }


@dataclass(frozen=True)
class JudgedImage:
    """One test image, the name relative to the data set, and the verdict at the model's threshold.

    `invalid_reason` says why it cannot be judged, where it is INVALID; the rest is of its score all the same.
    """

    name: str
    kind: str  # "good", or the defect's name
    score: float
    p_value: float
    is_anomalous: bool
    invalid_reason: str | None = None

    @property
    def outcome(self) -> Literal["right", "missed", "false reject"]:
        """The verdict beside the label."""
        if self.is_anomalous == (self.kind != "good"):
            return "right"
        return "false reject" if self.is_anomalous else "missed"


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Both pairs together, each alone, and each of the six maps alone, on all images; both pairs for each kind of
    defect, on its images and the good ones; what the model's threshold does to each kind ("good" first), what
    others would do; and each image. An INVALID image counts by its score, as all others do.
    """

    both: Metrics
    stpm: Metrics
    recon: Metrics
    maps: Mapping[str, Metrics]
    by_kind: Mapping[str, Metrics]
    verdicts: Mapping[str, Verdicts]
    threshold: float
    alpha: float | None  # as the operating point's
    rate_with_confidence: float | None  # the same
    operating_points: tuple[OperatingPoint, ...]  # by alpha, ascending; its own among them, alone with another ROI
    images: tuple[JudgedImage, ...]

    @property
    def kinds(self) -> dict[str, float]:
        """Image AUROC of each kind of defect against the good images."""
        return {kind: metrics.image_auroc for kind, metrics in self.by_kind.items()}

    @property
    def invalid(self) -> dict[str, int]:
        """How many images of each kind are INVALID."""
        reasons = [(image.kind, image.invalid_reason) for image in self.images]
        return {kind: sum(of == kind and why is not None for of, why in reasons) for kind in self.verdicts}

    @property
    def false_rejects(self) -> Verdicts:
        """How many good images are called anomalous."""
        return self.verdicts["good"]

    @property
    def recall(self) -> Verdicts:
        """How many defective images, of all kinds, are called anomalous."""
        return all_defects(self.verdicts)

    def to_json(self) -> dict[str, object]:
        """The fields and properties by their names, all of them numbers, strings, lists and objects."""
        return {
            **asdict(self),
            "kinds": self.kinds,
            "verdicts": {kind: verdicts.to_json() for kind, verdicts in self.verdicts.items()},
            "invalid": self.invalid,
            "false_rejects": self.false_rejects.to_json(),
            "recall": self.recall.to_json(),
            "operating_points": [point.to_json() for point in self.operating_points],
            "images": [asdict(image) for image in self.images],
        }


def all_defects(verdicts: Mapping[str, Verdicts]) -> Verdicts:
    """Of all kinds but "good" together."""
    defects = [found for kind, found in verdicts.items() if kind != "good"]
    return Verdicts(sum(found.images for found in defects), sum(found.anomalous for found in defects))
