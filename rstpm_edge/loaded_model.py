"""A model that is ready to judge, and whether it may take the place of the one that does."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from rstpm_edge.calibration import Threshold
from rstpm_edge.errors import ModelError, UsageError
from rstpm_edge.golden_check import check_goldens
from rstpm_edge.image.input_profile import GREY, ONE_ASPECT, InputProfile, aspects, describe_sizes
from rstpm_edge.model.metadata import Bundle
from rstpm_edge.pipeline import InferenceOptions, Pipeline, open_pipeline
from rstpm_edge.preprocessor import ImageLike
from rstpm_edge.result import Result


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model file as a station runs it. `path` is absolute; `pipeline` is None where it was closed.

    `sha256`, `providers` and `precision` are those of `Session`, `threshold` is that of the station's options.
    """

    path: str
    bundle: Bundle
    sha256: str
    providers: tuple[str, ...]
    precision: str | None
    threshold: Threshold
    pipeline: Pipeline | None

    def judge(self, images: Iterable[ImageLike], *, room: int = 1) -> list[Result]:
        """The verdicts on some images; `room` is that of `Preprocessor.batch`. UsageError where it is closed."""
        return self.running().judge(images, self.threshold, room=room)

    def warm_up(self) -> None:
        """Run the model on an empty image. Raises ModelError where it cannot, or gives no finite numbers."""
        pipeline = self.running()  # past ROI and mask, which need not fit an image of this size
        pipeline.postprocessor.score(pipeline.session.run(np.zeros((1, *self.bundle.size, 3), np.uint8)))

    def running(self) -> Pipeline:
        """The three steps. Whoever has them may use them to the end, whatever another thread closes."""
        if self.pipeline is None:
            raise UsageError("The detector is closed; make a new one.")
        return self.pipeline


def load_model(path: str | os.PathLike[str], options: InferenceOptions, *, goldens_if_any: bool = False) -> LoadedModel:
    """Load a model file as `options` say. Its goldens are verified where they say so; `goldens_if_any`: if it has any.

    Raises what `Detector` does.
    """
    pipeline = open_pipeline(path, replace(options, verify=options.verify or goldens_if_any))
    session = pipeline.session
    if options.verify or session.goldens is not None:
        check_goldens(session)
        session = replace(session, goldens=None)  # megabytes
    return LoadedModel(
        os.path.abspath(path),
        session.bundle,
        session.sha256,
        session.providers,
        session.precision,
        options.threshold_of(session.bundle),
        replace(pipeline, session=session),
    )


def check_replacement(new: LoadedModel, running: LoadedModel, options: InferenceOptions) -> None:
    """Whether a model may take the place of the one that runs, without anybody who looks at it.

    Raises UsageError where what the station set belongs to the model that runs, and ModelError where the other one
    learned from photos of another kind.
    """
    why = _unfitting_option(new.bundle, running.bundle, options)
    if why is not None:
        raise UsageError(f"The model {new.path} was not taken: {why}. Start again with it to judge by it all the same.")
    before, now = running.bundle.profile, new.bundle.profile
    other = None if before is None or now is None else _other_photos(now, before, options.allow_size_change)
    if other is not None:
        raise ModelError(
            f"The model {new.path} was not taken: it learned from {other}, so it is of another product or camera. "
            "Start again with it to judge by it all the same."
        )


def _unfitting_option(new: Bundle, running: Bundle, options: InferenceOptions) -> str | None:
    if options.threshold is not None:
        return (
            f"the threshold {options.threshold:g} was set by hand for the model that runs, and scores of another one "
            "have another unit"
        )
    if not options.roi_of_model and options.roi == running.roi and options.roi != new.roi:
        return (
            "the ROI that was set is the one that the model that runs was calibrated with, and the other one was not, "
            "so its threshold would promise nothing"
        )
    return None


def _other_photos(now: InputProfile, before: InputProfile, allow_size_change: bool) -> str | None:
    """In words, what a model learned from that the one before did not; None where photos may be those of one camera."""
    (low, high), (least, most) = aspects(now.sizes), aspects(before.sizes)
    if max(low / most, least / high) > ONE_ASPECT and not allow_size_change:
        return f"photos of {describe_sizes(now.sizes)}, and the one that runs from {describe_sizes(before.sizes)}"
    if (now.depth, now.input_bits) != (before.depth, before.input_bits):
        return f"{now.bits} bits in {now.depth}, and the one that runs from {before.bits} in {before.depth}"
    if now.chroma < GREY and before.chroma > 3 * GREY:
        return "grey photos, and the one that runs from photos in colour"
    if before.chroma < GREY and now.chroma > 3 * GREY:
        return "photos in colour, and the one that runs from grey ones"
    return None
