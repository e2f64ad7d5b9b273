"""How good an exported model is, measured on the file itself through the runtime: what is measured is what ships."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.bundle import Fusion
from rstpm_edge.fusion import make_fuser
from rstpm_edge.image import Placement, read_image, to_input
from rstpm_edge.providers import Provider
from rstpm_edge.session import open_session

from .data import read_mask, test_images
from .metrics import clopper_pearson, image_metrics, pixel_metrics


@dataclass(frozen=True)
class Metrics:
    """One row of the table; all in 0…1. The pixel metrics are None where the data set has no masks."""

    image_auroc: float
    image_ap: float
    image_f1: float  # at the best threshold
    pixel_auroc: float | None = None
    pixel_ap: float | None = None
    aupro_30: float | None = None  # integrated to a false-positive rate of 0.3
    aupro_05: float | None = None


@dataclass(frozen=True)
class Verdicts:
    """What the calibrated threshold does: of how many images of one kind it says "anomalous"."""

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


@dataclass(frozen=True)
class Evaluation:
    """Both pairs together, each alone, and each of the six maps alone; and the verdicts by kind ("good" first)."""

    both: Metrics
    stpm: Metrics
    recon: Metrics
    maps: Mapping[str, Metrics]
    kinds: Mapping[str, float]  # image AUROC of each defect against the good images
    verdicts: Mapping[str, Verdicts]
    threshold: float

    def to_json(self) -> dict[str, object]:
        """{"both": {…}, "stpm": {…}, "recon": {…}, "maps": {…}, "kinds": {…}, "verdicts": {…}, "threshold": …}"""
        return asdict(self)


def evaluate(
    data: str | Path,
    model: str | Path,
    *,
    threads: int | None = None,
    providers: Sequence[Provider] | str | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Run `model` over the test images of `data` (MVTec AD layout) and measure.

    Pixel metrics are taken at each image's own resolution, over all images pooled. `threads` and `providers` are those
    of `Detector`. `report` is called with (done, total) after each image.

    Raises DatasetError, ImageError, ModelError and ProviderError.
    """
    images = test_images(data)
    session = open_session(model, threads=threads, providers=providers)
    bundle = session.bundle
    masked = all(image.mask is not None for image in images if image.is_defective)
    outlines: list[NDArray[np.bool_]] = []
    placements: list[Placement] = []
    shapes: list[tuple[int, int]] = []
    batches = []
    for done, image in enumerate(images, 1):
        pixels = read_image(image.path)
        shape = (pixels.shape[0], pixels.shape[1])
        if masked:
            outlines.append(read_mask(image, shape))
        inputs, placement = to_input(pixels, (bundle.height, bundle.width), bundle.resize)
        batches.append(session.run(inputs[None]))
        placements.append(placement)
        shapes.append(shape)
        report(done, len(images))
    maps = [np.concatenate(level) for level in zip(*batches, strict=True)]  # six of (N, h, w)
    defective = np.array([image.is_defective for image in images])

    def measure(fusion: Fusion, maps: Sequence[NDArray[np.float32]]) -> tuple[Metrics, NDArray[np.float32]]:
        fused = make_fuser(fusion, session.map_sizes, (bundle.height, bundle.width))(maps)
        at_image = image_metrics(defective, fused.score)
        metrics = Metrics(at_image.auroc, at_image.ap, at_image.f1)
        if masked:
            pixels = pixel_metrics(outlines, _at_image_size(fused.anomaly_map, placements, shapes))
            metrics = replace(
                metrics,
                pixel_auroc=pixels.auroc,
                pixel_ap=pixels.ap,
                aupro_30=pixels.aupro_30,
                aupro_05=pixels.aupro_05,
            )
        return metrics, fused.score

    both, scores = measure(bundle.fusion, maps)
    stpm, _ = measure(*_pair_alone(bundle.fusion, maps, range(3)))
    recon, _ = measure(*_pair_alone(bundle.fusion, maps, range(3, 6)))
    single = {name: measure(_map_alone(bundle.fusion, i), maps)[0] for i, name in enumerate(bundle.map_names)}
    kinds = np.array([image.kind for image in images])
    threshold = bundle.calibration.threshold
    return Evaluation(
        both=both,
        stpm=stpm,
        recon=recon,
        maps=single,
        kinds={
            str(kind): image_metrics(defective[chosen], scores[chosen]).auroc
            for kind in np.unique(kinds[defective])
            for chosen in [(kinds == kind) | ~defective]
        },
        verdicts={
            str(kind): Verdicts(int((kinds == kind).sum()), int((scores[kinds == kind] > threshold).sum()))
            for kind in ["good", *np.unique(kinds[defective])]
        },
        threshold=threshold,
    )


def _pair_alone(
    fusion: Fusion, maps: Sequence[NDArray[np.float32]], kept: Sequence[int]
) -> tuple[Fusion, list[NDArray[np.float32]]]:
    """One pair's fusion. The other's maps weigh nothing in a sum, and add nothing inside the paper's product."""
    weights = tuple(w if i in kept else 0.0 for i, w in enumerate(fusion.weights))
    return replace(fusion, weights=weights), [m if i in kept else np.zeros_like(m) for i, m in enumerate(maps)]


def _map_alone(fusion: Fusion, kept: int) -> Fusion:
    """One map as it is, only brought to the image's size and smoothed as the model does."""
    weights = tuple(float(i == kept) for i in range(6))
    return Fusion("normalized", weights=weights, smoothing_sigma=fusion.smoothing_sigma)


def _at_image_size(
    fused: NDArray[np.float32], placements: Sequence[Placement], shapes: Sequence[tuple[int, int]]
) -> list[NDArray[np.float32]]:
    """(N, H, W) at the model's resolution -> one map at the size of each image, as Result.anomaly_map has it."""
    return [
        np.asarray(cv2.resize(one[place.window], shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)
        for one, place, shape in zip(fused, placements, shapes, strict=True)
    ]
