"""The test for drift, on p-values that are made: what it calls a change, and how seldom it is wrong."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limits import make_validity
from numpy.typing import NDArray

from rstpm_edge.calibration import Calibration, calibrate
from rstpm_edge.drift import DriftState, begin
from rstpm_edge.errors import UsageError

Scores = NDArray[np.float64]


def judged(state: DriftState, calibration: Calibration, scores: Iterable[float]) -> DriftState:
    for score in scores:
        state = state.update(calibration.p_value(float(score)))
    return state


def after_good(images: int, then: Scores, *, held_out: int = 94, rate: float = 0.01, seed: int = 0) -> DriftState:
    """The state after good images, scored as a normal distribution is, and some more."""
    rng = np.random.default_rng(seed)
    calibration = calibrate(rng.standard_normal(held_out))
    return judged(begin(calibration, rate), calibration, [*rng.standard_normal(images), *then])


def normal(count: int, mean: float = 0.0, seed: int = 1) -> Scores:
    return np.random.default_rng(seed).normal(mean, 1, count)


def with_defects(count: int, share: float, seed: int = 1) -> Scores:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(count) < share, 8.0, rng.standard_normal(count))


@pytest.mark.parametrize("held_out", [30, 94, 300])
def test_runs_without_a_change_are_seldom_alarmed(held_out: int) -> None:
    """At a rate of 10 %: of 60 runs, 12 or more alarms would have a probability of 1 %; each has a new calibration."""
    runs = [after_good(300, normal(0), held_out=held_out, rate=0.1, seed=seed) for seed in range(60)]
    assert sum(run.drift != "stable" for run in runs) < 12


@pytest.mark.parametrize("before", [0, 50, 500])
@pytest.mark.parametrize("held_out", [30, 94])
@pytest.mark.parametrize("mean", [2.5, -2.5])
def test_another_scene_is_told_within_fifty_images(before: int, held_out: int, mean: float) -> None:
    state = after_good(before, normal(50, mean), held_out=held_out)
    assert state.drift == "scene changed"
    assert state.alarm_at is not None
    assert before < state.alarm_at <= before + 50


def test_a_scene_in_which_hardly_an_image_is_normal() -> None:
    state = after_good(100, normal(35, 20.0))
    assert state.drift == "scene changed"
    assert state.alarm_at is not None
    assert state.alarm_at <= 125


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_more_defects_are_no_other_scene(share: float) -> None:
    for seed in range(5):
        state = after_good(200, with_defects(150, share, seed + 1), seed=seed)
        assert state.drift == "more defects"
        assert state.alarm_at is not None
        assert state.alarm_at > 200


def test_some_batches_of_defects_are_no_other_scene() -> None:
    state = after_good(200, np.concatenate([np.full(8, 9.0), normal(100)]))
    assert state.drift == "more defects"


def test_one_defect_in_twenty_is_no_alarm() -> None:
    """Where it is so from the start, it is what is usual here."""
    for seed in range(10):
        assert after_good(0, with_defects(400, 0.05, seed + 1), seed=seed).drift == "stable"


def test_another_scene_is_told_after_more_defects_too() -> None:
    state = after_good(200, with_defects(150, 0.3))
    assert state.drift == "more defects"
    calibration = calibrate(np.random.default_rng(0).standard_normal(94))
    after = judged(state, calibration, normal(80, -2.5))
    assert after.drift == "scene changed"
    assert (after.alarm_at or 0) > (state.alarm_at or 0)


def test_an_alarm_stays_when_all_is_as_before() -> None:
    state = after_good(100, np.concatenate([normal(40, 3.0), normal(300)]))
    assert state.drift == "scene changed"
    assert state.alarm_at is not None
    assert state.alarm_at <= 140


def with_light(
    then: Scores, light: Scores, *, before: int = 0, held_out: int = 94, rate: float = 0.01, seed: int = 0
) -> DriftState:
    """The state after good images, whose scores and brightness are normally distributed, and some of others."""
    rng = np.random.default_rng(seed)
    calibration, levels = calibrate(rng.standard_normal(held_out)), np.sort(rng.standard_normal(held_out))
    validity = make_validity()
    validity = dataclasses.replace(validity, light=tuple(100 + 10 * levels))
    state = begin(calibration, rate, light=held_out)
    scores = np.concatenate([rng.standard_normal(before), then])
    for score, level in zip(scores, np.concatenate([rng.standard_normal(before), light]), strict=True):
        state = state.update(calibration.p_value(float(score)), validity.light_p_value(100 + 10 * float(level)))
    return state


@pytest.mark.parametrize("before", [0, 200])
@pytest.mark.parametrize("by", [-2.0, 2.0])
def test_another_light_that_moves_no_score(before: int, by: float) -> None:
    state = with_light(normal(50), normal(50, by, seed=2), before=before)
    assert (state.drift, state.cause) == ("scene changed", "light")
    assert before < (state.alarm_at or 0) <= before + 50
    assert with_light(normal(50, -2.0), normal(50, seed=2), before=before).cause == "scores"


def test_more_defects_under_the_same_light_are_no_other_scene() -> None:
    state = with_light(with_defects(150, 0.3), normal(150, seed=2), before=200)
    assert (state.drift, state.cause) == ("more defects", None)


@pytest.mark.parametrize("held_out", [30, 94])
def test_runs_under_the_same_light_are_seldom_alarmed(held_out: int) -> None:
    """Scores and light together have the promised rate: at 10 %, 12 or more of 60 would have a probability of 1 %."""
    runs = [
        with_light(normal(300, seed=seed + 100), normal(300, seed=seed + 500), held_out=held_out, rate=0.1, seed=seed)
        for seed in range(60)
    ]
    assert sum(run.drift != "stable" for run in runs) < 12


def test_without_light_all_is_as_it_was() -> None:
    """A model that knows of none, and an image of which none is known."""
    plain = after_good(100, normal(20))
    assert (plain.light_counts, plain.cause) == ((), None)
    state = begin(calibrate([1.0, 2.0]), 0.01, light=3)
    assert state.update(1.0).light_counts == (0, 0, 0, 0)
    assert state.update(1.0, 0.5).light_counts == (0, 1, 0, 0)
    with pytest.raises(UsageError, match=r"A p-value by 3 held-out images is a multiple of 1/4, not 0\.3"):
        state.update(1.0, 0.3)


@given(
    counts=st.lists(st.integers(0, 40), min_size=4, max_size=12),
    alpha=st.sampled_from([0.25, 0.4]),
)
@settings(max_examples=40, deadline=None)
def test_no_bet_gains_on_average(counts: list[int], alpha: float) -> None:
    """Whatever came before, the capital that is expected after the next image is the one there is: so Ville's bound."""
    n = len(counts) - 1
    calibration = Calibration(alpha, tuple(float(i) for i in range(n)))
    state = begin(calibration, 0.001, light=n)
    for cell, count in enumerate(counts):
        for _ in range(count):
            state = state.update((1 + cell) / (n + 1), (1 + cell) / (n + 1))

    def capital(of: DriftState, name: str) -> float:
        return math.fsum(math.exp(one) for one in getattr(of, name))

    chances = [(1 + count) / (n + 1 + state.images) for count in state.counts]
    assert math.fsum(chances) == pytest.approx(1)
    for name in ("scene", "defects", "light"):
        after = (state.update((1 + cell) / (n + 1), (1 + cell) / (n + 1)) for cell in range(n + 1))
        expected = math.fsum(chance * capital(one, name) for chance, one in zip(chances, after, strict=True))
        assert expected == pytest.approx(capital(state, name), rel=1e-9)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_chances_of_cells_are_those_of_any_order(n: int) -> None:
    """The chances that bets are made against, by trying all orders of n held-out images and three more."""
    orders = list(itertools.permutations(range(n + 3)))
    seen: dict[tuple[int, ...], list[int]] = {}
    for order in orders:
        held_out, new = sorted(order[:n]), order[n:]
        cells = [sum(one >= value for one in held_out) for value in new]
        seen.setdefault(tuple(cells[:2]), []).append(cells[2])
    for before, next_cells in seen.items():
        for cell in range(n + 1):
            chance = (1 + before.count(cell)) / (n + 1 + 2)
            assert next_cells.count(cell) / len(next_cells) == pytest.approx(chance)


@given(st.lists(st.integers(0, 20), max_size=60), st.integers(0, 60))
@settings(max_examples=30, deadline=None)
def test_images_before_a_cut_are_not_looked_at_again(cells: list[int], cut: int) -> None:
    """The state is all there is: alarms come once, in their order, and what is known at an image never changes."""
    state = begin(Calibration(0.05, tuple(float(i) for i in range(20))), 0.2)
    told = [state.drift]
    for cell in cells:
        state = state.update((1 + cell) / 21)
        if state.drift != told[-1]:
            told.append(state.drift)
            assert state.alarm_at == state.images
    assert told in (
        ["stable"],
        ["stable", "more defects"],
        ["stable", "scene changed"],
        ["stable", "more defects", "scene changed"],
    )
    assert state.images == len(cells)


def test_a_long_run_leaves_finite_capitals() -> None:
    state = begin(calibrate([1.0, 2.0]), 1e-9)
    for p_value in itertools.islice(itertools.cycle([1 / 3, 2 / 3, 1.0]), 20_000):
        state = state.update(p_value)
    assert state.drift == "stable"
    assert all(map(math.isfinite, (*state.scene, *state.defects)))


@pytest.mark.parametrize("rate", [0.0, 1.0, -1.0, math.nan, math.inf])
def test_rates_that_are_none(rate: float) -> None:
    with pytest.raises(UsageError, match="A false-alarm rate lies between 0 and 1, but this is "):
        begin(calibrate([1.0]), rate)


@pytest.mark.parametrize("p_value", [0.0, 0.3, 1.5, -0.5, math.nan, math.inf])
def test_p_values_of_another_calibration(p_value: float) -> None:
    with pytest.raises(UsageError, match="A p-value by 1 held-out images is a multiple of 1/2, not "):
        begin(calibrate([1.0]), 0.01).update(p_value)
