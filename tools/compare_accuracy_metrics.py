"""The measuring side of compare_accuracy.py: one way for all, and that way beside anomalib's."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from anomalib_venv import run_quietly
from compare_accuracy_peers import WORKER

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TOLERANCE = 1e-4  # of our metrics to anomalib's, which adds millions of terms up in float32


@dataclass(frozen=True)
class TestSet:
    """The test images: `inputs` (N, H, W, 3) uint8 RGB, `defective` (N,), `masks` (h, w) each, at the images' sizes."""

    __test__ = False  # not a pytest class

    inputs: NDArray[np.uint8]
    defective: NDArray[np.bool_]
    masks: list[NDArray[np.bool_]]  # empty where the data set has none


@dataclass(frozen=True)
class RawMaps:
    """What a method makes of the test images: `maps` (N, H, W) at the model's resolution and `scores` (N,), float32."""

    maps: NDArray[np.float32]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Accuracy:
    """Figures in 0…1; those of pixels are None where the data set has no masks."""

    image_auroc: float
    image_ap: float
    peak_auroc: float | None  # image AUROC of the map's maximum; None where it was not measured
    pixel_auroc: float | None = None
    aupro_30: float | None = None


@dataclass(frozen=True)
class Difference:
    """One metric of the same maps, as we compute it and as anomalib does."""

    name: str
    metric: str
    ours: float
    anomalib: float

    @property
    def size(self) -> float:
        """How far apart they are."""
        return abs(self.ours - self.anomalib)


def read_test_set(data: Path, size: tuple[int, int]) -> TestSet:
    """All test images, stretched to `size`. Raises RstpmEdgeError for images or masks that cannot be read."""
    import numpy as np

    from rstpm_edge.image.decode import read_image
    from rstpm_edge.image.preprocess import to_input
    from rstpm_edge.training.data.images import read_mask, test_images

    images = test_images(data)
    masked = all(image.mask is not None for image in images if image.is_defective)
    inputs, masks = [], []
    for image in images:
        pixels = read_image(image.path)
        inputs.append(to_input(pixels, size, "stretch")[0])
        if masked:
            masks.append(read_mask(image, (pixels.shape[0], pixels.shape[1])))
    return TestSet(np.stack(inputs), np.array([image.is_defective for image in images]), masks)


def accuracy(tests: TestSet, raw: RawMaps) -> Accuracy:
    """What `rstpm-edge evaluate` would say of these maps. Raises ValueError for maps that are not finite."""
    import cv2
    import numpy as np

    from rstpm_edge.training.evaluation.metrics import image_metrics, pixel_metrics

    own = image_metrics(tests.defective, raw.scores)
    peak = image_metrics(tests.defective, raw.maps.max(axis=(1, 2)))
    found = Accuracy(own.auroc, own.ap, peak.auroc)
    if not tests.masks:
        return found
    at_image = [
        np.asarray(cv2.resize(one, mask.shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)
        for one, mask in zip(raw.maps, tests.masks, strict=True)
    ]
    pixels = pixel_metrics(tests.masks, at_image)
    return replace(found, pixel_auroc=pixels.auroc, aupro_30=pixels.aupro_30)


def raw_maps_of_ours(data: Path, model: Path) -> RawMaps:
    """The detector's maps and scores of the test images."""
    import numpy as np

    from rstpm_edge import Detector
    from rstpm_edge.training.data.images import test_images

    results = Detector(model).predict_batch([image.path for image in test_images(data)])
    return RawMaps(np.stack([r.model_map for r in results]), np.array([r.score for r in results], np.float32))


def check_metrics(python: Path, tests: TestSet, raw: Mapping[str, RawMaps]) -> list[Difference]:
    """Image AUROC, pixel AUROC and AUPRO of each set of maps, ours and anomalib's.

    On masks brought to the maps' size, since anomalib takes images of one size; and on maps and scores scaled to 0…1,
    since anything else it would put through a sigmoid, which makes ties of large values.
    """
    import cv2
    import numpy as np

    from rstpm_edge.training.evaluation.metrics import image_metrics, pixel_metrics

    def scaled(values: NDArray[np.float32]) -> NDArray[np.float32]:
        low, high = values.min(), values.max()
        return np.asarray((values - low) / (high - low), np.float32)

    found: list[Difference] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = tests.inputs.shape[2:0:-1]  # (width, height), as OpenCV has it
        masks = np.stack([cv2.resize(m.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) for m in tests.masks])
        np.save(folder / "masks.npy", masks)
        np.save(folder / "labels.npy", tests.defective)
        for each, original in raw.items():
            maps, scores = scaled(original.maps), scaled(original.scores)
            (folder / each).mkdir()
            np.save(folder / each / "maps.npy", maps)
            np.save(folder / each / "scores.npy", scores)
            said = run_quietly(
                [str(python), str(WORKER), "metrics", str(folder), each], "anomalib's metrics cannot be had"
            )
            theirs = json.loads(said.splitlines()[-1])
            pixels = pixel_metrics(list(masks.astype(bool)), list(maps))
            ours = {
                "image_auroc": image_metrics(tests.defective, scores).auroc,
                "pixel_auroc": pixels.auroc,
                "aupro_30": pixels.aupro_30,
            }
            found += [Difference(each, metric, value, theirs[metric]) for metric, value in ours.items()]
    return found


def format_differences(differences: Sequence[Difference]) -> str:
    """One line for each metric of each set of maps, and a last one with the largest difference of each metric."""
    lines = [f"{'':24}{'metric':14}{'ours':>12}{'anomalib':>12}{'difference':>13}"]
    lines += [f"{d.name:24}{d.metric:14}{d.ours:12.6f}{d.anomalib:12.6f}{d.size:13.1e}" for d in differences]
    worst: dict[str, float] = {}
    for each in differences:
        worst[each.metric] = max(each.size, worst.get(each.metric, 0.0))
    lines.append("largest: " + ", ".join(f"{metric} {size:.1e}" for metric, size in worst.items()))
    return "\n".join(lines)
