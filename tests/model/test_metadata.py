"""The document inside a model file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import TEACHERS, make_bundle, write_model
from checkout import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from rstpm_edge import Detector, __version__
from rstpm_edge.calibration import Calibration
from rstpm_edge.errors import ModelError
from rstpm_edge.image.input_profile import InputProfile
from rstpm_edge.image.stored_mask import StoredMask
from rstpm_edge.model.metadata import (
    NEEDS,
    SCHEMA_VERSION,
    Bundle,
    Fusion,
    HeadMap,
    ScoreFusion,
    check_version,
    parse_bundle,
)
from rstpm_edge.postprocess.fusion import make_fuser

DATA = ROOT / "tests" / "data"
# What metadata_v1.json said when it was written, and metadata_v2.json says, too.
BUNDLE = Bundle(
    preset="edge",
    height=64,
    width=96,
    resize="stretch",
    strides=(8, 16, 32),
    fusion=Fusion(
        "normalized",
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6),
        (0.01, 0.02, 0.03, 0.04, 0.05, 0.06),
        (1.0, 1.0, 1.0, 1.5, 1.5, 1.5),
        4.0,
        HeadMap(-6.5, 0.75, 1.25),
    ),
    calibration=Calibration(0.1, tuple(i / 8 for i in range(1, 20))),
    teachers=TEACHERS,
    package_version="0.1.0",
    training={
        "images": 24,
        "holdout": 19,
        "epochs": 3,
        "minutes": 0.25,
        "seed": 0,
        "loss": {"stpm": 0.5, "recon": 0.75},
        "not_converged": "its loss still fell by 5.0% an epoch",
    },
    roi=(2, 3, 70, 50),
    precision="int8",
    precision_change={"auroc": -0.001, "false_rejects": 0.0, "score_shift": 0.05, "recall": -0.01},
    score_fusion=ScoreFusion(
        Fusion(
            "normalized",
            (0.0, 0.1, -0.1, 0.0, 0.2, 0.1),
            (1.0, 1.5, 2.0, 1.0, 1.25, 1.0),
            (1.0, 1.0, 1.0, 1.5, 1.5, 1.5),
            4.0,
        ),
        map_weight=0.125,
        bias=7.5,
    ),
    profile=InputProfile(
        24,
        ((60, 80), (48, 64)),
        16,
        12,
        (101.5, 3.25),
        12.5,
        (1.0, 2.0, 3.0, 4.5),
        (0.5, 0.25, 0.125, 1.0),
        (2, 3, 70, 50),
    ),
    mask=StoredMask(60, 80, "eNpjYKA9+D8KRhwAAHef8hw="),
    saturation_free=True,
)


def changed(document: str | None = None, **changes: Any) -> str:
    """The document with fields replaced; `fusion__std` means `std` inside `fusion`."""
    fields = json.loads(document or make_bundle().to_json())
    for name, value in changes.items():
        *outer, field = name.split("__")
        (fields[outer[0]] if outer else fields)[field] = value
    return json.dumps(fields)


def test_schema_1_reads_as_it_did() -> None:
    of_before = replace(
        BUNDLE,
        training={("not done" if key == "not_converged" else key): value for key, value in BUNDLE.training.items()},
        precision_change={"auroc": -0.001, "false_rejects": 0.0, "verdict": 0.05, "found": -0.01},
        schema_version=1,
    )
    document = (DATA / "metadata_v1.json").read_text()
    assert parse_bundle(document) == of_before
    fields = json.loads(document)
    optional = ("training", "roi", "precision", "moved", "evidence", "profile", "mask", "sums_fit", "head")
    plain = {name: value for name, value in fields.items() if name not in optional}
    expected = Bundle(
        *(getattr(BUNDLE, name) for name in ("preset", "height", "width", "resize", "strides")),
        fusion=replace(BUNDLE.fusion, head=None),
        calibration=BUNDLE.calibration,
        teachers=TEACHERS,
        package_version="0.1.0",
        schema_version=1,
    )
    assert parse_bundle(json.dumps(plain)) == expected
    del plain["calibration"]["threshold"]  # as in the oldest
    assert parse_bundle(json.dumps(plain)) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"unknown": 1},
        {"score_fusion": None},
        {"needs": "0.1.0"},
        {"fusion__head": None},
        {"head": 1},
        {"evidence__map_weight": 0.5},
        {"evidence__outline": -1},
        {"evidence": []},
        {"moved": None},
        {"sums_fit": 1},
        {"precision": None},
        {"training": None},
    ],
    ids=str,
)
def test_damaged_documents_of_schema_1(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"metadata is damaged \(.*\); export the model again"):
        parse_bundle(changed((DATA / "metadata_v1.json").read_text(), **changes))


def test_a_model_of_schema_1_judges_as_one_of_schema_2(tmp_path: Path) -> None:
    bundle = replace(BUNDLE, precision="fp32", roi=None, mask=None, profile=None)
    document = (DATA / "metadata_v1.json").read_text()
    document = changed(document, precision="fp32", roi=None, mask=None, profile=None)
    detectors = [
        Detector(write_model(tmp_path / f"{name}.onnx", bundle, document=text), threads=1)
        for name, text in (("before", document), ("now", None))
    ]
    assert [detector.info.schema_version for detector in detectors] == [1, 2]
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    before, now = (detector(image) for detector in detectors)
    assert (before.score, before.threshold, before.is_anomalous) == (now.score, now.threshold, now.is_anomalous)
    np.testing.assert_array_equal(before.anomaly_map, now.anomaly_map)


def test_schema_2_is_what_is_kept_here() -> None:
    """Where this fails since a key was added, raise SCHEMA_VERSION and NEEDS, and keep a reader for schema 2."""
    document = (DATA / "metadata_v2.json").read_text()
    assert parse_bundle(document) == BUNDLE
    assert json.loads(BUNDLE.to_json()) == json.loads(document)
    assert SCHEMA_VERSION == 2


def test_what_was_read_from_schema_1_is_written_as_schema_2() -> None:
    older = parse_bundle((DATA / "metadata_v1.json").read_text())
    assert parse_bundle(older.to_json()) == replace(older, schema_version=2)


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


@pytest.mark.parametrize(
    ("needs", "told"),
    [
        ("0.4", "rstpm-edge ≥ 0.4"),
        ("12.0.1", "rstpm-edge ≥ 12.0.1"),
        (None, "a newer rstpm-edge"),
        ("0.4\x1b[2J", "a newer rstpm-edge"),
        ("9" * 99, "a newer rstpm-edge"),
        (["0.4"], "a newer rstpm-edge"),
    ],
)
def test_a_newer_schema_says_what_reads_it(needs: Any, told: str) -> None:
    newer = changed(schema_version=SCHEMA_VERSION + 1, something_new=1, needs=needs, height="none", fusion=[])
    with pytest.raises(ModelError) as caught:
        parse_bundle(newer)
    assert str(caught.value) == (
        f"The model has schema version 3, but this rstpm-edge, {__version__}, reads up to 2: it needs {told}; upgrade, "
        "or export the model again with this version."
    )


def test_a_newer_document_that_says_of_no_release() -> None:
    with pytest.raises(ModelError, match="it needs a newer rstpm-edge; upgrade"):
        check_version('{"schema_version": 3, "strides": NaN, "strides": 1}')


def test_this_release_reads_what_it_writes() -> None:
    needed, own = ([int(part) for part in version.split(".")] for version in (NEEDS, __version__))
    assert needed <= own


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
    fields: dict[str, Any] = {"fusion": product, "score_fusion": ScoreFusion(product, 0.0, 0.0)}
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
    version = data.draw(st.sampled_from([1, 2]))
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


@pytest.mark.parametrize("version", [0, -1, "1", None, 1.5, True, [2], 10**7, 10**400])
def test_versions_that_never_were(version: Any) -> None:
    with pytest.raises(ModelError) as caught:
        parse_bundle(changed(schema_version=version))
    assert str(caught.value) == (
        "The model's rstpm_edge metadata is damaged (the schema version is no whole number from 1 to 1000000); export "
        "the model again."
    )


def test_a_document_without_a_version() -> None:
    fields = json.loads(make_bundle().to_json())
    del fields["schema_version"]
    with pytest.raises(ModelError, match=r"damaged \(the schema version is no whole number from 1 to 1000000\); exp"):
        parse_bundle(json.dumps(fields))
