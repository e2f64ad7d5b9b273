"""The time of a training: how many epochs fit beside all other stages.

What the stages that are over took corrects what is expected of those to come, so that a box that becomes busy ends in
time, too. What was measured beforehand took a moment, and a busy one makes it wrong many times over: where it says that
there is no time, and where what follows belies it, it is measured again.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median

from rstpm_edge.errors import UsageError
from rstpm_edge.progress import duration

WRONG = 3.0  # times at most that what was measured is corrected by; what is further off is measured again
RECENT = 5  # epochs, whose median says what one takes: a busy moment hits one or two
OVER = 3.0  # times its limit that a training must take to be refused: a busy moment may make three of one

# Before anything is measured: seconds of a hundred photos of a megapixel on two cores.
FIRST_PLAN: Mapping[str, float] = {
    "reading": 3.0,
    "teachers": 8.0,
    "students": 70.0,
    "residuals": 1.0,
    "segmentation": 25.0,
    "calibration": 1.0,
}


@dataclass(frozen=True)
class Expected:
    """Seconds. `epoch` is one of the students; `tail` is what follows them."""

    teachers: float
    epoch: float
    residuals: float
    segmentation: float
    calibration: float

    @property
    def tail(self) -> float:
        """What follows the students."""
        return self.residuals + self.segmentation + self.calibration

    def at_best(self, other: "Expected") -> "Expected":
        """Of each stage the shorter time of two measurements: what else runs only ever makes them longer."""
        return Expected(*(min(pair) for pair in zip(vars(self).values(), vars(other).values(), strict=True)))

    def times(self, factor: float) -> "Expected":
        """The same on a machine that is so many times slower."""
        return Expected(*(factor * seconds for seconds in vars(self).values()))


class Budget:
    """Counts the time of a training, and plans with what is left. `spent` are the minutes before it was interrupted."""

    def __init__(self, max_minutes: float | None, spent: float = 0.0) -> None:
        self.max_minutes = max_minutes
        self._started = time.monotonic() - 60 * spent
        self._expected: Expected | None = None
        self._epoch: float | None = None  # seconds, as measured
        self._steps: list[float] = []  # seconds of the steps of each epoch
        self._over: dict[str, float] = {}  # seconds that stages took
        self._stage: tuple[str, float] | None = None

    @property
    def minutes(self) -> float:
        """What all of the training has taken so far."""
        return (time.monotonic() - self._started) / 60

    def begin(self, stage: str) -> None:
        """Note that the stage before is over, and this one begins."""
        now = time.monotonic()
        if self._stage is not None:
            name, since = self._stage
            self._over[name] = self._over.get(name, 0.0) + now - since
        self._stage = stage, now

    def expect(self, expected: Expected) -> None:
        """Plan with what was measured."""
        self._expected = expected

    @property
    def least(self) -> float:
        """The minutes that a training of one epoch will have taken; 0 before anything is measured."""
        one = self._expected
        return 0.0 if one is None else self.minutes + (one.teachers + one.epoch + one.tail) / 60

    @property
    def is_tight(self) -> bool:
        """Whether not even one epoch ends in time."""
        return self.max_minutes is not None and self.least > self.max_minutes

    @property
    def is_belied(self) -> bool:
        """Whether what followed took so much more or less than was measured that a limit needs it measured again."""
        took, measured = self._took()
        return self.max_minutes is not None and not measured / WRONG <= took <= WRONG * measured

    def check(self, photos: int) -> str | None:
        """What to say when one epoch alone ends too late for the limit. Raises UsageError when it is far too late."""
        if self.max_minutes is None or not self.is_tight:
            return None
        least = self.least
        enough = math.ceil(2.2 * least) / 2  # half minutes, and some room
        sentence = (
            f"`max_minutes={self.max_minutes:g}` is too little for {photos} photos on this machine: one pass over "
            f"them takes about {duration(60 * least)} with all that goes with it, and a good model many. Give at "
            f"least {enough:g}, or fewer photos, or a smaller `size`."
        )
        if least > OVER * self.max_minutes:
            raise UsageError(sentence)
        return f"{sentence} One pass is done all the same."

    def stepped(self, seconds: float) -> None:
        """Note what the steps of an epoch took, without what is done between epochs."""
        self._steps.append(seconds)

    def epochs_left(self, most: int, done: float, since: float, *, least: int = 1) -> int:
        """How many more epochs fit, from `least` to `most`, the one under way included.

        `done` of them, a fraction within one, took the time since `since` (time.monotonic).
        """
        if done:
            self._epoch = (time.monotonic() - since) / done
        expected = self._corrected()
        pace = self._epoch if self._epoch is not None else expected.epoch if expected else 0.0
        if self.max_minutes is None or pace <= 0:
            return most
        left = 60 * (self.max_minutes - self.minutes) - (expected.tail if expected else 0.0)
        return max(least, min(most, int(left / pace + done % 1)))

    def likely_epochs(self, most: int) -> int:
        """How many epochs will fit when the teachers are done, from 1 to `most`."""
        expected = self._corrected()
        if self.max_minutes is None or expected is None or expected.epoch <= 0:
            return most
        left = 60 * (self.max_minutes - self.minutes) - expected.teachers - expected.tail
        return max(1, min(most, int(left / expected.epoch)))

    def plan(self, epochs: float) -> Mapping[str, float]:
        """What all stages of this session take, as Progress has it: those that are over, and those to come."""
        expected = self._corrected()
        if expected is None:
            return FIRST_PLAN
        plan = {
            "teachers": expected.teachers,
            "students": epochs * expected.epoch,
            "residuals": expected.residuals,
            "segmentation": expected.segmentation,
            "calibration": expected.calibration,
        }
        first = {name: self._over[name] for name in ("reading",) if name in self._over}
        return {**first, **plan, **self._over}

    def _corrected(self) -> Expected | None:
        """What is expected, by how much slower or faster an epoch is, or else the teachers were, than measured."""
        expected = self._expected
        if expected is None:
            return None
        took, measured = self._took()
        factor = min(max(took / max(measured, 1e-9), 1 / WRONG), WRONG)
        return replace(expected.times(factor), epoch=factor * expected.epoch if self._epoch is None else self._epoch)

    def _took(self) -> tuple[float, float]:
        """Seconds that the steps of an epoch took, or else the teachers, or nothing yet; and what was expected."""
        expected = self._expected
        if expected is None:
            return 0.0, 0.0
        if self._steps:
            return median(self._steps[-RECENT:]), expected.epoch
        return self._over.get("teachers", expected.teachers), expected.teachers
