"""A leaderboard's figures, by brute force; its tables, and the rule by which a variant is kept."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from bundles import make_bundle
from leaderboard_measure import METRICS, Figures, JudgedPhotos, _pixel_replicates, figures, intervals, recall_at
from leaderboard_ours import maps_without, scores_without
from leaderboard_results import Latency, Result
from leaderboard_stub import rows_of as cells_of
from leaderboard_table import Row, agreement, is_kept, on_front, rows_of, tables, verdicts
from sklearn.metrics import roc_auc_score

from rstpm_edge.errors import UsageError
from rstpm_edge.model.metadata import CoarseCells, Fusion, HeadMap, ScoreFusion
from rstpm_edge.training.evaluation.metrics import pixel_metrics


@pytest.mark.parametrize("n_good", [1, 7, 20, 60, 100, 117, 300])
@pytest.mark.parametrize("share", [0.01, 0.05])
@pytest.mark.parametrize("values", [8, 10_000])
def test_recall_is_that_of_the_smallest_threshold_that_allows_the_share(n_good: int, share: float, values: int) -> None:
    draw = np.random.default_rng([n_good, values])
    good, bad = (draw.integers(0, values, n).astype(float) for n in (n_good, 50))
    thresholds = sorted({-np.inf, *good})  # between two of them nothing changes
    (smallest, *_) = (t for t in thresholds if (good > t).sum() * 100 <= round(share * 100) * n_good)
    assert recall_at(good, bad, share) == (bad > smallest).mean()


def test_recall_of_scores_that_are_known() -> None:
    good, bad = np.arange(100.0), np.array([97.5, 98.0, 98.5, 99.5])
    assert recall_at(good, bad, 0.01) == 0.5  # 99 is rejected, 98 is the threshold
    assert recall_at(good[:99], bad, 0.01) == 0.5  # none may be: 98 is the highest
    assert recall_at(good, bad, 0.05) == 1.0


def judged(seed: int = 0, masks: bool = True) -> JudgedPhotos:
    """Photos of several sizes with spots that the maps half find."""
    draw = np.random.default_rng(seed)
    defective = np.arange(36) >= 20
    painted, maps = [], []
    for bad in defective:
        shape = (40 + int(draw.integers(20)), 50)
        mask = np.zeros(shape, bool)
        if bad:
            mask[5:12, 5:20] = mask[30:34, 30:40] = True
        painted.append(mask)
        maps.append((draw.normal(size=shape) + 1.2 * mask).astype(np.float32))
    scores = draw.normal(size=36) + defective
    return JudgedPhotos(defective, scores, painted if masks else None, lambda i: maps[i])


def test_figures_are_those_of_evaluate() -> None:
    photos = judged()
    assert photos.masks is not None
    found = figures(photos)
    pixels = pixel_metrics(photos.masks, [photos.map_at(i) for i in range(36)])
    assert found.image_auroc == pytest.approx(roc_auc_score(photos.defective, photos.scores))
    assert (found.pixel_auroc, found.aupro_30) == (pixels.auroc, pixels.aupro_30)
    assert figures(judged(masks=False)).pixel_auroc is None


def test_intervals_of_images_are_those_of_drawing_again_one_by_one() -> None:
    photos = judged()
    point = figures(photos)
    draw = np.random.default_rng(0)
    good, bad = photos.scores[:20], photos.scores[20:]
    times = [draw.multinomial(n, np.full(n, 1 / n), size=200) for n in (20, 16)]
    labels = np.arange(36) >= 20
    drawn = [(np.repeat(good, a), np.repeat(bad, b)) for a, b in zip(*times, strict=True)]
    found = intervals(photos, point, resamples=200)
    expected = {
        "image_auroc": [roc_auc_score(labels, np.concatenate(each)) for each in drawn],
        "recall_01": [recall_at(*each, 0.01) for each in drawn],
        "recall_05": [recall_at(*each, 0.05) for each in drawn],
    }
    for name, values in expected.items():
        assert found[name] == pytest.approx(np.quantile(values, [0.025, 0.975]))
    assert figures(judged(masks=False)).aupro_30 is None
    assert intervals(judged(masks=False), figures(judged(masks=False)), 50)["aupro_30"] is None


def test_pixels_counted_at_levels_give_nearly_the_exact_figures() -> None:
    photos = judged()
    masks, maps = photos.masks, [photos.map_at(i) for i in range(36)]
    assert masks is not None
    weights = np.ones((2, 36))
    weights[1, 20], weights[1, 3], weights[1, 30] = 3, 0, 0
    found = _pixel_replicates(photos, weights)
    for row, each in enumerate(weights):
        chosen = np.repeat(np.arange(36), each.astype(int))
        exact = pixel_metrics([masks[i] for i in chosen], [maps[i] for i in chosen])
        assert found["pixel_auroc"][row] == pytest.approx(exact.auroc, abs=2e-3)
        assert found["aupro_30"][row] == pytest.approx(exact.aupro_30, abs=2e-3)
    assert found["aupro_30"][0] != found["aupro_30"][1]
    point = figures(photos)
    ends = intervals(photos, point)
    for name, value in asdict(point).items():
        low, high = ends[name] or (1.0, 0.0)
        assert low < value < high, name


# A model without a part of it


def test_a_score_by_errors_alone_and_by_angles_alone() -> None:
    coarse = CoarseCells((0.0,) * 4, (1.0,) * 4, (0.0, 0.0, 5.0, 5.0))
    score = ScoreFusion(Fusion(weights=(2.0,) * 6), bias=0.5, coarse=coarse)
    found = scores_without(make_bundle(score_fusion=score))
    assert found == {
        "errors alone": replace(score, coarse=None),
        "angles alone": replace(score, fusion=Fusion(weights=(0.0,) * 6)),
    }
    for other in (None, replace(score, coarse=None), replace(score, kind="angles")):
        assert scores_without(make_bundle(score_fusion=other)) == {}


def test_a_map_without_head_and_weights() -> None:
    fusion = Fusion(weights=(0.8,) * 3 + (1.2,) * 3, head=HeadMap(0.0, 1.0, 0.25))
    found = maps_without(make_bundle(fusion=fusion))
    assert found["without the head"] == replace(fusion, head=None)
    assert found["pairs alike"].weights == pytest.approx((1.0,) * 6)
    assert maps_without(make_bundle(fusion=Fusion())) == maps_without(make_bundle(fusion=Fusion("paper"))) == {}


# Tables


def result(contestant: str, name: str, auroc: float, aupro: float | None = 0.8, seed: int = 0, **more: Any) -> Result:
    values = {"image_auroc": auroc, "recall_01": 0.5, "recall_05": 0.75, "pixel_auroc": aupro, "aupro_30": aupro}
    content: dict[str, Any] = {
        "key": f"{contestant} {name} {seed}",
        "set": name,
        "contestant": contestant,
        "seed": seed,
        "quick": False,
        "ours": True,
        "options": {},
        "figures": values,
        "intervals": {key: None if value is None else (value - 0.06, value + 0.03) for key, value in values.items()},
        "parts": {},
        "learned": 10,
        "good": 4,
        "defective": 5,
        "core_minutes": 2.0,
        "versions": {},
    }
    return Result(**{**content, **more})


def row(contestant: str, *results: tuple[str, float, float | None, int]) -> Row:
    return Row(contestant, tuple(result(contestant, name, a, b, seed) for name, a, b, seed in results))


def test_means_are_over_sets_first_and_then_over_seeds() -> None:
    one = row("edge", ("a", 0.9, 0.7, 0), ("b", 0.7, None, 0), ("a", 0.92, 0.8, 1), ("b", 0.72, None, 1))
    found, pixels = one.mean(["a", "b"], "image_auroc"), one.mean(["a", "b"], "aupro_30")
    assert found is not None
    assert found.values == pytest.approx((0.8, 0.82))
    assert pixels is not None
    assert pixels.values == pytest.approx((0.7, 0.8))  # of the set that has masks
    assert one.worst(["a", "b"], "image_auroc") == (pytest.approx(0.71), "b")
    low, high = one.interval(["a", "b"], "image_auroc") or (0.0, 0.0)
    assert (low, high) == pytest.approx((0.81 - 0.06 / 2**0.5, 0.81 + 0.03 / 2**0.5))
    assert one.interval(["a", "b"], "aupro_30") == pytest.approx((0.69, 0.78))
    half = row("half", ("a", 0.9, 0.7, 0), ("a", 0.9, 0.7, 1), ("b", 0.5, 0.5, 1))
    assert half.seeds(["a", "b"]) == [1]
    assert row("none", ("a", 0.9, 0.7, 0)).mean(["a", "b"], "image_auroc") is None


def test_a_table_from_known_results() -> None:
    alone = {"maximum": {"image_auroc": 0.5}, "stpm": {"image_auroc": 0.6, "pixel_auroc": 0.7, "aupro_30": 0.25}}
    rows = [
        Row("edge", (result("edge", "a", 0.9, parts=alone), result("edge", "b", 0.8, None)), Latency(12.5, 1.0)),
        Row("slow", (result("slow", "a", 0.5, ours=False), result("slow", "b", 0.4, None, ours=False)), Latency(25, 2)),
    ]
    text = tables(rows, ["a", "b"], "edge")
    lines = text.splitlines()
    assert (
        "| **edge** | 0.850 (0.81–0.87) | 0.500 (0.46–0.52) | 0.750 (0.71–0.77) | 0.800 (0.74–0.83) | "
        "0.800 (0.74–0.83) | 1.00 (12.5) | 2.0 | 1 |"
    ) in lines
    assert "| slow | 0.400 (b) | 0.500 (a) | 0.750 (a) | 0.800 (a) | 0.800 (a) |" in lines
    assert "| edge | a | 0.900, 0.800, 0.800 | 0.500 | 0.600, 0.700, 0.250 | – |" in lines
    assert not any(line.startswith("- ") for line in lines)  # no variant of ours
    counts = {line.count("|") for line in lines[2:6]}
    assert len(counts) == 1
    assert next(iter(METRICS.values())) in lines[2]


def test_what_each_part_brings_is_told_of_the_trainings_that_have_it() -> None:
    def parts(image: float, aupro: float) -> dict[str, dict[str, float]]:
        alone = {name: {"image_auroc": 0.1} for name in ("maximum", "stpm", "recon")}
        images = {"image_auroc": image, "recall_01": image, "recall_05": image}
        return {**alone, "without errors": images, "without the head": {"aupro_30": aupro}}

    results = [
        result("edge", "a", 0.9, 0.8, parts=parts(0.7, 0.6)),
        result("edge", "b", 0.8, None, parts={k: v for k, v in parts(0.5, 0.0).items() if k != "without the head"}),
        result("edge", "a", 0.1, 0.1, seed=1),  # from before
        result("edge", "c", 0.1, 0.1),
    ]
    text = tables([Row("edge", tuple(results))], ["a", "b", "c"], "edge")
    images = cells_of(text, "**edge without a part of it**, of the same trainings: image AUROC")
    assert images["as it is"] == ["0.900", "0.800", "0.850", "0.500, 0.750"]
    assert images["without errors"] == ["0.700", "0.500", "0.600", "0.600, 0.600"]
    pixels = cells_of(text, "**edge without a part of it**, of the same trainings: AUPRO")
    assert pixels == {"as it is": ["0.800", "0.800"], "without the head": ["0.600", "0.600"]}
    assert "without a part" not in tables([row("edge", ("a", 0.9, 0.7, 0))], ["a"], "edge")


def test_the_front() -> None:
    points = {"a": (0.9, 5), "b": (0.95, 10), "c": (0.94, 11), "d": (0.95, 12), "e": (0.99, 30), "f": (0.9, 5)}
    rows = [Row(name, (result(name, "x", auroc),), Latency(ms, ms)) for name, (auroc, ms) in points.items()]
    assert on_front([*rows, row("unknown", ("x", 1.0, 1.0, 0))], ["x"]) == {"a", "b", "e", "f"}


BASE = row("edge", ("a", 0.90, 0.80, 0), ("b", 0.80, 0.70, 0), ("a", 0.92, 0.80, 1), ("b", 0.80, 0.70, 1))


@pytest.mark.parametrize(
    ("by", "kept", "reason"),
    [
        # gains of (a by image, b by image, a by AUPRO, b by AUPRO); the base's means are 0.85 and 0.86: spread 0.007
        ((0.02, 0.02, 0, 0), True, "no set loses too much"),
        ((0.0, 0.01, 0, 0), False, "the mean does not gain enough"),  # 0.005, less than the spread
        ((0.05, -0.009, 0, 0), True, "no set loses too much"),
        ((0.05, -0.011, 0, 0), False, "b loses 1.1 points of image AUROC"),
        ((0, 0, 0.05, 0.05), True, "no set loses too much"),
        ((0, 0, 0.09, -0.019), True, "no set loses too much"),
        ((0, 0, 0.09, -0.021), False, "b loses 2.1 points of AUPRO"),
        ((0.02, 0.02, -0.01, -0.01), False, "the mean does not gain enough"),  # by image alone, at AUPRO's cost
        ((0, 0, 0, 0), False, "the mean does not gain enough"),
    ],
)
def test_the_rule_by_which_a_variant_is_kept(by: tuple[float, ...], kept: bool, reason: str) -> None:
    a, b, pa, pb = by
    variant = row(
        "new",
        *[("a", x + a, 0.80 + pa, s) for s, x in ((0, 0.90), (1, 0.92))],
        *[("b", 0.80 + b, 0.70 + pb, s) for s in (0, 1)],
    )
    found, sentence = is_kept(variant, BASE, ["a", "b"])
    assert found == kept
    assert sentence.startswith("kept: " if kept else "not kept: ")
    assert reason in sentence
    assert sentence.endswith(".")
    assert "one seed" not in sentence
    (line,) = verdicts([BASE, variant], ["a", "b"], "edge")
    back = is_kept(BASE, variant, ["a", "b"])[0]
    assert line.startswith(f"new: {sentence}")
    assert line.endswith(f"edge in the place of new is {'kept' if back else 'not kept'}.")


def test_verdicts_are_on_variants_of_ours_that_have_all_sets() -> None:
    others = Row("padim", tuple(result("padim", name, 0.99, ours=False) for name in "ab"))
    half = row("half", ("a", 0.99, 0.9, 0))
    assert verdicts([BASE, others, half], ["a", "b"], "edge") == []
    assert verdicts([others], ["a", "b"], "edge") == []
    single = row("one", ("a", 0.99, 0.9, 0), ("b", 0.9, 0.9, 0))
    (line,) = verdicts([BASE, single], ["a", "b"], "edge")
    assert "; one seed." in line
    assert verdicts([BASE, row("other", ("a", 0.99, 0.9, 2), ("b", 0.9, 0.9, 2))], ["a", "b"], "edge") == []


def test_a_variant_is_held_against_the_base_of_the_same_seeds() -> None:
    # Of seed 1, where the base's mean by image is 0.86, and not 0.855.
    variant = row("new", ("a", 0.90, 0.85, 1), ("b", 0.83, 0.71, 1), ("a", 0.5, 0.5, 7))
    _, sentence = is_kept(variant, BASE, ["a", "b"])
    assert sentence.startswith("not kept: image AUROC +0.005 (spread 0.007), AUPRO +0.030 (spread 0.000); a loses 2.0 ")
    text = tables([BASE, variant, row("half", ("b", 0.79, None, 0))], ["a", "b"], "edge")
    differences = cells_of(text, "**Variants less edge**, in points of image AUROC and AUPRO")
    assert differences["new"] == ["-2.0, +5.0", "+3.0, +1.0", "+0.5, +3.0", "1"]
    assert differences["half"] == ["–", "-1.0", "–", "0"]
    assert "Variants less" not in tables([BASE], ["a", "b"], "edge")


def test_agreement_is_one_where_the_ranks_are_the_same_and_less_where_not() -> None:
    def of(*values: float) -> list[Row]:
        return rows_of(result(f"v{i}", "a", value) for i, value in enumerate(values))

    same = agreement(of(0.7, 0.8, 0.9), of(0.91, 0.92, 0.93), ["a"]).splitlines()
    assert same[2].startswith("| v0 | 0.700, 0.910 |")
    assert same[-1].startswith("| Kendall's τ | 1.00 |")
    turned = agreement(of(0.7, 0.8, 0.9), of(0.93, 0.92, 0.91), ["a"])
    assert turned.splitlines()[-1].startswith("| Kendall's τ | -1.00 |")
    with pytest.raises(UsageError, match="there are 2"):
        agreement(of(0.7, 0.8), of(0.91, 0.92, 0.93), ["a"])


def test_a_figure_of_figures() -> None:
    assert list(asdict(Figures(1, 1, 1))) == list(METRICS)
