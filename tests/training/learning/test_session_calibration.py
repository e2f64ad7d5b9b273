"""What held-out photos say of sessions that were never seen."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray
from small_training import teach

from rstpm_edge.calibration import Calibration, calibrate
from rstpm_edge.cli.train import say_run, say_sessions
from rstpm_edge.errors import UsageError
from rstpm_edge.model.metadata import Fusion, Teacher
from rstpm_edge.model.session_rates import about_sessions, session_rates
from rstpm_edge.training.audit.held_out import look
from rstpm_edge.training.export.run_metadata import bundle_of
from rstpm_edge.training.learning.run_config import load_config
from rstpm_edge.training.learning.run_summary import Summary, load_summary
from rstpm_edge.training.learning.session_calibration import measure_sessions


def drawn(shifts: list[float], photos: int = 11, seed: int = 0) -> tuple[list[str], NDArray[np.float64]]:
    """The sessions of photos, and scores that are shifted from one session to the next."""
    scores = np.random.default_rng(seed).normal(np.repeat(shifts, photos))
    return [str(i) for i in range(len(shifts)) for _ in range(photos)], scores


def test_a_session_left_out_is_judged_by_the_others() -> None:
    sessions, scores = drawn([0.0, 0.0, 0.0, 9.0])
    found = measure_sessions(sessions, scores.tolist(), calibrate(scores, 0.1), set())
    assert found is not None
    assert (found.sessions, found.held_out, found.whole) == (4, 4, True)
    assert found.worst == 1  # all of the last one
    assert 11 / 44 <= found.left_out < 0.4
    assert found.promised == 0.1
    assert found.differ
    # 3 of 44 lie above the threshold, all in one session, and a new session counts as rejected whole.
    assert found.unseen == pytest.approx((1 + 3 / 11) / 5)


@pytest.mark.parametrize(("spread", "low", "high"), [(0.0, 0.03, 0.07), (1.0, 0.15, 1.0)])
def test_photos_of_sessions_that_differ_are_not_independent(spread: float, low: float, high: float) -> None:
    """How often more good parts of new sessions are rejected than the rate with 95 % confidence says."""
    random, exceeded = np.random.default_rng(0), 0
    for _ in range(1000):
        scores = random.normal(np.repeat(random.normal(0, spread, 5), 11))
        promised = calibrate(scores).promised()
        assert promised.rate_with_confidence is not None
        exceeded += NormalDist(0, math.hypot(1, spread)).cdf(promised.value) < 1 - promised.rate_with_confidence
    assert low <= exceeded / 1000 <= high


def test_sessions_that_do_not_differ() -> None:
    sessions, scores = drawn([0.0] * 8)
    found = measure_sessions(sessions, scores.tolist(), calibrate(scores, 0.1), {"a", "b"})
    assert found is not None
    assert found.sessions == 10
    assert not found.differ
    assert found.left_out < 0.2


def test_few_photos_promise_what_is_left_of_them() -> None:
    found = measure_sessions(["a"] * 4 + ["b"] * 9, list(range(13)), calibrate(range(13)), set())
    assert found is not None
    assert found.promised == pytest.approx((1 / 10 + 1 / 5) / 2)  # of the nine others, and of the four


def test_sessions_that_were_learned_from_say_nothing_of_others() -> None:
    sessions, scores = drawn([0.0] * 4)
    found = measure_sessions(sessions, scores.tolist(), calibrate(scores), {"0", "7"})
    assert found is not None
    assert (found.whole, found.unseen, found.sessions) == (False, None, 5)
    told, withheld = about_sessions(found, 0.05)
    assert told.startswith("The held-out photos are of 4 of 5 sessions. If one is left out of the calibration, ")
    assert "The guarantee is withheld for a session never seen: photos of the same sessions were learned" in withheld


def test_equal_scores_and_one_session() -> None:
    found = measure_sessions(["a", "a", "b"], [1.0] * 3, Calibration(0.3, (1.0,) * 3), set())
    assert found is not None
    assert (found.p_value, found.differ, found.left_out) == (None, False, 0)
    assert measure_sessions(["a", "a"], [1.0, 2.0], Calibration(0.5, (1.0, 2.0)), set()) is None


@pytest.mark.parametrize("spread", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("held", [3, 10])
def test_a_new_session_is_rejected_no_more_often_than_can_be_promised(held: int, spread: float) -> None:
    rng = np.random.default_rng(0)
    promised, rejected = [], []
    for seed in range(300):
        sessions, scores = drawn(rng.normal(0, spread, held + 1).tolist(), seed=seed)
        known, new = scores[:-11], scores[-11:]
        calibration = calibrate(known)
        found = measure_sessions(sessions[:-11], known.tolist(), calibration, set())
        assert found is not None
        assert found.unseen is not None
        promised.append(found.unseen)
        rejected.append((new > calibration.threshold).mean())
    assert np.mean(rejected) <= np.mean(promised)
    assert np.mean(promised) >= 1 / (held + 1)


def test_what_is_told() -> None:
    sessions, scores = drawn([0.0, 0.0, 4.0])
    found = measure_sessions(sessions, scores.tolist(), calibrate(scores), {"7", "8"})
    assert found is not None
    told, withheld = about_sessions(found, 0.05)
    assert told.startswith("3 of 5 sessions are held out, whole. If one is left out of the calibration, ")
    assert withheld.startswith("These sessions differ (Kruskal-Wallis test, p = ")
    assert (
        "). So no rate is given with 95% confidence: it would be too low, since it counts photos as independent draws. "
        in withheld
    )
    assert (
        "The guarantee of 5% is withheld for a session never seen: 3 held-out sessions support no rate below 25% for "
        "its parts." in withheld
    )


@pytest.mark.parametrize("wrong", [{}, {"sessions": 3}, {"sessions": {"held_out": 2}}, {"sessions": None}])
def test_a_file_that_says_nothing_of_them_or_nonsense(wrong: dict[str, object]) -> None:
    assert session_rates(wrong) is None


def test_held_out_photos_of_one_session_promise_nothing_for_others(capsys: pytest.CaptureFixture[str]) -> None:
    summary = Summary(1, 0.5, ((1.0, 1.0),), Fusion(), Calibration(0.5, (0.1,)), ("", ""), session_rule="(a)")
    say_sessions(summary)
    said = capsys.readouterr().out
    assert said == "The held-out photos are of one session, so the guarantee is withheld for all others.\n"


@pytest.fixture
def by_day(parts: Path, tmp_path: Path) -> Path:
    """Twelve rendered parts in four folders, with the same three names in each."""
    for i, photo in enumerate(sorted((parts / "train" / "good").iterdir())):
        folder = tmp_path / "photos" / f"day{i // 3}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, folder / f"{i % 3}.png")
    return tmp_path / "photos"


def test_a_training_holds_whole_folders_out_and_says_so(
    by_day: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = teach(by_day, tmp_path / "run", sessions="folder", holdout=0.5, epochs=1)
    config, summary = load_config(run), load_summary(run)
    held, learned = ({file.name.split("/")[0] for file in files} for files in (config.holdout, config.train))
    assert len(held) == len(learned) == 2
    assert held | learned == {"day0", "day1", "day2", "day3"}
    assert len(list((run / "samples").iterdir())) == 6
    rates = summary.sessions
    assert rates is not None
    assert (rates.sessions, rates.held_out, rates.whole) == (4, 2, True)
    say_run(run)
    said = capsys.readouterr().out
    assert "2 of 4 sessions are held out, whole. " in said
    assert "is withheld for a session never seen: 2 held-out sessions support no rate below " in said
    bundle = bundle_of(config, summary, (Teacher("a", "", "", ""), Teacher("b", "", "", "")))
    assert session_rates(bundle.training) == rates
    assert {one.name for one in look(run).candidates} == {file.name for file in config.holdout}


@pytest.mark.parametrize("rule", ["strip([0-9]+)", "(", "folder"])
def test_a_rule_that_does_not_fit_is_told_before_the_work(parts: Path, tmp_path: Path, rule: str) -> None:
    with pytest.raises(UsageError, match="session"):
        teach(parts, tmp_path / "run", sessions=rule)
    assert not (tmp_path / "run").exists()
