"""The metrics equal scikit-learn's, and AUPRO equals a count at every threshold."""

from __future__ import annotations

import numpy as np
import pytest
from brute_force import brute_force_aupro, pooled
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from rstpm_edge.training.evaluation.metrics import aupro, image_metrics, pixel_metrics, ranked_metrics
from rstpm_edge.training.evaluation.pixel_curves import rank_pixels

# Few distinct values, so that ties within and between the classes are the rule; the float32 neighbours
# would become ties in a narrower type, and -0.0 equals 0.0 whatever its bits are.
TIED = st.sampled_from(
    [np.float32(x) for x in (-3.5, -0.0, 0.0, 0.25, 0.5)] + [np.nextafter(np.float32(0.5), np.float32(1))]
)


@st.composite
def data_sets(draw, values=TIED):
    """One to four images of different sizes, with good and defective pixels."""
    sizes = draw(st.lists(st.tuples(st.integers(1, 6), st.integers(2, 6)), min_size=1, max_size=4))
    masks = [draw(hnp.arrays(np.bool_, size)) for size in sizes]
    maps = [draw(hnp.arrays(np.float32, size, elements=values)) for size in sizes]
    if pooled(masks).all() or not pooled(masks).any():
        masks[0][0, 0] ^= True
    return masks, maps


def smooth_data_set(n_images=8, size=48, seed=0):
    """Larger images with compact regions, some of which the maps find, and no ties to speak of."""
    rng = np.random.default_rng(seed)
    masks, maps = [], []
    for i in range(n_images):
        mask = np.zeros((size, size), bool)
        anomaly_map = rng.normal(size=(size, size)).astype(np.float32)
        for _ in range(i % 4):
            y, x, h, w = *rng.integers(0, size - 8, 2), *rng.integers(1, 8, 2)
            mask[y : y + h, x : x + w] = True
            anomaly_map[y : y + h, x : x + w] += np.float32(rng.uniform(0, 3))
        masks.append(mask)
        maps.append(anomaly_map)
    return masks, maps


# ---- AUPRO -------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(data_sets(), st.sampled_from([0.05, 0.25, 0.3, 0.5, 1.0]) | st.floats(0.001, 1.0))
def test_aupro_equals_brute_force_with_ties(data, fpr_limit):
    masks, maps = data
    assert aupro(masks, maps, fpr_limit=fpr_limit) == pytest.approx(brute_force_aupro(masks, maps, fpr_limit), abs=1e-9)


@pytest.mark.parametrize("fpr_limit", [0.05, 0.3, 1.0])
def test_aupro_equals_brute_force_on_larger_images(fpr_limit):
    masks, maps = smooth_data_set(n_images=5, size=20)
    expected = brute_force_aupro(masks, maps, fpr_limit)
    assert 0.01 < expected < 0.99  # the case says something
    assert aupro(masks, maps, fpr_limit=fpr_limit) == pytest.approx(expected, abs=1e-9)


def test_perfect_maps_have_exactly_one():
    masks, _ = smooth_data_set()
    maps = [mask.astype(np.float32) for mask in masks]
    metrics = pixel_metrics(masks, maps)
    assert (metrics.auroc, metrics.ap, metrics.aupro_30, metrics.aupro_05) == (1, 1, 1, 1)


def test_constant_maps_have_the_diagonal():
    masks, maps = smooth_data_set()
    metrics = pixel_metrics(masks, [np.zeros_like(anomaly_map) for anomaly_map in maps])
    assert metrics.auroc == 0.5
    assert metrics.ap == pytest.approx(pooled(masks).mean())
    assert metrics.aupro_30 == pytest.approx(0.15)
    assert metrics.aupro_05 == pytest.approx(0.025)
    assert aupro(masks, [np.zeros_like(m) for m in maps], fpr_limit=1.0) == pytest.approx(0.5)


def test_reversed_maps_have_nothing():
    masks, _ = smooth_data_set()
    maps = [(~mask).astype(np.float32) for mask in masks]
    metrics = pixel_metrics(masks, maps)
    assert (metrics.auroc, metrics.aupro_05) == (0, 0)
    # The one good value is tied at FPR 1, so up to there the curve lies on the axis.
    assert metrics.aupro_30 == 0


def test_a_small_region_weighs_as_much_as_a_large_one():
    mask = np.zeros((10, 10), bool)
    mask[:5] = True  # 50 pixels
    mask[9, 9] = True  # 1 pixel
    only_large = np.where(mask, np.float32(1), np.float32(0))
    only_large[9, 9] = -1
    only_small = np.zeros_like(only_large)
    only_small[9, 9] = 1
    only_small[:5] = -1
    # PRO is 1/2 all the way to FPR 1, where the other region joins.
    assert aupro([mask], [only_large]) == pytest.approx(0.5)
    assert aupro([mask], [only_small]) == pytest.approx(0.5)


def test_pixels_that_touch_at_a_corner_are_one_region():
    mask = np.zeros((6, 6), bool)
    mask[0, 0] = mask[1, 1] = mask[5, 5] = True
    anomaly_map = np.zeros((6, 6), np.float32)
    anomaly_map[0, 0], anomaly_map[1, 1], anomaly_map[5, 5] = 1, 1, -1
    assert aupro([mask], [anomaly_map]) == pytest.approx(1 / 2)  # of two regions; 2/3 were they three


def test_regions_of_different_images_stay_apart():
    mask = np.ones((2, 2), bool)
    maps = [np.full((2, 2), value, np.float32) for value in (1, -1, 0)]
    assert aupro([mask, mask, ~mask], maps) == pytest.approx(0.5)


def test_the_curve_is_interpolated_at_the_limit():
    # 1 defective and 5 good pixels; the highest value is shared by the defective one and two good ones, so
    # the curve is a line from (0, 0) to (0.4, 1), and at FPR 0.3 it stands at 0.75.
    mask = np.array([[True, False, False, False, False, False]])
    anomaly_map = np.array([[2, 2, 2, 1, 0, 0]], np.float32)
    assert aupro([mask], [anomaly_map], fpr_limit=0.3) == pytest.approx(0.75 / 2)
    assert aupro([mask], [anomaly_map], fpr_limit=0.4) == pytest.approx(1 / 2)


@pytest.mark.parametrize("fpr_limit", [0.0, -0.1, 1.01, float("nan")])
def test_aupro_refuses_an_impossible_limit(fpr_limit):
    masks, maps = smooth_data_set(4)
    with pytest.raises(ValueError, match="fpr_limit must be above 0"):
        aupro(masks, maps, fpr_limit=fpr_limit)


# ---- pixels --------------------------------------------------------------------------------------------


def assert_equals_scikit_learn(masks, maps):
    metrics = pixel_metrics(masks, maps)
    labels, scores = pooled(masks), pooled(maps)
    assert metrics.auroc == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    assert metrics.ap == pytest.approx(average_precision_score(labels, scores), abs=1e-9)


@settings(max_examples=200, deadline=None)
@given(data_sets())
def test_pixel_auroc_and_ap_equal_scikit_learn_with_ties(data):
    assert_equals_scikit_learn(*data)


@settings(max_examples=50, deadline=None)
@given(data_sets(values=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_pixel_auroc_and_ap_equal_scikit_learn_for_any_float32(data):
    assert_equals_scikit_learn(*data)


@pytest.mark.parametrize("decimals", [1, 7])
def test_pixel_auroc_and_ap_equal_scikit_learn_on_larger_images(decimals):
    masks, maps = smooth_data_set(n_images=30, size=64)
    assert_equals_scikit_learn(masks, [np.round(anomaly_map, decimals) for anomaly_map in maps])


def test_pixel_metrics_report_aupro_at_both_limits():
    masks, maps = smooth_data_set()
    metrics = pixel_metrics(masks, maps)
    assert metrics.aupro_30 == aupro(masks, maps, fpr_limit=0.30) == aupro(masks, maps)
    assert metrics.aupro_05 == aupro(masks, maps, fpr_limit=0.05)
    assert metrics.aupro_30 != metrics.aupro_05


@settings(max_examples=100, deadline=None)
@given(data_sets())
def test_both_limits_of_pixel_metrics_equal_brute_force_with_ties(data):
    metrics = pixel_metrics(*data)
    assert metrics.aupro_05 == pytest.approx(brute_force_aupro(*data, 0.05), abs=1e-9)
    assert metrics.aupro_30 == pytest.approx(brute_force_aupro(*data, 0.30), abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(data_sets(), st.integers(0, 4))
def test_sets_that_are_ranked_apart_and_put_together_equal_one(data, cut):
    masks, maps = data
    sets = [
        rank_pixels(masks[:cut], iter(maps[:cut])),
        rank_pixels(masks[cut:], iter(maps[cut:])),
    ]  # maps may come one by one
    together, whole = ranked_metrics(sets), pixel_metrics(masks, maps)
    assert vars(together) == pytest.approx(vars(whole), abs=1e-12)


def test_sets_without_any_defect_are_refused_together_only():
    masks, maps = smooth_data_set(4)  # the first has no defect
    good = rank_pixels(masks[:1], maps[:1])
    with pytest.raises(ValueError, match="but there are 2304 and 0"):
        ranked_metrics([good])
    assert ranked_metrics([good, rank_pixels(masks[1:], maps[1:])]) == pixel_metrics(masks, maps)


def test_inputs_stay_as_they_are():
    masks, maps = smooth_data_set(4)
    masks_before, maps_before = [m.copy() for m in masks], [m.copy() for m in maps]
    pixel_metrics(masks, maps)
    for before, after in zip(masks_before + maps_before, masks + maps, strict=True):
        np.testing.assert_array_equal(before, after)


def test_views_with_strides_count_like_copies():
    masks, maps = smooth_data_set()
    turned = pixel_metrics([m[::-1].T for m in masks], [m[::-1].T for m in maps])
    copied = pixel_metrics([m[::-1].T.copy() for m in masks], [m[::-1].T.copy() for m in maps])
    assert turned == copied


MASK = np.array([[True, False], [False, False]])
MAP = np.array([[4, 1], [2, 3]], np.float32)
NAN_MAP, INF_MAP = MAP.copy(), MAP.copy()
NAN_MAP[1, 1] = np.nan  # a good pixel
INF_MAP[0, 0] = -np.inf  # the defective one


@pytest.mark.parametrize("metric", [pixel_metrics, aupro])
@pytest.mark.parametrize(
    ("masks", "maps", "message"),
    [
        ([], [], "need good and defective pixels"),
        ([~np.ones((2, 2), bool)], [MAP], "but there are 4 and 0"),
        ([np.ones((2, 2), bool)], [MAP], "but there are 0 and 4"),
        ([MASK, MASK], [MAP], "each map needs a mask, but there are 1 and 2"),
        ([MASK, MASK], [MAP, MAP[:1]], r"mask 1 is \(2, 2\), its map \(1, 2\)"),
        ([MASK.ravel()], [MAP.ravel()], r"not the same \(H, W\)"),
        ([MASK.astype(np.uint8) * 255], [MAP], "mask 0 must be bool .* but it is uint8"),
        ([MASK], [MAP.astype(np.float64)], "anomaly map 0 must be float32, but it is float64"),
        ([MASK, MASK], [MAP, NAN_MAP], "anomaly map 1 has values that are NaN"),
        ([MASK], [INF_MAP], "anomaly map 0 has values that are NaN or infinite"),
    ],
)
def test_pixel_metrics_refuse_what_they_cannot_rank(metric, masks, maps, message):
    with pytest.raises(ValueError, match=message):
        metric(masks, maps)


# ---- images --------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.booleans(), TIED), min_size=2, max_size=30))
def test_image_metrics_equal_scikit_learn_and_a_search_for_f1(pairs):
    labels = np.array([True, False] + [label for label, _ in pairs])
    scores = np.array([0.25, 0.25] + [score for _, score in pairs], np.float32)
    metrics = image_metrics(labels, scores)
    assert metrics.auroc == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert metrics.ap == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    best = max(f1_score(labels, scores >= threshold) for threshold in np.unique(scores))
    assert metrics.f1 == pytest.approx(best, abs=1e-12)


def test_image_metrics_of_a_case_worked_by_hand():
    # Descending: defective, good, defective, good. 3 of 4 pairs are in order; precision at the two defects
    # is 1/1 and 2/3; F1 at 0.4 is 2 * (2/3) / (2/3 + 1) = 0.8, and no other threshold reaches it.
    metrics = image_metrics([True, False, True, False], [0.9, 0.6, 0.4, 0.1])
    assert metrics.auroc == pytest.approx(3 / 4)
    assert metrics.ap == pytest.approx((1 + 2 / 3) / 2)
    assert metrics.f1 == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([], [], "but there are none"),
        ([True, True], [1, 2], "need good and defective images, but all 2 are defective"),
        ([False, False, False], [1, 2, 3], "but all 3 are good"),
        ([True, False], [1, 2, 3], r"not \(2,\) and \(3,\)"),
        ([[True, False]], [[1, 2]], "one label and one score per image"),
        ([1, 0], [1, 2], "labels must be bool"),
        ([True, False], [1, float("nan")], "score 1 is NaN or infinite"),
        ([True, False], [float("inf"), 1], "score 0 is NaN or infinite"),
    ],
)
def test_image_metrics_refuse_what_they_cannot_rank(labels, scores, message):
    with pytest.raises(ValueError, match=message):
        image_metrics(labels, scores)


# ---- intervals -----------------------------------------------------------------------------------------
