"""The time of a training: all of it ends within what it may take, and one that was too short says so."""

from __future__ import annotations

import dataclasses
import re
import time
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from simulated_time import SimulatedTime
from small_training import SIZE, Stop, resume, teach

from rstpm_edge import progress as progress_module
from rstpm_edge.cli.train import say_run
from rstpm_edge.errors import UsageError
from rstpm_edge.model.metadata import Teacher
from rstpm_edge.progress import Progress
from rstpm_edge.training.data.images import good_images, load_inputs
from rstpm_edge.training.export.run_metadata import bundle_of
from rstpm_edge.training.learning import stage_times, student_training
from rstpm_edge.training.learning import time_budget as module
from rstpm_edge.training.learning.checkpoint import load_checkpoint
from rstpm_edge.training.learning.convergence import fall_per_epoch, unfinished
from rstpm_edge.training.learning.run_config import load_config
from rstpm_edge.training.learning.run_summary import load_summary, save_summary
from rstpm_edge.training.learning.stage_times import measure_stages
from rstpm_edge.training.learning.time_budget import Budget, Expected
from rstpm_edge.training.model.presets import EDGE, Preset, preset_with_teachers
from rstpm_edge.training.model.rstpm import RSTPM

EXPECTED = Expected(teachers=20.0, epoch=4.0, residuals=2.0, segmentation=28.0, calibration=5.0)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def spend(clock: Clock, budget: Budget, slower: float, slower_epochs: float, most: int = 1000) -> int:
    """A training in stages that take `slower` times what was expected; gives the number of epochs."""
    budget.begin("reading")
    clock.now += 7
    budget.expect(EXPECTED)
    budget.check(100)
    budget.begin("teachers")
    clock.now += slower * EXPECTED.teachers
    budget.begin("students")
    since, done = clock.now, 0
    while True:
        left = budget.epochs_left(most - done, done, since)
        clock.now += slower_epochs * EXPECTED.epoch
        budget.stepped(slower_epochs * EXPECTED.epoch)
        done += 1
        if left == 1:
            break
    clock.now += slower_epochs * EXPECTED.tail
    return done


@pytest.mark.parametrize("limit", [2.0, 5.0, 30.0])
@pytest.mark.parametrize(("slower", "slower_epochs"), [(1, 1), (1.3, 1.3), (0.6, 0.6), (1, 1.5), (1.5, 1)])
def test_all_of_a_training_ends_in_time(clock: Clock, limit: float, slower: float, slower_epochs: float) -> None:
    budget = Budget(limit)
    spend(clock, budget, slower, slower_epochs)
    epoch = slower_epochs * EXPECTED.epoch / 60
    assert limit - epoch - 1e-6 <= budget.minutes <= limit + 1e-6


def test_a_busy_moment_of_one_epoch_does_not_end_a_training(clock: Clock) -> None:
    budget = Budget(5.0)
    budget.expect(EXPECTED)
    budget.begin("students")
    since = clock.now
    for done in range(20):
        left = budget.epochs_left(1000, done, since)
        took = EXPECTED.epoch * (10 if done == 19 else 1)
        clock.now += took
        budget.stepped(took)
    # 300 s less 116 of twenty epochs and 35 of the tail, at 5.8 s an epoch on average
    assert left > 20
    assert budget.epochs_left(1000, 20, since) == 25


def test_within_an_epoch_what_is_done_of_it_counts(clock: Clock) -> None:
    budget = Budget(5.0)
    budget.expect(EXPECTED)
    since = clock.now
    assert budget.epochs_left(1000, 0, since) == 66  # of 4 s, in 265 s
    clock.now += 10
    assert budget.epochs_left(1000, 0.25, since) == 6  # 6.375 of 40 s, and a quarter that is done
    clock.now += 30
    assert budget.epochs_left(1000, 1, since) == 5
    clock.now += 240
    assert (budget.epochs_left(1000, 7, since), budget.epochs_left(1000, 7, since, least=0)) == (1, 0)


def test_of_two_measurements_the_best_counts() -> None:
    slow = dataclasses.replace(EXPECTED.times(20), calibration=3.0)
    assert EXPECTED.at_best(slow) == dataclasses.replace(EXPECTED, calibration=3.0)


def test_what_is_far_off_is_to_be_measured_again(clock: Clock) -> None:
    for took, belied in ((1, True), (7, False), (20, False), (59, False), (61, True)):
        budget = Budget(5.0)
        budget.expect(EXPECTED)
        budget.begin("teachers")
        assert not budget.is_belied
        clock.now += took
        budget.begin("students")
        assert budget.is_belied == belied
    unlimited = Budget(None)
    unlimited.expect(EXPECTED)
    unlimited.stepped(100.0)
    assert not unlimited.is_belied  # nothing depends on it


def test_without_a_limit_all_epochs_are_trained(clock: Clock) -> None:
    assert spend(clock, Budget(None), 1, 1, most=60) == 60


def test_time_before_an_interruption_counts(clock: Clock) -> None:
    budget = Budget(5.0, spent=3.0)
    assert budget.minutes == 3
    spend(clock, budget, 1, 1)
    assert 4.9 <= budget.minutes <= 5


def test_a_limit_that_not_even_one_epoch_keeps_is_refused_before_the_work(clock: Clock) -> None:
    # 7 s of reading, 20 of the teachers, 4 of an epoch, 35 of the rest
    with pytest.raises(UsageError) as refused:
        spend(clock, Budget(0.3), 1, 1)
    assert str(refused.value) == (
        "`max_minutes=0.3` is too little for 100 photos on this machine: one pass over them takes about 1 min 6 s with "
        "all that goes with it, and a good model many. Give at least 1.5, or fewer photos, or a smaller `size`."
    )
    assert clock.now == 1007
    assert spend(clock, Budget(1.0), 1, 1) == 1  # a little too little: the least is done, and it is said
    tight = Budget(1.0)
    tight.expect(EXPECTED)
    assert tight.check(100) is None
    clock.now += 7
    assert str(tight.check(100)).endswith(" One pass is done all the same.")


def test_the_plan_is_refined_by_what_stages_took(clock: Clock) -> None:
    budget = Budget(None)
    budget.begin("reading")
    assert budget.plan(60) == module.FIRST_PLAN
    clock.now += 7
    budget.expect(EXPECTED)
    budget.begin("teachers")
    assert budget.plan(10) == {
        "reading": 7,
        "teachers": 20,
        "students": 40,
        "residuals": 2,
        "segmentation": 28,
        "calibration": 5,
    }
    assert list(budget.plan(10)) == list(module.FIRST_PLAN)
    clock.now += 40
    budget.begin("students")
    later = budget.plan(10)
    assert (later["teachers"], later["students"], later["segmentation"]) == (40, 80, 56)  # twice as slow as it was


@pytest.mark.parametrize(
    "chosen", [EDGE, preset_with_teachers("paper", None, "mobilenetv3_small_050")], ids=lambda preset: preset.name
)
def test_measuring_changes_nothing(parts: Path, chosen: Preset) -> None:
    model = RSTPM(chosen, {chosen.teacher1: "random", chosen.teacher2: "random"})
    inputs, _, _ = load_inputs(good_images(parts), SIZE, "stretch")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = {name: part.training for name, part in model.named_modules()}
    torch.manual_seed(7)
    draw = torch.get_rng_state()
    found = measure_stages(Fabric(accelerator="cpu"), model, inputs, 2 * len(inputs), 3)
    assert torch.equal(torch.get_rng_state(), draw)
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0, equal_nan=True)
    assert {name: part.training for name, part in model.named_modules()} == modes
    assert min(found.teachers, found.epoch, found.calibration) > 0
    assert (found.segmentation > 0, found.residuals > 0) == (
        chosen.has_segmentation_head,
        chosen.distance == "normalized-residual",
    )


# A real training


@pytest.mark.training
def test_a_training_tells_of_every_stage_and_keeps_a_log(parts: Path, tmp_path: Path) -> None:
    said: list[Progress] = []
    folder = teach(parts, tmp_path / "run", epochs=3, report=said.append)
    stages = list(dict.fromkeys(progress.stage for progress in said if progress.warning is None))
    assert stages == list(module.FIRST_PLAN)
    for stage in stages:
        of_stage = [progress for progress in said if progress.stage == stage]
        assert of_stage[-1].done == of_stage[-1].total > 0
        assert [progress.done for progress in of_stage] == sorted({progress.done for progress in of_stage})
        assert all(list(progress.plan) == stages for progress in of_stage if progress.plan)
    assert {(progress.epoch, progress.epochs) for progress in said if progress.stage == "students"} == {
        (1, 3),
        (2, 3),
        (3, 3),
    }
    lines = (folder / "train.log").read_text().splitlines()
    told = [line.split(" ", 2)[2] for line in lines]
    assert told[0] == "Reading: 0 % of the whole"
    assert told[-1] == "Finished."
    for stage in stages:
        assert any(re.match(rf"{stage.capitalize()}: done in \d+ s; \d+ % of the whole", line) for line in told), stage


@pytest.mark.training
def test_a_log_is_never_silent_for_long(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each piece of each stage takes 20 seconds: a line a minute, with all that is known."""
    clock, began = Clock(), datetime(2026, 1, 31, 12)

    class Date:
        @staticmethod
        def now() -> datetime:
            return began + timedelta(seconds=clock.now)

    monkeypatch.setattr(progress_module.Log.__init__, "__defaults__", (clock.monotonic,))
    monkeypatch.setattr(progress_module, "datetime", Date)

    def report(progress: Progress) -> None:
        clock.now += 20

    folder = teach(parts, tmp_path / "run", epochs=6, report=report)
    lines = [line.split(" ", 2) for line in (folder / "train.log").read_text().splitlines()]
    times = [datetime.fromisoformat(f"{day} {time}") for day, time, _ in lines]
    assert max(after - before for before, after in pairwise(times)) < timedelta(minutes=1)
    students = [text for _, _, text in lines if text.startswith("Students: ")]
    told = [
        re.search(r"(\d+) % of the whole, epoch (\d) of 6, loss \d+\.\d{3} \d+\.\d{3}, .* left$", text)
        for text in students
    ]
    assert [found and found[2] for found in told] == ["1", "3", "5", "6"]
    shares = [int(found[1]) for found in told if found]
    assert shares == sorted(shares)


@pytest.mark.training
def test_a_resumed_run_goes_on_with_its_log(parts: Path, tmp_path: Path) -> None:

    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        teach(parts, folder, report=Stop(2))
    before = (folder / "train.log").read_text()
    assert before.splitlines()[-1].endswith(" Stopped: KeyboardInterrupt")
    resume(folder)
    after = (folder / "train.log").read_text()
    assert after.startswith(before)
    assert after.splitlines()[-1].endswith(" Finished.")


@pytest.mark.training
def test_a_log_that_cannot_be_written_ends_nothing(parts: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "train.log").mkdir(parents=True)
    assert load_summary(teach(parts, tmp_path / "run", epochs=1)).epochs == 1


@pytest.mark.training
def test_a_real_training_keeps_its_limit(parts: Path, tmp_path: Path) -> None:
    """On whatever machine: the limit is some times what the least training takes there."""
    start = time.monotonic()
    teach(parts, tmp_path / "least", epochs=1)
    least = (time.monotonic() - start) / 60
    limit = 3 * least
    summary = load_summary(teach(parts, tmp_path / "run", epochs=100_000, max_minutes=limit))
    assert summary.epochs > 1
    assert least / 2 < summary.minutes < 2 * limit  # a test machine does other things, too


@pytest.mark.training
def test_a_real_training_refuses_a_limit_that_is_too_short(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^`max_minutes=0\.0001` is too little for \d+ photos on this machine: "):
        teach(parts, tmp_path / "run", max_minutes=0.0001)
    assert not (tmp_path / "run").exists()


TRUE = Expected(teachers=1000.0, epoch=800.0, residuals=0.0, segmentation=2000.0, calibration=200.0)  # simulated


@pytest.mark.training
@pytest.mark.parametrize(
    ("said", "wrong", "measured"),
    [
        (TRUE.times(20), 1, 2),  # it would have been refused: it is measured again at once
        (TRUE.times(6), 3, 4),  # and again, when the teachers belie that
        (
            dataclasses.replace(TRUE, epoch=20 * TRUE.epoch),
            3,
            4,
        ),  # or when the first epoch does, which it planned alone
        (TRUE.times(0.05), 1, 2),
    ],
    ids=["slow", "slow for long", "slow in the epoch", "fast"],
)
def test_a_wrong_measurement_decides_nothing(
    parts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: Expected,
    wrong: int,
    measured: int,
) -> None:
    """As beside a busy process: what was measured in a moment is far from what the stages then take."""
    clock = SimulatedTime()
    calls: list[Expected] = []
    foreseen: list[int] = []  # epochs, in the first one

    def measure(*arguments: object) -> Expected:
        calls.append(said if len(calls) < wrong else TRUE)
        return calls[-1]

    def report(progress: Progress) -> None:
        if progress.stage == "students" and progress.done:
            clock.sleep(TRUE.epoch / 3)  # a batch of three photos
            if progress.epoch == 1:
                foreseen.append(progress.epochs)
        elif progress.done == progress.total:
            clock.sleep({"teachers": TRUE.teachers, "calibration": TRUE.tail}.get(progress.stage, 0.0))

    rates: list[float] = []
    rate = student_training._rate

    def record(preset: Preset, progress: float) -> float:
        rates.append(rate(preset, progress))
        return rates[-1]

    monkeypatch.setattr(stage_times, "measure_stages", measure)
    monkeypatch.setattr(student_training, "_rate", record)
    for timed in (module, student_training):
        monkeypatch.setattr(timed, "time", clock)
    preset = dataclasses.replace(EDGE, batch_size=3, segmentation_head=False)
    limit = (TRUE.teachers + 12.4 * TRUE.epoch + TRUE.tail) / 60
    folder = teach(parts, tmp_path / "run", preset=preset, epochs=1000, max_minutes=limit, report=report)
    summary, checkpoint = load_summary(folder), load_checkpoint(folder)
    assert summary.epochs in (11, 12)
    assert foreseen[-1] in (11, 12, 13)
    assert len(calls) == measured
    assert summary.minutes <= limit * 1.01
    assert checkpoint is not None
    assert checkpoint.schedule == 1  # a whole cycle, in all of the time
    assert max(rates) > 0.9
    assert rates[-1] < 0.1
    peak = rates.index(max(rates)) / len(rates)
    assert 0.15 < peak < 0.45


# Whether it is done


def curve(epochs: int, end: float) -> list[tuple[float, float]]:
    """Losses that fall by the share `end` from each epoch to the next."""
    return [((1 - end) ** epoch, 2 * (1 - end) ** epoch) for epoch in range(epochs)]


@pytest.mark.parametrize(("epochs", "fall"), [(2, 0.05), (5, 0.05), (15, 0.023), (60, 0.005)])
def test_the_fall_of_an_epoch(epochs: int, fall: float) -> None:
    assert fall_per_epoch(curve(epochs, fall)) == pytest.approx(fall)
    assert (unfinished(curve(epochs, fall)) is None) == (fall < 0.01)


def test_too_few_epochs_are_told_and_kept_in_the_model(
    parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert unfinished([(1.0, 1.0)]) == "one epoch says nothing of where the loss would end"
    assert unfinished([(0.0, 0.0)] * 5) is None
    folder = teach(parts, tmp_path / "run", epochs=1)
    config, summary = load_config(folder), load_summary(folder)
    for losses, said in (
        (curve(10, 0.05), "its loss still fell by 5.0% an epoch"),
        (curve(60, 0.005), None),
    ):
        ended = dataclasses.replace(summary, losses=tuple(losses), epochs=len(losses))
        save_summary(folder, ended)
        say_run(folder)
        last = capsys.readouterr().out.splitlines()[-1]
        wanted = f"This training is not done: {said}. Train longer, with more --max-minutes or --epochs."
        assert (last == wanted) == (said is not None)
        teachers = tuple(Teacher(name, "", "", "") for name in ("a", "b"))
        bundle = bundle_of(config, ended, (teachers[0], teachers[1]))
        assert bundle.training.get("not_converged") == said
