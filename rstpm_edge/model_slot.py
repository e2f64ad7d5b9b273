"""The place of the model that judges. Another one may take it between two images, and is on trial at first."""

import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from rstpm_edge.calibration import Threshold
from rstpm_edge.errors import InvalidImageError, ModelError
from rstpm_edge.loaded_model import LoadedModel
from rstpm_edge.preprocessor import ImageLike
from rstpm_edge.result import Result

TRIAL = 8  # images that a new model must judge without an error before the one before it is let go

OnRollback = Callable[[ModelError], None]


@dataclass(frozen=True, eq=False)
class _Seat:
    """Who judges, and, while `left` images of a trial are to come, who did before.

    `by_hand`: a threshold was set since. Scores of the one before have another unit, so that judges by its own again.
    """

    model: LoadedModel
    before: LoadedModel | None = None
    left: int = 0
    on_rollback: OnRollback | None = None
    by_hand: bool = False


class ModelSlot:
    """Holds a model; may be shared by threads. A call that has begun ends with the model that it began with.

    On trial, a model that cannot judge an image which the one before it can gives its place back to that one: the image
    gets the verdict of the one before, and so do all later ones. To call an image invalid is to judge it.
    """

    def __init__(self, model: LoadedModel) -> None:
        self._seat = _Seat(model)
        self._own: tuple[int, threading.Lock] = os.getpid(), threading.Lock()

    @property
    def model(self) -> LoadedModel:
        """The one that judges the next image."""
        return self._seat.model

    @property
    def on_trial(self) -> bool:
        """Whether it may still give its place back: images are better given one by one."""
        return self._seat.before is not None

    def judge(self, images: Iterable[ImageLike], *, room: int = 1) -> list[Result]:
        """The verdicts of one model on some images. Raises what `Detector` does."""
        seat = self._seat
        if seat.before is None:
            return seat.model.judge(images, room=room)
        batch = list(images)  # which may be judged twice
        try:
            results = seat.model.judge(batch, room=room)
        except InvalidImageError:  # a verdict on the photo, and no fault of the model: the part does not pass
            raise
        except Exception as error:  # also one of ours: the model before must not be held up by it
            try:
                results = seat.before.judge(batch, room=room)
            except Exception:
                raise error from None  # it is the image that cannot be judged
            self._roll_back(seat, error)
            return results
        self._passed(seat, len(batch))
        return results

    def put(self, model: LoadedModel, on_rollback: OnRollback) -> None:
        """Let another model judge from the next image on. The one before is kept until its trial is over.

        Raises UsageError where the place is closed.
        """
        with self._lock():
            seat = self._seat
            seat.model.running()  # raises where it is closed
            # One that has judged nothing yet is nothing to go back to.
            untried = seat.before is not None and seat.left == TRIAL
            self._seat = _Seat(model, seat.before if untried else seat.model, TRIAL, on_rollback)

    def set_threshold(self, threshold: Threshold) -> None:
        """Judge by another threshold from the next image on."""
        with self._lock():
            self._seat = replace(self._seat, model=replace(self._seat.model, threshold=threshold), by_hand=True)

    def close(self) -> None:
        """Let go of all models; what they say about themselves stays."""
        with self._lock():
            self._seat = _Seat(replace(self._seat.model, pipeline=None))

    def _passed(self, seat: _Seat, images: int) -> None:
        with self._lock():
            now = self._seat
            if _same(now, seat) and now.before is not None:
                left = now.left - images
                self._seat = replace(now, left=left) if left > 0 else _Seat(now.model)
        # Only here, outside of the lock, may the last one be let go, which takes its time.

    def _roll_back(self, seat: _Seat, error: Exception) -> None:
        assert seat.before is not None
        with self._lock():
            now = self._seat
            if not _same(now, seat):
                return  # another thread did, or another model has come
            self._seat = _Seat(seat.before)
        if seat.on_rollback is not None:
            why = str(error) or type(error).__name__
            set_meanwhile = f", by its own threshold {seat.before.threshold.value:g}" if now.by_hand else ""
            refused = ModelError(
                f"The model {seat.model.path} cannot judge an image that the one before it can, which judges "
                f"again{set_meanwhile}: {why}"
            )
            refused.__cause__ = error
            seat.on_rollback(refused)

    def _lock(self) -> threading.Lock:
        process, lock = self._own
        if process != os.getpid():  # forked: a thread that is gone may hold it
            lock = threading.Lock()
            self._own = os.getpid(), lock
        return lock


def _same(one: _Seat, other: _Seat) -> bool:
    """Whether the same model judges, whatever its threshold."""
    return one.model.pipeline is other.model.pipeline
