"""The detector: an image goes in, a verdict comes out."""

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from types import TracebackType
from typing import Any, Literal

from rstpm_edge.calibration import Threshold
from rstpm_edge.engine.providers import Provider
from rstpm_edge.errors import ModelError, UsageError
from rstpm_edge.image.preprocess import Channels
from rstpm_edge.image.roi import Roi
from rstpm_edge.input_check import Notify
from rstpm_edge.loaded_model import LoadedModel, check_replacement, load_model
from rstpm_edge.model.keys import PublicKey
from rstpm_edge.model.metadata import Bundle
from rstpm_edge.model_slot import ModelSlot
from rstpm_edge.pipeline import InferenceOptions, MaskLike, check_threshold
from rstpm_edge.preprocessor import ImageLike
from rstpm_edge.result import Result


class Detector:
    """Judges images with a model that `rstpm-edge export` wrote.

        detector = Detector("model.onnx")
        result = detector(frame)

    One detector may be shared by any number of threads, and be pickled. A forked process opens the model once more at
    its first image, if it is still the same; with another provider than "cpu" it has to make a detector of its own,
    and is told so. A detector opens no connections, and writes no files but those in `engine_cache`.

    model: path of the .onnx file.
    providers: what runs the network: "cpu" (the default), "cuda", "tensorrt" or "openvino", ONNX Runtime's own names,
        (name, options) tuples, or several in order of preference. One option is `precision`, "f32" by default, which
        gives the numbers that were checked at export: docs/edge.md lists the others.
    threads: CPU threads of one call; by default the physical cores that this process may use.
    polite: let threads that wait for work sleep rather than spin: a call takes a little longer, and other
        programs on the box get the processor in the meantime. OpenVINO's threads sleep in any case.
    engine_cache: folder in which TensorRT and OpenVINO keep what they compile, so that the next start is quick. It is
        made where it is missing; to empty it is always safe.
    channels: order of the channels in arrays, "bgr" as OpenCV gives them, or "rgb". Files need no such hint.
    threshold: score above which an image is anomalous; by default the calibrated one. It may be changed
        later.
    alpha: in its place, the rate of good parts that may be rejected: the threshold is that of the model's own
        calibration for it. A higher rate finds more defects.
    roi: (x, y, width, height) of the part of each photo that is judged, as an image of its own. "model" is the
        part that the model was trained on; None is all of the photo. Results are in the photo's coordinates.
    mask: where anomalies count, white or True, and where they do not, black or False: an image file, or an array
        (h, w) of bool or uint8. It is of the photo, at any scale, or has exactly the size of the ROI. The score
        is then taken where they count. It is never higher than without the mask, so a calibrated threshold rejects
        no more good parts than it promises. "model" is the one that the model was exported with, if any; None is none.
    allow_size_change: judge photos that are refused otherwise, since their aspect ratio is not the one that the model
        learned from, or since the model's ROI cannot be placed on them.
    notify: gets a sentence the first time that an image is unlike what was learned from in one way or another, and is
        judged all the same. By default that is a Python warning, `rstpm_edge.input_check.InputWarning`.
    public_key: PEM file of a key, the .pub file of `rstpm-edge keygen`: the model must be signed with the other half of
        it (`rstpm-edge sign`). That is checked before anything else in the file is looked at, and what was checked is
        what is loaded. Others must not be able to write to `engine_cache` then. None takes any model.
    verify: judge the model's goldens first (`rstpm-edge export --golden PHOTO`), with the provider in use, and refuse a
        model that gives other verdicts on this device, or too different scores and maps. None of the options above
        count for that, but how the network is run.
    explain: let each result, and each region, say where its score comes from (`Result.explanation`). That takes some
        milliseconds an image, and is for models whose fusion is a sum, as that of `edge` and `edge-small`.

    Raises SignatureError for a model that is unsigned, altered, or signed with another key; ModelError for one that
    cannot be loaded or verified; ProviderError, UsageError, or OutputError for a folder that cannot be made.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        providers: Sequence[Provider] | str | None = None,
        threads: int | None = None,
        polite: bool = False,
        engine_cache: str | os.PathLike[str] | None = None,
        channels: Channels = "bgr",
        threshold: float | None = None,
        alpha: float | None = None,
        roi: Roi | Literal["model"] | None = "model",
        mask: MaskLike | Literal["model"] | None = "model",
        allow_size_change: bool = False,
        notify: Notify | None = None,
        public_key: str | os.PathLike[str] | PublicKey | None = None,
        verify: bool = False,
        explain: bool = False,
    ) -> None:
        options = InferenceOptions(
            providers=providers,
            threads=threads,
            polite=polite,
            engine_cache=engine_cache,
            channels=channels,
            threshold=threshold,
            alpha=alpha,
            roi=roi,
            mask=mask,
            allow_size_change=allow_size_change,
            notify=notify,
            public_key=public_key,
            verify=verify,
            explain=explain,
        )
        self._typed = options.from_anywhere()
        # What was read of the files of mask and key stays, whatever they hold when another model is loaded.
        self._options = replace(self._typed, mask=options.loaded_mask(), public_key=options.loaded_key())
        self._slot = ModelSlot(load_model(model, self._options))

    @property
    def info(self) -> Bundle:
        """What the model file says about itself."""
        return self._slot.model.bundle

    @property
    def sha256(self) -> str:
        """That of the model file, as it was loaded, in hexadecimal."""
        return self._slot.model.sha256

    @property
    def providers(self) -> tuple[str, ...]:
        """What runs the network: ONNX Runtime's names of execution providers, or "OpenVINO CPU"."""
        return self._slot.model.providers

    @property
    def precision(self) -> str | None:
        """What the network is computed in: "f32", "bf16", …; None where ONNX Runtime's own defaults hold."""
        return self._slot.model.precision

    @property
    def threshold(self) -> float:
        """The score above which an image is called anomalous. UsageError when set to NaN or infinity.

        One that is set promises nothing: `Result.alpha` is None from then on. It is that of the model that judges now:
        where that is on trial (`swap`) and gives its place back, the one before judges by its own again.
        """
        return self._slot.model.threshold.value

    @threshold.setter
    def threshold(self, value: float) -> None:
        check_threshold(value)
        self._typed = replace(self._typed, threshold=float(value), alpha=None)
        self._options = replace(self._options, threshold=float(value), alpha=None)
        self._slot.set_threshold(Threshold(float(value)))

    @property
    def alpha(self) -> float | None:
        """The share of good images, at most, that the threshold rejects: `Result.alpha` of what is judged next."""
        return self._slot.model.threshold.alpha

    @property
    def masked(self) -> bool:
        """Whether a mask says where anomalies count: `Result.masked` of what is judged next."""
        return self._slot.model.running().preprocessor.masked

    def __call__(self, image: ImageLike) -> Result:
        """Judge one image: a path, or an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8 or uint16.

        What an image file holds is taken as bytes, too, and a picture of PIL in the mode L, I;16, RGB or RGBA, whose
        channels are known.

        An image whose verdict would mean nothing, as it is badly exposed, out of focus, empty, of the wrong colours, or
        unlike all that was learned from, has the `Result.verdict` "invalid".

        Raises ImageError for an image that cannot be read or judged, or that the ROI reaches beyond; InvalidImageError,
        which is one, for a size or range that was not learned from; UsageError when the mask does not fit it;
        ModelError when the model gives anything but finite numbers.
        """
        return self._slot.judge([image])[0]

    def predict_batch(self, images: Iterable[ImageLike], *, batch_size: int = 8) -> list[Result]:
        """Judge many images of any mix of sizes, paths and arrays; `batch_size` of them at a time.

        An iterator is read as it goes, so only one full-size image and one batch of inputs are held at once.
        Raises ImageError at the first image that cannot be read or judged.
        """
        if batch_size < 1:
            raise UsageError(f"The batch size must be at least 1, but is {batch_size}.")
        source = iter(images)
        results: list[Result] = []
        while batch := self._slot.judge(
            islice(source, 1 if self._slot.on_trial else batch_size), room=min(batch_size, 8)
        ):
            results += batch
        return results

    def warmup(self, runs: int = 1) -> None:
        """Run the model on an empty image, so that the first real one does not pay for allocations."""
        for _ in range(runs):
            self._slot.model.warm_up()

    def prepare(self, model: str | os.PathLike[str]) -> LoadedModel:
        """Load another model for `swap`, and run it once, while this detector goes on judging with the one that it has.

        The options are those of this detector. What is checked, in this order: the signature, where there is a
        `public_key`; the file; its goldens, where it has any or `verify` asks for them; and, of another file than the
        one that judges, that it fits the station. It learned from photos of about the shape, the bits and the kind
        (grey or colour) that the one before learned from; no threshold was set by hand, and no ROI that this model
        alone was not calibrated with.

        Raises what `Detector` does; the detector then judges as before.
        """
        new = load_model(model, self._options, goldens_if_any=True)
        new.warm_up()
        if new.sha256 != self.sha256:
            check_replacement(new, self._slot.model, self._options)
        return new

    def swap(
        self, model: str | os.PathLike[str] | LoadedModel, *, on_rollback: Callable[[ModelError], None] | None = None
    ) -> bool:
        """Judge with another model from the next image on: a file, or what `prepare` gave. Calls that have begun end
        with the model that they began with; each result names its own (`Result.model_sha256`).

        For its first 8 images the new model is on trial: where it cannot judge one that the model before it can, the
        latter gives the verdict, and judges from then on. `on_rollback` then gets the reason; by default it is a Python
        warning. A trial finds errors. A model that judges wrongly is found by its goldens.

        Gives whether another model judges now: not, where the file is the one that does.
        Raises what `prepare` does; the detector then judges as before. Memory for two models is needed.
        """
        new = model if isinstance(model, LoadedModel) else self.prepare(model)
        if new.sha256 == self.sha256:
            return False
        check_replacement(new, self._slot.model, self._options)  # may have changed since it was prepared
        typed, options, told = self._typed, self._options, _warn if on_rollback is None else on_rollback

        def roll_back(why: ModelError) -> None:
            self._typed, self._options = typed, options  # a threshold that was set meanwhile is none of this model's
            told(why)

        self._slot.put(new, roll_back)
        return True

    def close(self) -> None:
        """Release the model's memory once running calls have ended; later calls raise UsageError."""
        self._slot.close()

    def __enter__(self) -> "Detector":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., "Detector"], tuple[Any, ...]]:
        """Pickled, and copied, by the model's path and the options: the other process opens the file itself.

        There, ModelError is raised if the file is not the same any more. UsageError is, where it is closed.
        """
        model = self._slot.model
        model.running()  # raises where it is closed
        return _unpickled, (type(self), model.path, self._typed, model.sha256)


def _warn(why: ModelError) -> None:
    warnings.warn(str(why), RuntimeWarning, stacklevel=2)


def _unpickled(kind: type[Detector], path: str, options: InferenceOptions, sha256: str) -> Detector:
    detector = kind(path, **vars(options))
    if detector.sha256 != sha256:
        raise ModelError(f"The model {path} has changed since the detector was pickled; make a new Detector.")
    return detector
