"""The document inside a model file."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from bundles import make_bundle
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_metadata import BUNDLE, DATA, changed

from rstpm_edge.errors import ModelError
from rstpm_edge.model.metadata import SCHEMA_VERSION, Fusion, ScoreFusion
from rstpm_edge.model.read_metadata import parse_bundle
from rstpm_edge.postprocess.fusion import make_fuser

SCORES = {"fusion": {**json.loads(BUNDLE.to_json())["fusion"], "head": None}, "map_weight": 0, "bias": 0}


@pytest.mark.parametrize("key", sorted(json.loads(BUNDLE.to_json()).keys() - {"needs", "schema_version"}))
def test_every_key_is_there(key: str) -> None:
    fields = json.loads(BUNDLE.to_json())
    del fields[key]
    with pytest.raises(ModelError, match=rf"metadata is damaged \(it has no {key}\); export the model again"):
        parse_bundle(json.dumps(fields))


def test_a_document_survives_the_round_trip() -> None:
    bundle = make_bundle(fusion=Fusion("normalized", (0.1,) * 6, (0.3,) * 6, (2.0,) * 6, 1.5))
    assert parse_bundle(bundle.to_json()) == bundle


def test_maps_are_named_after_pair_and_stride() -> None:
    names = ("stpm_4", "stpm_8", "stpm_16", "recon_4", "recon_8", "recon_16")
    assert make_bundle().map_names == names


def test_the_threshold_stands_in_the_document_for_programs_that_are_not_ours() -> None:
    bundle = make_bundle()
    assert json.loads(bundle.to_json())["calibration"]["threshold"] == bundle.calibration.threshold


def test_nan_is_not_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        make_bundle(fusion=Fusion(mean=(float("nan"),) * 6)).to_json()


@pytest.mark.parametrize("document", ["", "{", "[]", "null", "{}", "3", '"text"', "[" * 100_000])
def test_documents_that_are_none(document: str) -> None:
    with pytest.raises(ModelError, match=r"metadata is damaged \(.*\); export the model again"):
        parse_bundle(document)


@pytest.mark.parametrize(
    "changes",
    [
        {"unknown": 1},
        {"moved": {}},
        {"evidence": None},
        {"head": None},
        {"needs": 1},
        {"saturation_free": None},
        {"preset": None, "fusion": []},
        {"height": 0},
        {"width": 1.5},
        {"resize": "crop"},
        {"strides": [4, 8]},
        {"strides": [0, 8, 16]},
        {"strides": [16, 8, 4]},
        {"strides": [8, 8, 16]},
        {"strides": [1e999, 8, 16]},
        {"strides": "abc"},
        {"teachers": [{}]},
        {"teachers": ["a", "b"]},
        {"teachers": []},
        {"fusion__mode": "sum"},
        {"fusion__mean": [0] * 5},
        {"fusion__mean": [1e999] * 6},
        {"fusion__std": [0] * 6},
        {"fusion__std": [1, 1, 1, 1, 1, -1]},
        {"fusion__weights": ["x"] * 6},
        {"fusion__smoothing_sigma": -1},
        {"fusion__smoothing_sigma": 1e999},
        {"fusion__smoothing_sigma": 10_000},
        {"calibration__scores": []},
        {"calibration__scores": [2, 1]},
        {"calibration__scores": [1, 1e999]},
        {"calibration__alpha": 0.0001},
        {"calibration__alpha": 7},
        {"calibration": None},
        {"roi": [0, 0, 5]},
        {"roi": [0, 0, 5, 0]},
        {"roi": [0, 0, 5.5, 5]},
        {"roi": "all"},
        {"roi": 3},
        {"precision": "int4"},
        {"precision": None},
        {"precision_change": [1]},
        {"precision_change": {"AUROC": "x"}},
        {"precision_change": {"AUROC": 1e999}},
        {"precision_change": {"AUROC": None}},
        {"preset": None},
        {"preset": "a\nb"},
        {"preset": "\x1b[2Jnormal"},
        {"preset": "\u202eegde"},
        {"preset": "\ud800"},
        {"preset": "x" * 5001},
        {"package_version": 1},
        {"package_version": "1" * 101},
        {"height": True},
        {"height": "64"},
        {"height": 10**400},
        {"height": 1 << 20},
        {"height": 65},
        {"width": 64.0},
        {"width": [64]},
        {"resize": ["stretch"]},
        {"resize": {}},
        {"strides": ["4", "8", "16"]},
        {"strides": [4.0, 8, 16]},
        {"strides": [True, 8, 16]},
        {"strides": [4, 8, 128]},
        {"strides": [3, 5, 7]},
        {"strides": {"a": 1, "b": 2, "c": 3}},
        {"fusion__mean": ["0"] * 6},
        {"fusion__mean": [True] * 6},
        {"fusion__mean": [[0]] * 6},
        {"fusion__mean": [1e13] * 6},
        {"fusion__mean": [10**400] * 6},
        {"fusion__mean": "000000"},
        {"fusion__std": [1e-39] * 6},
        {"fusion__std": [5e-324] * 6},
        {"fusion__std": ["NaN"] * 6},
        {"fusion__std": [1e-30] * 6},
        {"fusion__weights": [3e38] * 6},
        {"fusion__weights": [1e300] * 6},
        {"fusion__weights": [float("nan")] * 6},
        {"fusion__smoothing_sigma": 1e-200},
        {"fusion__smoothing_sigma": 0.009},
        {"fusion__smoothing_sigma": 64.5},
        {"fusion__smoothing_sigma": True},
        {"fusion__smoothing_sigma": "4"},
        {"fusion__smoothing_sigma": None},
        {"fusion__other": 1},
        {"fusion__mode": ["paper"]},
        {"fusion__mode": 1},
        {"calibration__scores": ["1", "2"]},
        {"calibration__scores": "123"},
        {"calibration__scores": [True]},
        {"calibration__scores": [1e300] * 99},
        {"calibration__scores": [10**400] * 99},
        {"calibration__scores": {"1": 1}},
        {"calibration__alpha": "0.01"},
        {"calibration__alpha": True},
        {"calibration__alpha": float("nan")},
        {"calibration__threshold": "1"},
        {"calibration__other": 1},
        {"teachers": [{"name": 1, "source": "s", "sha256": "0", "license": "l"}] * 2},
        {"teachers": [{"name": "n", "source": "s\u0007", "sha256": "0", "license": "l"}] * 2},
        {"teachers": [{"name": "n", "source": "s", "sha256": "0", "license": ["l"]}] * 2},
        {"teachers": [{"name": "n", "source": "s", "sha256": "0", "license": "l", "x": 1}] * 2},
        {"teachers": {"a": 1, "b": 2}},
        {"teachers": "ab"},
        {"training": [1]},
        {"training": None},
        {"training": {"a\nb": 1}},
        {"training": {"a": float("nan")}},
        {"training": {"a": 1e999}},
        {"training": {"a": 10**400}},
        {"training": {"a": {"b": {"c": {"d": {"e": 1}}}}}},
        {"training": {"a": [1] * 2000}},
        {"training": {"a": "\x9b2J"}},
        {"roi": ["1", "2", "3", "4"]},
        {"roi": [0, 0, True, True]},
        {"roi": [0, 0, 10**400, 1]},
        {"roi": [0, 0, 1 << 40, 1]},
        {"roi": {"x": 0, "y": 0, "width": 1, "height": 1}},
        {"precision": ["fp32"]},
        {"fusion__head": 1},
        {"fusion__head": []},
        {"fusion__head": {"mean": 0, "std": 1, "weight": 1, "other": 1}},
        {"fusion__head": {"mean": "0", "std": 1, "weight": 1}},
        {"fusion__head": {"mean": 0, "std": 1e-39, "weight": 1}},
        {"fusion__head": {"mean": 0, "std": 1e-20, "weight": 1e20}},
        {"score_fusion": 1},
        {"score_fusion": {"fusion": {}, "map_weight": 0, "bias": 0}},
        {"score_fusion": {**SCORES, "coarse": 1}},
        {"score_fusion": {**SCORES, "coarse": {"mean": [0], "std": [1], "weights": [1]}}},
        {"score_fusion": {**SCORES, "coarse": {"mean": [0] * 4, "std": [1e-20] * 4, "weights": [1e20] * 4}}},
        {
            "score_fusion": {
                **SCORES,
                "coarse": {"mean": [0] * 2, "std": [1] * 2, "weights": [1] * 2},
                "coarse_weight": 1,
            }
        },
        {"score_fusion": {"fusion": json.loads(BUNDLE.to_json())["fusion"], "map_weight": 0, "bias": 0}},
    ],
    ids=lambda changes: str(changes)[:60],
)
def test_damaged_documents(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"metadata is damaged( \(.*\))?; export the model again") as caught:
        parse_bundle(changed(**changes))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("place", ["fusion", "score_fusion"])
def test_a_product_that_is_smoothed_is_refused_as_such(place: str) -> None:
    product = Fusion("paper", smoothing_sigma=1.5)
    fields: dict[str, Any] = {"fusion": product, "score_fusion": ScoreFusion(product, 0.0)}
    with pytest.raises(ModelError, match=r"^The model smooths a product of maps, as .*: train without smoothing\.$"):
        parse_bundle(make_bundle(**{place: fields[place]}).to_json())


def test_a_name_that_comes_twice() -> None:
    with pytest.raises(ModelError, match="a name comes twice"):
        parse_bundle(make_bundle().to_json().replace('"preset"', '"height": 128, "preset"'))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), value=ANYTHING)
def test_whatever_stands_in_a_field_is_taken_or_refused_in_a_sentence(data: Any, value: Any) -> None:
    version = data.draw(st.sampled_from([1, 2, 3, 4]))
    document = json.loads((DATA / f"metadata_v{version}.json").read_text())
    place: Any = document
    while True:  # down to a field somewhere
        key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = value
    try:
        parsed = parse_bundle(json.dumps(document))
    except ModelError:
        return
    # NaN would not be written, and is not equal.
    assert parse_bundle(parsed.to_json()) == replace(parsed, schema_version=SCHEMA_VERSION)


@settings(max_examples=200, deadline=None)
@given(
    mean=st.floats(-1e12, 1e12),
    std=st.floats(1.2e-38, 1e30),
    weight=st.floats(-3.4e38, 3.4e38),
    sigma=st.just(0.0) | st.floats(0, 70),
    mode=st.sampled_from(["normalized", "paper"]),
)
def test_what_a_document_may_hold_gives_finite_maps(
    mean: float, std: float, weight: float, sigma: float, mode: Any
) -> None:
    fusion = Fusion(mode, (mean,) * 6, (std,) * 6, (weight,) * 6, sigma)
    try:
        parse_bundle(make_bundle(fusion=fusion).to_json())
    except ModelError:
        return
    sizes = [(8, 8), (4, 4), (2, 2)]
    rng = np.random.default_rng(0)
    maps = [rng.choice(np.float32([-1e12, 1e12, 0, 1]), (1, *sizes[i % 3])) for i in range(6)]
    fused = make_fuser(fusion, sizes, (64, 64))(maps)
    assert np.isfinite(fused.anomaly_map).all()
    assert np.isfinite(fused.score).all()
