"""An image's way through a model: preprocess, engine, postprocess. All that judges, measures or compares takes it."""

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

from numpy.typing import NDArray

from rstpm_edge.calibration import Threshold
from rstpm_edge.engine.providers import Provider
from rstpm_edge.engine.session import Session, open_session
from rstpm_edge.errors import UsageError
from rstpm_edge.image.mask import Mask, load_mask
from rstpm_edge.image.preprocess import Channels
from rstpm_edge.image.roi import Roi, check_roi
from rstpm_edge.input_check import Notify
from rstpm_edge.model.keys import PublicKey, as_public_key
from rstpm_edge.model.metadata import Bundle
from rstpm_edge.model.session_rates import rate_with_confidence, session_rates
from rstpm_edge.postprocess.postprocessor import Postprocessor
from rstpm_edge.preprocessor import ImageLike, Preprocessor
from rstpm_edge.result import Result

MaskLike: TypeAlias = NDArray[Any] | str | os.PathLike[str] | Mask


@dataclass(frozen=True, eq=False)
class InferenceOptions:
    """How a station runs a model; each option is the keyword of `Detector` of that name.

    Raises UsageError for a value that cannot work.
    """

    providers: Sequence[Provider] | str | None = None
    threads: int | None = None
    polite: bool = False
    engine_cache: str | os.PathLike[str] | None = None
    channels: Channels = "bgr"
    threshold: float | None = None
    alpha: float | None = None
    roi: Roi | Literal["model"] | None = "model"
    mask: MaskLike | Literal["model"] | None = "model"
    allow_size_change: bool = False
    notify: Notify | None = None
    public_key: str | os.PathLike[str] | PublicKey | None = None
    verify: bool = False
    explain: bool = False

    def __post_init__(self) -> None:
        if self.channels not in get_args(Channels):
            raise UsageError(f"channels must be one of {', '.join(get_args(Channels))}, but is {self.channels!r}.")
        if self.threshold is not None and self.alpha is not None:
            raise UsageError("Give a threshold or an alpha, which asks for one, not both.")
        if self.threshold is not None:
            check_threshold(self.threshold)
        if self.roi is not None and not self.roi_of_model:
            object.__setattr__(self, "roi", check_roi(self.roi))

    @property
    def roi_of_model(self) -> bool:
        """Whether the part that the model was trained on is judged."""
        return isinstance(self.roi, str) and self.roi == "model"

    @property
    def mask_of_model(self) -> bool:
        """Whether anomalies count where the model itself says."""
        return isinstance(self.mask, str) and self.mask == "model"

    def loaded_mask(self) -> Mask | Literal["model"] | None:
        """The mask, loaded where it is a file or an array. Raises UsageError for one that cannot be used."""
        if self.mask_of_model:
            return "model"
        return self.mask if self.mask is None or isinstance(self.mask, Mask) else load_mask(self.mask)

    def loaded_key(self) -> PublicKey | None:
        """The key, loaded where it is a file. Raises UsageError for one that cannot be used."""
        return None if self.public_key is None else as_public_key(self.public_key)

    def from_anywhere(self) -> "InferenceOptions":
        """The same with absolute paths: another process, or this one later, may work in another folder."""
        mask, cache, key = self.mask, self.engine_cache, self.public_key
        return replace(
            self,
            mask=os.path.abspath(mask) if isinstance(mask, (str, os.PathLike)) and not self.mask_of_model else mask,
            engine_cache=None if cache is None else os.path.abspath(cache),
            public_key=key if key is None or isinstance(key, PublicKey) else os.path.abspath(key),
        )

    def judges_part_of(self, bundle: Bundle) -> bool:
        """Whether the part of a photo is judged that the model was calibrated with."""
        return self.roi_of_model or self.roi == bundle.roi

    def threshold_of(self, bundle: Bundle) -> Threshold:
        """The score above which an image is anomalous, and its promise: none for one that was set by hand, or where
        another part is judged than the held-out images were. With 95 % confidence nothing is promised where the model
        says that its held-out sessions differ.

        Raises UsageError for an alpha that the calibration does not allow.
        """
        if self.threshold is not None:
            return Threshold(float(self.threshold))
        promised = bundle.calibration.promised(self.alpha)
        if not self.judges_part_of(bundle):
            return Threshold(promised.value)
        confident = rate_with_confidence(bundle.calibration, session_rates(bundle.training), promised.alpha)
        return replace(promised, rate_with_confidence=confident)


def check_threshold(value: float) -> None:
    """Raises UsageError for NaN and infinity."""
    if not math.isfinite(value):
        raise UsageError(f"The threshold must be a finite number, but is {value}.")


@dataclass(frozen=True, eq=False)
class Pipeline:
    """The three steps of one model, each with public methods. Safe to share between threads."""

    preprocessor: Preprocessor
    session: Session
    postprocessor: Postprocessor

    def judge(self, images: Iterable[ImageLike], threshold: Threshold, *, room: int = 1) -> list[Result]:
        """The verdicts on some images; `room` is that of `Preprocessor.batch`."""
        batch = self.preprocessor.batch(map(self.preprocessor.load, images), room=room)
        if not batch.grids:
            return []
        outputs = self.session.run(batch.pixels)
        results = self.postprocessor.results(
            outputs,
            batch.grids,
            batch.ignored,
            threshold,
            invalid=batch.invalid,
            model_sha256=self.session.sha256,
        )
        if batch.light is None:
            return results
        return [replace(one, light_p_value=light) for one, light in zip(results, batch.light, strict=True)]


def open_pipeline(model: str | os.PathLike[str], options: InferenceOptions) -> Pipeline:
    """Load a model file, to be run as `options` say, but not verified: `golden_check` does that.

    Raises ModelError, ProviderError, UsageError, or OutputError for a folder that cannot be made.
    """
    mask = options.loaded_mask()
    session = open_session(
        model,
        providers=options.providers,
        threads=options.threads,
        polite=options.polite,
        engine_cache=options.engine_cache,
        public_key=options.loaded_key(),
        with_goldens=options.verify,
    )
    preprocessor = Preprocessor(
        session.bundle,
        channels=options.channels,
        roi=options.roi,
        mask=mask,
        allow_size_change=options.allow_size_change,
        notify=options.notify,
        threads=session.threads,
    )
    return Pipeline(preprocessor, session, Postprocessor(session.bundle, explain=options.explain))
