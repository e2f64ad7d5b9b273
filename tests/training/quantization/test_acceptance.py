"""What moved between two precisions, how much may, and the defects that are painted to find out."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from tiny_network import tiny_images

from rstpm_edge.calibration import calibrate
from rstpm_edge.errors import UsageError
from rstpm_edge.model.metadata import Fusion
from rstpm_edge.model.outputs import ByPair, ModelOutputs
from rstpm_edge.training.data.synthetic_defects import KINDS, spoiled
from rstpm_edge.training.model.presets import EDGE
from rstpm_edge.training.quantization.acceptance import (
    Behaviour,
    Margins,
    Row,
    behave,
    checked_margins,
    compare_precisions,
)


def behaviour(good: Any, bad: Any) -> Behaviour:
    good = np.asarray(good, np.float64)
    return Behaviour(Fusion(), None, calibrate(good), good, np.asarray(bad, np.float64))


def rows(before: Behaviour, after: Behaviour, margins: Margins | None = None) -> dict[str, Row]:
    return {
        row.name.split(",")[0].split(" at ")[0]: row
        for row in compare_precisions(before, after, margins or Margins()).rows
    }


GOOD = np.random.default_rng(0).gamma(9, 1, 100)
BAD = np.random.default_rng(1).gamma(16, 1, 400)
FLOAT = behaviour(GOOD, BAD)


# The figures


def test_what_a_behaviour_says() -> None:
    labels, scores = np.repeat([0, 1], [100, 400]), np.concatenate([GOOD, BAD])
    assert FLOAT.auroc == pytest.approx(roc_auc_score(labels, scores))
    assert FLOAT.found == pytest.approx((np.sort(GOOD)[95] < BAD).mean())  # of 100, the threshold at 5 % is the 96th
    assert FLOAT.positions.max() == pytest.approx(1)  # whatever the model's own rate is
    assert np.median(FLOAT.positions) == pytest.approx(0)


def test_false_rejects_are_judged_by_the_other_half() -> None:
    even, odd = np.arange(40, dtype=float), np.arange(40, dtype=float) + 3
    mixed = behaviour(np.stack([even, odd], 1).ravel(), [1.0])
    # Of 40, the threshold at 5 % is the 39th: 38 of the even, 41 of the odd ones.
    assert mixed.false_rejects == (odd > 38).sum() + (even > 41).sum() == 4
    few = behaviour([1.0, 2.0, 3.0, 4.0], [5.0])  # two of a kind allow a third at least: the larger one
    assert few.false_rejects == 1


def test_behave_calibrates_and_judges() -> None:
    rng = np.random.default_rng(0)
    sizes = [(8, 8), (4, 4), (2, 2)] * 2
    good = ModelOutputs(
        ByPair.of(rng.random((10, *size), np.float32) for size in sizes),
        ByPair.of(rng.random((10, *size), np.float32) for size in sizes),
        (rng.random((10, 2, 2), np.float32), rng.random((10, 2, 2), np.float32)),
        rng.random((10, 8, 8), np.float32),
    )
    bad = good.rows(slice(5)).each(lambda one: one + np.float32(3))
    found = behave(good, bad, EDGE, (64, 64), None)
    assert found.good.shape == (10,)
    assert found.spoiled.shape == (5,)
    assert (found.auroc, found.found) == (1, 1)
    assert found.calibration == calibrate(found.good)
    assert found.fusion.mean == pytest.approx([m.mean() for m in good.anomaly_maps.six], rel=1e-5)
    assert found.score_fusion is not None
    assert good.score_maps is not None
    assert found.score_fusion.fusion.mean == pytest.approx([m.mean() for m in good.score_maps.six], rel=1e-5)


# The comparison


def test_what_does_not_move_is_let_through() -> None:
    same = compare_precisions(FLOAT, FLOAT, Margins(0, 0, 0))
    assert same.broken == ()
    assert (same.good, same.spoiled) == (100, 400)
    assert same.change == {"auroc": 0, "false_rejects": 0, "score_shift": 0, "recall": 0}


def test_the_scale_of_the_scores_does_not_count() -> None:
    scaled = compare_precisions(FLOAT, behaviour(3 * GOOD + 1, 3 * BAD + 1), Margins(0, 0, 1e-6))
    assert scaled.broken == ()


def test_auroc_may_fall_by_its_margin() -> None:
    worse = behaviour(GOOD, BAD - 0.5)
    fell = FLOAT.auroc - worse.auroc
    assert fell > 0.005
    found = rows(FLOAT, worse)
    assert {name for name, row in found.items() if not row.holds} == {"image AUROC"}
    assert found["image AUROC"].before == f"{FLOAT.auroc:.4f}"
    assert found["image AUROC"].after == f"{worse.auroc:.4f}"
    assert rows(FLOAT, worse, Margins(auroc=fell + 1e-9))["image AUROC"].holds
    assert compare_precisions(worse, FLOAT, Margins(auroc=0)).broken == ()  # it may rise as it likes
    assert compare_precisions(FLOAT, worse, Margins()).change["auroc"] == pytest.approx(-fell, abs=1e-5)


def test_one_score_that_moves_is_seen() -> None:
    moved = GOOD.copy()
    typical = np.argsort(GOOD)[20]
    moved[typical] += 0.3 * (GOOD.max() - np.median(GOOD))
    after = behaviour(moved, BAD)
    assert [row.name for row in compare_precisions(FLOAT, after, Margins()).broken] == ["largest move of a good score"]
    assert compare_precisions(FLOAT, after, Margins(verdict=0.31)).broken == ()


def test_false_rejects_may_change_by_their_margin_and_by_one() -> None:
    order = np.sort(GOOD)
    apart = behaviour(np.concatenate([order[0::2], order[1::2]]), BAD)  # each half has a share of all scores
    unlike = behaviour(np.stack([order[:50], order[50:]], 1).ravel(), BAD)  # one half scores above the other
    change = unlike.false_rejects - apart.false_rejects
    assert change > 10
    assert not rows(apart, unlike)["false rejects"].holds
    assert not rows(unlike, apart)["false rejects"].holds
    assert rows(apart, unlike, Margins(false_rejects=change / 100))["false rejects"].holds
    assert rows(FLOAT, FLOAT, Margins(false_rejects=0))["false rejects"].allowed == "±1"
    assert rows(FLOAT, FLOAT, Margins(false_rejects=0.0701))["false rejects"].allowed == "±7"


def test_a_refusal_says_what_it_means_and_what_to_do() -> None:
    moved = GOOD.copy()
    moved[np.argsort(GOOD)[20]] += 0.422 * (GOOD.max() - np.median(GOOD))
    found = compare_precisions(FLOAT, behaviour(moved, BAD), Margins())
    assert 0.4 < found.change["score_shift"] < 0.45
    assert found.refusal("INT8") == (
        "The INT8 file would judge otherwise than FP32, so nothing was written: the score of a good photo moves by "
        f"{found.change['score_shift']:.0%} of the way from a typical score to the threshold for 1%, where 25% is "
        "allowed, so photos near the threshold may get the other verdict. Stay with the FP32 file, or train on more "
        "good photos (100 were held out) and export again; if a test on labelled photos satisfies you "
        "(`rstpm-edge evaluate`), `margins` verdict=0.45 writes it all the same."
    )
    worse = behaviour(np.sort(GOOD), BAD - 0.5)
    several = compare_precisions(FLOAT, worse, Margins(0, 0, 0))
    assert len(several.broken) >= 2
    for row in several.broken:
        assert row.meaning in several.refusal("FP16")
        assert f"`margins` {row.enough}" in several.refusal("FP16")
    # What it proposes is enough, whatever moved.
    enough = checked_margins(dict(row.enough.split("=") for row in several.broken))
    assert compare_precisions(FLOAT, worse, enough).broken == ()


def test_margins_may_be_changed() -> None:
    assert checked_margins({}) == Margins()
    assert checked_margins({"auroc": "0.01", "verdict": "1"}) == dataclasses.replace(Margins(), auroc=0.01, verdict=1.0)


@pytest.mark.parametrize("value", ["much", "-0.1", "nan", "inf", ""])
def test_margins_are_numbers(value: str) -> None:
    with pytest.raises(UsageError, match=r"^`margins` auroc must be a finite number from 0 up, not "):
        checked_margins({"auroc": value})


def test_margins_have_names() -> None:
    with pytest.raises(UsageError, match=r"^`margins` has no 'recall', only auroc, false_rejects, verdict\.$"):
        checked_margins({"recall": "1"})


# Pseudo-defects


@pytest.fixture(scope="module")
def good() -> list[NDArray[np.uint8]]:
    return tiny_images(6)


def test_each_photo_is_spoiled_in_each_way(good: list[NDArray[np.uint8]]) -> None:
    bad = list(spoiled(good, per_image=len(KINDS)))
    assert len(bad) == 4 * len(good)
    for i, image in enumerate(bad):
        assert image.dtype == np.uint8
        assert image.shape == (32, 32, 3)
        before = good[i // 4]
        changed = (image != before).any(axis=2)
        assert changed.any(), (i, list(KINDS)[i % 4])
        strongly = np.abs(image.astype(int) - before).max(axis=2) > 8
        assert strongly.mean() < 0.5  # most of the photo is as it was


def test_the_same_seed_gives_the_same_defects(good: list[NDArray[np.uint8]]) -> None:
    before = [image.copy() for image in good]
    first, again, other = (list(spoiled(good, per_image=4, seed=seed)) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(good, before, strict=True))


@pytest.mark.parametrize("shape", [(64, 320, 3), (320, 64, 3), (64, 64, 3)])
def test_any_shape_and_even_one_photo(shape: tuple[int, int, int]) -> None:
    image = np.full(shape, 127, np.uint8)  # flat: no contrast of its own
    for bad in spoiled([image], per_image=40):
        assert bad.shape == shape
