"""Progress of long work: what is told after each piece, how far the whole of it is, and the lines of a log."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

EVERY = 30.0  # seconds between the lines of a log
TOLD = 0.05  # share of a stage from which on its own pace says better than the plan how long the rest takes


@dataclass(frozen=True)
class Progress:
    """Told to the caller when a stage begins (`done` is 0) and after each piece of it.

    `loss` is that of the last whole epoch, (pair 1, pair 2), and in the first one that of its images so far; `epoch`,
    from 1, is the one under way, of `epochs`.
    `warning` is a sentence for people; nothing else counts then. `plan` names all stages of the whole in their order,
    with what each is expected to take, in any unit; a later plan takes the place of an earlier one. Where the whole
    is several like this one, `part`, from 1, says which of `parts` it is.
    """

    stage: str
    done: int
    total: int
    loss: tuple[float, float] | None = None
    warning: str | None = None
    epoch: int | None = None
    epochs: int | None = None
    plan: Mapping[str, float] | None = None
    part: int = 1
    parts: int = 1


Report: TypeAlias = Callable[[Progress], None]
Clock: TypeAlias = Callable[[], float]


class Whole:
    """How far all stages are together, by the time that they take: `share` (0 to 1) never falls.

    `seconds_left` is None while nothing is known. What a stage is expected to take comes from the plan, scaled by what
    the stages so far have taken; once enough of a stage is done, from its own pace.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.share = 0.0
        self.seconds_left: float | None = None
        self._clock = clock
        self._started = self._part_started = self._stage_started = clock()
        self._part = 1
        self._plan: dict[str, float] = {}
        self._stage: str | None = None
        self._taken: dict[str, float] = {}  # seconds, of the stages of this part that are over

    def take(self, progress: Progress) -> None:
        """Refine both by what is done now."""
        now = self._clock()
        if progress.part != self._part:
            self._part, self._part_started, self._stage, self._taken = progress.part, now, None, {}
        if progress.plan is not None:
            self._plan = dict(progress.plan)
        if progress.stage != self._stage:
            if self._stage is not None:
                self._taken[self._stage] = now - self._stage_started
            self._stage, self._stage_started = progress.stage, now
        left = self._left_of_part(progress, now)
        if left is None:
            return
        part = now - self._part_started + left  # seconds, in all
        others = (self._part_started - self._started) / (self._part - 1) if self._part > 1 else part
        self.seconds_left = left + (progress.parts - self._part) * others
        passed = now - self._started
        self.share = max(self.share, passed / max(passed + self.seconds_left, 1e-9)) if passed > 0 else self.share

    def _left_of_part(self, progress: Progress, now: float) -> float | None:
        elapsed = now - self._stage_started
        done = min(progress.done / progress.total, 1.0) if progress.total else 0.0
        names = list(self._plan)  # empty where the stage is all there is
        at = names.index(progress.stage) if progress.stage in names else None
        own = 0.0 if at is None else self._plan[progress.stage]
        later = [] if at is None else [self._plan[name] for name in names[at + 1 :]]
        planned = sum(self._plan[name] for name in self._taken if name in self._plan) + own * done
        taken = sum(seconds for name, seconds in self._taken.items() if name in self._plan) + elapsed * (own > 0)
        scale = taken / planned if planned > 0 and taken > 0 else None
        if at is None and self._plan:
            return None
        if done >= TOLD and elapsed > 0:
            left = elapsed * (1 - done) / done
        elif scale is not None:
            left = own * scale * (1 - done)
        else:
            return None
        if not any(later):
            return left
        return None if scale is None else left + sum(later) * scale


class Log:
    """Lines for a log: when a stage begins and ends, every `EVERY` seconds in between, and each warning."""

    def __init__(self, write: Callable[[str], None], clock: Clock = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._whole = Whole(clock)
        self._stage: tuple[int, str] | None = None
        self._stage_started = self._last = clock()
        self._ended = True

    def __call__(self, progress: Progress) -> None:
        """Take note of `progress`, and write what is due."""
        if progress.warning is not None:
            self._say(progress, progress.warning)
            return
        now, begins = self._clock(), (progress.part, progress.stage) != self._stage
        self._whole.take(progress)
        if begins:
            self._stage, self._stage_started, self._ended = (progress.part, progress.stage), now, False
        if progress.total and progress.done >= progress.total:
            if not self._ended:
                self._say(progress, f"done in {duration(now - self._stage_started)}; {describe(progress, self._whole)}")
            self._ended, self._last = True, now
        elif begins or now - self._last >= EVERY:
            self._say(progress, describe(progress, self._whole))
            self._ended, self._last = False, now

    def _say(self, progress: Progress, what: str) -> None:
        part = f"{progress.part} of {progress.parts}, " if progress.parts > 1 else ""
        self._write(stamped(f"{part}{progress.stage.capitalize()}: {what}"))


def stamped(line: str) -> str:
    """A line of a log, with the time."""
    return f"{datetime.now():%Y-%m-%d %H:%M:%S} {line}"


def describe(progress: Progress, whole: Whole) -> str:
    """`43 % of the whole, epoch 12 of 47, loss 3.658 4.510, 1 min 20 s left`, or what of it is known."""
    said = [f"{percent(progress, whole)} % of the whole", *details(progress)]
    if whole.seconds_left is not None:
        said.append(f"{duration(whole.seconds_left)} left")
    return ", ".join(said)


def percent(progress: Progress, whole: Whole) -> int:
    """Whole percent; 100 only where nothing is left."""
    return min(int(100 * whole.share), 100 if whole.seconds_left == 0 else 99)


def details(progress: Progress) -> list[str]:
    """Epoch and loss, where there are any."""
    said = [] if progress.epoch is None else [f"epoch {progress.epoch} of {progress.epochs}"]
    return said if progress.loss is None else [*said, f"loss {progress.loss[0]:.3f} {progress.loss[1]:.3f}"]


def duration(seconds: float) -> str:
    """`8 s`, `1 min 20 s`, `2 h 5 min`."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds // 60 % 60} min"
