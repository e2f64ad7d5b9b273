"""The detector: an image goes in, a verdict comes out."""

import math
import os
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import islice
from types import TracebackType
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.engine.providers import Provider
from rstpm_edge.engine.session import Session, open_session
from rstpm_edge.errors import ModelError, UsageError
from rstpm_edge.image.decode import read_stored
from rstpm_edge.image.given import Picture, as_array
from rstpm_edge.image.grid import Grid
from rstpm_edge.image.mask import load_mask, stored_mask
from rstpm_edge.image.preprocess import Channels
from rstpm_edge.image.roi import Roi, check_roi
from rstpm_edge.input_check import InputCheck, Notify
from rstpm_edge.model.metadata import Bundle
from rstpm_edge.native import kernels
from rstpm_edge.postprocess.scoring import Scorer
from rstpm_edge.postprocess.verdict import judge
from rstpm_edge.result import Result

MaskLike: TypeAlias = NDArray[Any] | str | os.PathLike[str]
ImageLike: TypeAlias = MaskLike | bytes | bytearray | memoryview | Picture


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

    Raises ModelError, ProviderError, UsageError, or OutputError for a folder that cannot be made.
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
    ) -> None:
        options = {name: value for name, value in locals().items() if name not in ("self", "model")}  # for __reduce__
        if channels not in get_args(Channels):
            raise UsageError(f"channels must be one of {', '.join(get_args(Channels))}, but is {channels!r}.")
        if threshold is not None and alpha is not None:
            raise UsageError("Give a threshold or an alpha, which asks for one, not both.")
        from_model = isinstance(roi, str) and roi == "model"
        given_roi = None if from_model or roi is None else check_roi(roi)
        masked_by_model = isinstance(mask, str) and mask == "model"
        loaded_mask = None if mask is None or masked_by_model else load_mask(mask)
        named = [name for name in ("mask", "engine_cache") if _is_path(options[name])]
        places = {name: os.path.abspath(options[name]) for name in named if not (name == "mask" and masked_by_model)}
        self._made_from = (os.path.abspath(model), {**options, **places, "roi": "model" if from_model else given_roi})
        session = open_session(model, providers=providers, threads=threads, polite=polite, engine_cache=engine_cache)
        self._channels = channels
        self._info = session.bundle
        self._providers = session.providers
        self._precision = session.precision
        self._threads = session.threads
        self._size = (session.bundle.height, session.bundle.width)
        self._kernel = kernels().active
        self._score = Scorer(session.bundle.fusion, session.bundle.score_fusion, session.bundle.level_sizes, self._size)
        self._inputs = InputCheck(
            session.bundle,
            roi="model" if from_model else given_roi,
            allow_size_change=allow_size_change,
            notify=notify,
        )
        if masked_by_model and session.bundle.mask is not None:
            loaded_mask = stored_mask(session.bundle.mask)
        self._ignored: Callable[[Grid, tuple[int, int]], NDArray[np.bool_]] | None = None
        if loaded_mask is not None:  # photos of one camera all have one size
            self._ignored = lru_cache(maxsize=4)(loaded_mask.ignored)
        self._open_session: Session | None = session
        calibration = session.bundle.calibration
        if threshold is None:
            threshold = calibration.threshold if alpha is None else calibration.threshold_for(alpha)
        self.threshold = threshold

    @property
    def info(self) -> Bundle:
        """What the model file says about itself."""
        return self._info

    @property
    def providers(self) -> tuple[str, ...]:
        """What runs the network: ONNX Runtime's names of execution providers, or "OpenVINO CPU"."""
        return self._providers

    @property
    def precision(self) -> str | None:
        """What the network is computed in: "f32", "bf16", …; None where ONNX Runtime's own defaults hold."""
        return self._precision

    @property
    def threshold(self) -> float:
        """The score above which an image is called anomalous. UsageError when set to NaN or infinity."""
        return self._threshold

    @threshold.setter
    def threshold(self, value: float) -> None:
        if not math.isfinite(value):
            raise UsageError(f"The threshold must be a finite number, but is {value}.")
        self._threshold = float(value)

    def __call__(self, image: ImageLike) -> Result:
        """Judge one image: a path, or an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8 or uint16.

        What an image file holds is taken as bytes, too, and a picture of PIL in the mode L, I;16, RGB or RGBA, whose
        channels are known.

        Raises ImageError for an image that cannot be read or judged, that the ROI reaches beyond, or that is so unlike
        what was learned from that a verdict would mean nothing; UsageError when the mask does not fit it; ModelError
        when the model gives anything but finite numbers.
        """
        return self._judge([image])[0]

    def predict_batch(self, images: Iterable[ImageLike], *, batch_size: int = 8) -> list[Result]:
        """Judge many images of any mix of sizes, paths and arrays; `batch_size` of them at a time.

        An iterator is read as it goes, so only one full-size image and one batch of inputs are held at once.
        Raises ImageError at the first image that cannot be read or judged.
        """
        if batch_size < 1:
            raise UsageError(f"The batch size must be at least 1, but is {batch_size}.")
        source = iter(images)
        results: list[Result] = []
        while batch := self._judge(islice(source, batch_size), room=min(batch_size, 8)):
            results += batch
        return results

    def warmup(self, runs: int = 1) -> None:
        """Run the model on an empty image, so that the first real one does not pay for allocations."""
        session = self._running()
        for _ in range(runs):  # past ROI and mask, which need not fit an image of this size
            self._score(session.run(np.zeros((1, *self._size, 3), np.uint8)))

    def close(self) -> None:
        """Release the model's memory once running calls have ended; later calls raise UsageError."""
        self._open_session = None

    def __enter__(self) -> "Detector":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., "Detector"], tuple[Any, ...]]:
        """Pickled, and copied, by the model's path and the options: the other process opens the file itself.

        There, ModelError is raised if the file is not the same any more.
        """
        path, options = self._made_from
        options = {**options, "threshold": self._threshold, "alpha": None}
        return _unpickled, (type(self), path, options, self._running().fingerprint)

    def _judge(self, images: Iterable[ImageLike], *, room: int = 1) -> list[Result]:
        """Judge a batch. `room` says how many images to expect; more are taken too."""
        session = self._running()  # kept until the end, so that close() in another thread does no harm
        inputs = np.empty((room, *self._size, 3), np.uint8)
        grids: list[Grid] = []
        for image in images:
            if len(grids) == len(inputs):
                inputs = np.concatenate([inputs, np.empty_like(inputs)])
            grids.append(self._prepare(image, inputs[len(grids)]))
        if not grids:
            return []
        ignored = [self._ignored(grid, self._size) if self._ignored else None for grid in grids]
        scored = self._score(session.run(inputs[: len(grids)]), ignored)
        threshold = self._threshold  # read once: another thread may set it
        results = []
        for i, grid in enumerate(grids):
            score, cell = float(scored.score[i]), (int(scored.position[i, 0]), int(scored.position[i, 1]))
            anomaly_map, calibration = scored.anomaly_map[i], self._info.calibration
            results.append(judge(anomaly_map, score, cell, grid, calibration, threshold=threshold, ignored=ignored[i]))
        return results

    def _running(self) -> Session:
        session = self._open_session
        if session is None:
            raise UsageError("The detector is closed; make a new one.")
        return session

    def _prepare(self, image: ImageLike, out: NDArray[np.uint8]) -> Grid:
        """Write the model's input for `image` to `out`."""
        photo, channels = self._load(image)
        name = image if isinstance(image, (str, os.PathLike)) else "the image"
        _, grid = self._inputs.prepare(
            photo, name, channels=channels, out=out, threads=self._threads, kernel=self._kernel
        )
        return grid

    def _load(self, image: ImageLike) -> tuple[NDArray[Any], Channels]:
        if isinstance(image, (str, os.PathLike)):
            return read_stored(image), "bgr"  # in OpenCV's order: `to_input` turns it at no cost
        return as_array(image, self._channels)  # before it is cropped: a camera that fails gives None


def _is_path(value: Any) -> bool:
    return isinstance(value, (str, os.PathLike))


def _unpickled(kind: type[Detector], path: str, options: dict[str, Any], fingerprint: str) -> Detector:
    detector = kind(path, **options)
    if detector._running().fingerprint != fingerprint:
        raise ModelError(f"The model {path} has changed since the detector was pickled; make a new Detector.")
    return detector
