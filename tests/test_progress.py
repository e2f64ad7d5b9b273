"""Progress: how far the whole is, by the time that stages take, and what a terminal and a log show of it."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator, Mapping

import pytest

from rstpm_edge import progress as module
from rstpm_edge.cli.progress import show_progress
from rstpm_edge.progress import Log, Progress, Whole, duration

PLAN = {"reading": 10.0, "training": 80.0, "testing": 10.0}


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    monotonic = __call__


@pytest.fixture
def clock() -> Clock:
    return Clock()


def stages(
    clock: Clock, seconds: Mapping[str, float], plan: Mapping[str, float] | None = PLAN, part: int = 1, parts: int = 1
) -> Iterator[Progress]:
    """Each stage in a hundred pieces, that take so many seconds."""
    for stage, takes in seconds.items():
        yield Progress(stage, 0, 100, plan=plan, part=part, parts=parts)
        for done in range(1, 101):
            clock.now += takes / 100
            yield Progress(stage, done, 100, part=part, parts=parts)


@pytest.mark.parametrize(
    "seconds",
    [
        {"reading": 10.0, "training": 80.0, "testing": 10.0},
        {"reading": 20.0, "training": 160.0, "testing": 20.0},  # all of it twice as slow
        {"reading": 1.0, "training": 300.0, "testing": 5.0},  # far from the plan
        {"reading": 100.0, "training": 10.0, "testing": 50.0},
    ],
)
def test_the_share_never_falls_and_ends_at_all(clock: Clock, seconds: dict[str, float]) -> None:
    whole, shares = Whole(clock), []
    for progress in stages(clock, seconds):
        whole.take(progress)
        shares.append(whole.share)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert whole.seconds_left == 0
    assert max(shares[:-1]) < 1


def test_a_plan_that_holds_is_told_to_the_second(clock: Clock) -> None:
    whole = Whole(clock)
    for progress in stages(clock, {"reading": 20.0, "training": 160.0, "testing": 20.0}):
        whole.take(progress)
        if clock.now >= 1:  # a twentieth of the first stage
            assert whole.seconds_left == pytest.approx(200 - clock.now, abs=1e-6)
            assert whole.share == pytest.approx(clock.now / 200)


def test_a_later_plan_takes_the_place_of_an_earlier_one(clock: Clock) -> None:
    whole = Whole(clock)
    for progress in stages(clock, {"reading": 10.0}):
        whole.take(progress)
    assert whole.seconds_left == pytest.approx(90)
    whole.take(Progress("training", 0, 100, plan={**PLAN, "training": 190.0}))
    assert whole.seconds_left == pytest.approx(200)


def test_several_parts_are_one_whole(clock: Clock) -> None:
    whole, shares = Whole(clock), []
    seconds = {"reading": 10.0, "training": 80.0, "testing": 10.0}
    for part in (1, 2, 3):
        for progress in stages(clock, seconds, part=part, parts=3):
            whole.take(progress)
            shares.append(whole.share)
        assert whole.share == pytest.approx(part / 3)
        assert whole.seconds_left == pytest.approx(300 - 100 * part)
    assert shares == sorted(shares)


def test_a_log_has_a_line_at_the_ends_of_a_stage_and_each_half_minute(clock: Clock) -> None:
    lines: list[str] = []
    log = Log(lines.append, clock)
    seconds = {"reading": 25.0, "training": 75.0, "testing": 25.0}
    for progress in stages(clock, seconds, plan=seconds):
        log(progress)
    log(Progress("copies", 0, 0, warning="Two photos are the same."))
    said = [re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (.*)", line) for line in lines]
    assert [line and line[1] for line in said] == [
        "Reading: 0 % of the whole",
        "Reading: done in 25 s; 20 % of the whole, 1 min 40 s left",
        "Training: 20 % of the whole, 1 min 40 s left",
        "Training: 44 % of the whole, 1 min 10 s left",
        "Training: 68 % of the whole, 40 s left",
        "Training: done in 1 min 15 s; 80 % of the whole, 25 s left",
        "Testing: 80 % of the whole, 25 s left",
        "Testing: done in 25 s; 100 % of the whole, 0 s left",
        "Copies: Two photos are the same.",
    ]


def test_a_line_tells_epoch_and_loss(clock: Clock) -> None:
    lines: list[str] = []
    log = Log(lines.append, clock)
    log(Progress("students", 0, 100, plan={"students": 1.0}, epoch=1, epochs=10))
    clock.now = 30
    log(Progress("students", 25, 100, loss=(1.5, 2.25), epoch=3, epochs=10, part=2, parts=4))
    assert lines[-1].endswith(" 2 of 4, Students: 0 % of the whole, epoch 3 of 10, loss 1.500 2.250")
    clock.now = 60
    log(Progress("students", 50, 100, loss=(1.5, 2.25), epoch=5, epochs=10, part=2, parts=4))
    assert ", epoch 5 of 10, loss 1.500 2.250, " in lines[-1]


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_one_bar_for_the_whole(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(module.Whole.__init__, "__defaults__", (clock,))
    with show_progress() as display:
        for progress in stages(clock, {"reading": 10.0, "training": 80.0, "testing": 10.0}):
            display(progress)
            if progress.stage == "reading" and progress.done == 50:
                display(Progress("copies", 0, 0, warning="Two photos are the same."))
        display(Progress("testing", 100, 100, loss=(1.5, 2.25), epoch=3, epochs=10))
    shown = [part.rstrip() for part in re.split(r"[\r\n]|\x1b\[\??\d*[a-zA-Z]", terminal.getvalue())]
    bars = [part for part in shown if "%" in part]
    percents = [int(found[1]) for part in bars if (found := re.search(r"(\d+)%", part))]
    assert percents == sorted(percents)
    assert (percents[0], percents[-1]) == (0, 100)
    assert "Copies: Two photos are the same." in shown
    assert any(part.startswith("Training ") and part.endswith("40%  1 min 0 s left") for part in bars)
    assert max(map(len, bars)) < 80
    assert "epoch 3 of 10" in bars[-1]
    assert terminal.getvalue().count("\n") == 2  # after the warning, and at the end
