"""The document inside a model file."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bundles import make_bundle

from rstpm_edge.bundle import SCHEMA_VERSION, Fusion, parse_bundle
from rstpm_edge.errors import ModelError


def changed(**changes: Any) -> str:
    """The document with fields replaced; `fusion__std` means `std` inside `fusion`."""
    document = json.loads(make_bundle().to_json())
    for name, value in changes.items():
        *outer, field = name.split("__")
        (document[outer[0]] if outer else document)[field] = value
    return json.dumps(document)


def test_a_document_survives_the_round_trip() -> None:
    bundle = make_bundle(fusion=Fusion("paper", (0.1,) * 6, (0.3,) * 6, (2.0,) * 6, 1.5))
    assert parse_bundle(bundle.to_json()) == bundle


def test_a_roi_is_in_the_document_where_there_is_one() -> None:
    assert "roi" not in json.loads(make_bundle().to_json())  # so that older readers take the file
    bundle = make_bundle(roi=(1, 2, 30, 40))
    assert parse_bundle(bundle.to_json()) == bundle
    assert parse_bundle(changed(roi=None)) == make_bundle()


def test_maps_are_named_after_pair_and_stride() -> None:
    names = ("stpm_4", "stpm_8", "stpm_16", "recon_4", "recon_8", "recon_16")
    assert make_bundle().map_names == names


def test_the_threshold_stands_in_the_document_for_programs_that_are_not_ours() -> None:
    bundle = make_bundle()
    fields = json.loads(bundle.to_json())
    assert fields["calibration"]["threshold"] == bundle.calibration.threshold
    del fields["calibration"]["threshold"]  # as in older files
    assert parse_bundle(json.dumps(fields)) == bundle


def test_nan_is_not_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        make_bundle(fusion=Fusion(mean=(float("nan"),) * 6)).to_json()


def test_a_newer_schema_says_what_to_do() -> None:
    with pytest.raises(ModelError, match=r"schema version 99, .* reads up to 1: upgrade rstpm-edge"):
        parse_bundle(changed(schema_version=SCHEMA_VERSION + 98, something_new=1))


@pytest.mark.parametrize("document", ["", "{", "[]", "null", "{}", "3", '"text"', "[" * 100_000])
def test_documents_that_are_none(document: str) -> None:
    with pytest.raises(ModelError, match="metadata is damaged; export the model again"):
        parse_bundle(document)


@pytest.mark.parametrize(
    "changes",
    [
        {"unknown": 1},
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
        {"moved": [1]},
    ],
    ids=str,
)
def test_damaged_documents(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"metadata is damaged \(.*\); export the model again"):
        parse_bundle(changed(**changes))


@pytest.mark.parametrize("version", [0, -1, "1", None, 1.5])
def test_versions_that_never_were(version: Any) -> None:
    with pytest.raises(ModelError, match=r"schema version|damaged"):
        parse_bundle(changed(schema_version=version))
