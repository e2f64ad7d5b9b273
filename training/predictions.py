"""What a model file says about labelled images, kept small: its maps, at the model's own resolution."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.bench import Environment, read_environment
from rstpm_edge.bundle import Bundle, Evidence, Fusion
from rstpm_edge.errors import DatasetError, ModelError
from rstpm_edge.fusion import kernels
from rstpm_edge.image.decode import read_stored
from rstpm_edge.image.mask import stored_mask
from rstpm_edge.image.roi import Roi, crop
from rstpm_edge.input_check import InputCheck, Notify
from rstpm_edge.judgement import judge
from rstpm_edge.providers import Provider
from rstpm_edge.regions import Grid
from rstpm_edge.result import Result
from rstpm_edge.scoring import ScoredMaps, Scorer
from rstpm_edge.session import open_session

from .data import TestImage, both_kinds, read_mask, test_images

ALL_MAPS = range(6)  # both pairs, all levels


@dataclass(frozen=True, eq=False)
class Predictions:
    """N images of the data set `data`, the "good" ones first, and what the model gave for each of them.

    The images themselves are not kept; of each, the model's ROI counts, scaled with it where it has another size.
    `masks` are (H, W) bool at the image's size, and None where a defect was not outlined; `maps`, each (N, h, w)
    float32, are in the order of `bundle.output_names`.
    """

    data: Path
    model: Path
    model_sha256: str
    bundle: Bundle
    environment: Environment
    images: tuple[TestImage, ...]
    grids: tuple[Grid, ...]  # how the model's input lies on each image
    ignored: tuple[NDArray[np.bool_] | None, ...]  # cells of the input that the model's mask leaves out
    masks: tuple[NDArray[np.bool_] | None, ...]
    map_sizes: tuple[tuple[int, int], ...]
    maps: tuple[NDArray[np.float32], ...]

    def scorer(
        self, fusion: Fusion, evidence: Evidence | None, kept: Sequence[int] = ALL_MAPS
    ) -> Callable[[int], ScoredMaps]:
        """Something that scores image i; pairs and levels that are not `kept` count as zero everywhere."""
        score = Scorer(fusion, evidence, self.map_sizes, (self.bundle.height, self.bundle.width))
        maps = [level if i % 6 in kept else np.zeros_like(level) for i, level in enumerate(self.maps)]

        def scored(i: int) -> ScoredMaps:
            found = score([level[i : i + 1] for level in maps])
            return found if self.ignored[i] is None else _masked(score, found, self.ignored[i])

        return scored

    def at_image_size(self, i: int, model_map: NDArray[np.float32]) -> NDArray[np.float32]:
        """A map (height, width) of the model's input, brought to the size of image i as Result.anomaly_map is."""
        grid = self.grids[i]
        size = grid.width, grid.height
        inside = model_map[grid.placement.window]
        return np.asarray(cv2.resize(inside, size, interpolation=cv2.INTER_LINEAR), np.float32)

    def roi(self, i: int) -> Roi:
        """The part of image i that was judged."""
        grid = self.grids[i]
        return grid.x, grid.y, grid.width, grid.height

    def result(self, i: int, scored: ScoredMaps) -> Result:
        """What `Detector` says about image i, from its scored maps."""
        part = self.grids[i]
        grid = Grid(part.placement, part.height, part.width)
        cell = (int(scored.position[0, 0]), int(scored.position[0, 1]))
        return judge(
            scored.anomaly_map[0],
            float(scored.score[0]),
            cell,
            grid,
            self.bundle.calibration,
            ignored=self.ignored[i],
        )


def _masked(score: Scorer, scored: ScoredMaps, ignored: Any) -> ScoredMaps:
    """Scores and position of one image where `ignored` (H, W) is False; elsewhere the map is the lowest of that."""
    value, cell = score.ignoring(scored, 0, ignored)
    anomaly_map = scored.anomaly_map.copy()
    anomaly_map[0, ignored] = anomaly_map[0, ~ignored].min()
    position = np.array([cell], scored.position.dtype)
    return replace(scored, anomaly_map=anomaly_map, score=np.array([value], np.float32), position=position)


def predict(
    data: str | Path,
    model: str | Path,
    *,
    images: Sequence[TestImage] | None = None,
    threads: int | None = None,
    providers: Sequence[Provider] | str | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
    allow_size_change: bool = False,
    notify: Notify | None = None,
) -> Predictions:
    """Run `model` over the test images of `data` (MVTec AD layout). `report` gets (done, total) after each.

    `images`, all below `data`, are taken instead where they are given: other layouts have them elsewhere. They are
    read one after another; masks and maps are kept. A model that was trained on a ROI judges that part of each image,
    and the pixels of that part count.

    Raises DatasetError, ImageError, ModelError and ProviderError.
    """
    images = sorted(test_images(data) if images is None else images, key=lambda image: image.is_defective)
    if not both_kinds(images):
        raise DatasetError(f"An evaluation needs both good and defective images of {data}.")
    session = open_session(model, threads=threads, providers=providers)
    bundle, digest = session.bundle, _digest(session.path)
    check = InputCheck(bundle, allow_size_change=allow_size_change, notify=notify)
    ignores = None if bundle.mask is None else lru_cache(maxsize=4)(stored_mask(bundle.mask).ignored)
    grids, masks, batches, ignored = [], [], [], []
    marked: dict[tuple[Path, int], bool] = {}
    for done, image in enumerate(images, 1):
        photo = read_stored(image.path)
        inputs, grid = check.prepare(photo, image.path)
        mask = None
        if image.mask or not image.is_defective:
            mask = read_mask(image, (photo.shape[0], photo.shape[1]))
        if image.mask and mask is not None:  # all of it: a defect may lie outside the ROI
            of_kind = (image.mask.parent, image.mask_level)
            marked[of_kind] = marked.get(of_kind, False) or bool(mask.any())
        masks.append(None if mask is None else crop(mask, (grid.x, grid.y, grid.width, grid.height)))
        batches.append(session.run(inputs[None]))
        grids.append(grid)
        ignored.append(ignores and ignores(grid, (bundle.height, bundle.width)))
        report(done, len(images))
    _refuse_empty_masks(marked)
    return Predictions(
        data=Path(data),
        model=session.path,
        model_sha256=digest,
        bundle=bundle,
        environment=read_environment(
            session.providers, session.threads, precision=session.precision, kernel=kernels().active
        ),
        images=tuple(images),
        grids=tuple(grids),
        ignored=tuple(ignored),
        masks=tuple(masks),
        map_sizes=session.map_sizes,
        maps=tuple(np.concatenate(level) for level in zip(*batches, strict=True)),
    )


def _digest(model: Path) -> str:
    try:
        return sha256(model.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(f"Cannot read the model {model}: {error.strerror or error}.") from error


def _refuse_empty_masks(marked: Mapping[tuple[Path, int], bool]) -> None:
    """One mask that marks nothing may be a slip; where all of a kind do, their grey values are meant otherwise.

    `marked` says of each folder and grey level whether any mask there marks anything.
    """
    for (folder, level), any_pixel in marked.items():
        if not any_pixel:
            raise DatasetError(f"No mask in {folder} marks a pixel: defects must be white, above {level} of 255.")
