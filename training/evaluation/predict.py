"""What a model file says about labelled images, kept small: its maps, at the model's own resolution."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.calibration import Threshold
from rstpm_edge.environment import Environment, read_environment
from rstpm_edge.errors import DatasetError
from rstpm_edge.image.grid import Grid
from rstpm_edge.image.roi import crop
from rstpm_edge.model.metadata import Bundle, Fusion, ScoreFusion
from rstpm_edge.model.outputs import ModelOutputs, Pair
from rstpm_edge.pipeline import InferenceOptions, open_pipeline
from rstpm_edge.postprocess.scoring import ScoredMaps, Scorer
from rstpm_edge.postprocess.verdict import judge
from rstpm_edge.result import Result

from ..data.images import TestImage, both_kinds, read_mask, test_images


@dataclass(frozen=True, eq=False)
class Predictions:
    """N images of the data set `data`, the "good" ones first, and what the model gave for each of them.

    The images themselves are not kept; of each, the model's ROI counts, scaled with it where it has another size.
    `masks` are (H, W) bool at the image's size, and None where a defect has no mask; `outputs` has N rows.
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
    outputs: ModelOutputs
    threshold: Threshold  # above its value an image is called anomalous; its promise is that of `Detector`
    same_part: bool  # whether the part that is judged is the one that the model was calibrated with
    invalid: tuple[str | None, ...]  # why an image is INVALID
    skip_unmasked: bool = False

    def scorer(
        self, fusion: Fusion, score_fusion: ScoreFusion | None, pair: Pair | None = None
    ) -> Callable[[int], ScoredMaps]:
        """Something that scores image i; with a `pair`, the other's maps count as zero everywhere."""
        score = Scorer(fusion, score_fusion, self.bundle.level_sizes, self.bundle.size)
        outputs = self.outputs if pair is None else self.outputs.pair_alone(pair)

        def scored(i: int) -> ScoredMaps:
            ignored = self.ignored[i]
            found = score(outputs.rows(slice(i, i + 1)), [ignored])
            if ignored is not None:  # what does not count is as low as the lowest that does
                found.anomaly_map[0, ignored] = found.anomaly_map[0, ~ignored].min()
            return found

        return scored

    def counted(self, i: int) -> NDArray[np.bool_] | None:
        """The pixels of image i where anomalies count, (height, width) bool; None for all of them."""
        ignored = self.ignored[i]
        if ignored is None:
            return None
        grid = self.grids[i]
        inside = ignored[grid.placement.window].astype(np.uint8)
        size = grid.width, grid.height
        return ~np.asarray(cv2.resize(inside, size, interpolation=cv2.INTER_NEAREST), np.bool_)

    def at_image_size(self, i: int, model_map: NDArray[np.float32]) -> NDArray[np.float32]:
        """A map (height, width) of the model's input, brought to the size of image i as Result.anomaly_map is."""
        grid = self.grids[i]
        size = grid.width, grid.height
        inside = model_map[grid.placement.window]
        return np.asarray(cv2.resize(inside, size, interpolation=cv2.INTER_LINEAR), np.float32)

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
            threshold=self.threshold,
            ignored=self.ignored[i],
            model_sha256=self.model_sha256,
            invalid_reason=self.invalid[i],
        )


def predict(
    data: str | Path,
    model: str | Path,
    options: InferenceOptions | None = None,
    *,
    images: Sequence[TestImage] | None = None,
    skip_unmasked: bool = False,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Predictions:
    """Run `model` over the test images of `data` (MVTec AD layout). `report` gets (done, total) after each.

    `images`, all below `data`, are taken instead where they are given: other layouts have them elsewhere. They are
    read one after another; masks and maps are kept. A model that was trained on a ROI judges that part of each image,
    and the pixels of that part count.

    options: as a station runs, so that it is measured as it does. The calibration in the result's `bundle` has the rate
        that was asked for, or the one that the threshold amounts to.
    skip_unmasked: see `test_images`; such images have no part in the pixel metrics.

    Raises UsageError for those that cannot work, DatasetError, ImageError, ModelError and ProviderError.
    """
    if images is None:
        images = test_images(data, skip_unmasked=skip_unmasked)
    images = sorted(images, key=lambda image: image.is_defective)
    if not both_kinds(images):
        raise DatasetError(f"An evaluation needs both good and defective images of {data}.")
    options = options or InferenceOptions()
    pipeline = open_pipeline(model, options)
    preprocessor, session = pipeline.preprocessor, pipeline.session
    bundle = _as_it_runs(session.bundle, options)
    grids: list[Grid] = []
    ignored: list[NDArray[np.bool_] | None] = []
    invalid: list[str | None] = []
    outputs, masks = [], []
    marked: dict[tuple[Path, int], bool] = {}
    for done, image in enumerate(images, 1):
        photo = preprocessor.load(image.path)
        batch = preprocessor.batch([photo])
        grids += batch.grids
        ignored += batch.ignored
        truth = None
        if image.mask or not image.is_defective:
            truth = read_mask(image, (photo.pixels.shape[0], photo.pixels.shape[1]))
        if image.mask and truth is not None:  # all of it: a defect may lie outside the ROI
            of_kind = (image.mask.parent, image.mask_level)
            marked[of_kind] = marked.get(of_kind, False) or bool(truth.any())
        masks.append(None if truth is None else crop(truth, grids[-1].roi))
        outputs.append(session.run(batch.pixels))
        invalid += [one.invalid_reason for one in pipeline.postprocessor.compared(outputs[-1], batch.invalid)]
        report(done, len(images))
    _refuse_empty_masks(marked)
    return Predictions(
        data=Path(data),
        model=session.path,
        model_sha256=session.sha256,
        bundle=bundle,
        environment=read_environment(
            session.providers,
            session.threads,
            precision=session.precision,
            polite=options.polite,
            kernel=pipeline.postprocessor.kernel,
        ),
        images=tuple(images),
        grids=tuple(grids),
        ignored=tuple(ignored),
        masks=tuple(masks),
        outputs=ModelOutputs.concatenate(outputs),
        threshold=options.threshold_of(session.bundle),
        same_part=options.judges_part_of(session.bundle),
        invalid=tuple(invalid),
        skip_unmasked=skip_unmasked,
    )


def _as_it_runs(bundle: Bundle, options: InferenceOptions) -> Bundle:
    """The bundle with what was chosen in the place of what the model holds. Raises UsageError."""
    scores, alpha = bundle.calibration.scores, options.alpha
    if options.threshold is not None:
        above = sum(score > options.threshold for score in scores)
        alpha = min(1 + above, len(scores)) / (len(scores) + 1)
    if alpha is not None:
        bundle.calibration.threshold_for(alpha)  # raises for one that the held-out images do not allow
        bundle = replace(bundle, calibration=replace(bundle.calibration, alpha=alpha))
    return bundle if isinstance(options.roi, str) else replace(bundle, roi=options.roi)


def _refuse_empty_masks(marked: Mapping[tuple[Path, int], bool]) -> None:
    """One mask that marks nothing may be a slip; where all of a kind do, their grey values are meant otherwise.

    `marked` says of each folder and grey level whether any mask there marks anything.
    """
    for (folder, level), any_pixel in marked.items():
        if not any_pixel:
            raise DatasetError(f"No mask in {folder} marks a pixel: defects must be white, above {level} of 255.")
