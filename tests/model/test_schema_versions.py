"""Documents of each version of the schema: older ones are read, newer ones refused as newer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import TEACHERS, make_bundle, write_model
from stored_metadata import BUNDLE, DATA, changed

from rstpm_edge import Detector, __version__
from rstpm_edge.errors import ModelError
from rstpm_edge.model.metadata import NEEDS, SCHEMA_VERSION, Bundle, CoarseCells
from rstpm_edge.model.read_metadata import check_version, parse_bundle


def test_schema_1_reads_as_it_did() -> None:
    of_before = replace(
        BUNDLE,
        training={("not done" if key == "not_converged" else key): value for key, value in BUNDLE.training.items()},
        precision_change={"auroc": -0.001, "false_rejects": 0.0, "verdict": 0.05, "found": -0.01},
        validity=None,
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


def test_a_model_of_schema_1_judges_as_one_of_today(tmp_path: Path) -> None:
    bundle = replace(BUNDLE, precision="fp32", roi=None, mask=None, profile=None, validity=None)
    document = (DATA / "metadata_v1.json").read_text()
    document = changed(document, precision="fp32", roi=None, mask=None, profile=None)
    detectors = [
        Detector(write_model(tmp_path / f"{name}.onnx", bundle, document=text), threads=1)
        for name, text in (("before", document), ("now", None))
    ]
    assert [detector.info.schema_version for detector in detectors] == [1, 4]
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    before, now = (detector(image) for detector in detectors)
    assert (before.score, before.threshold, before.is_anomalous) == (now.score, now.threshold, now.is_anomalous)
    np.testing.assert_array_equal(before.anomaly_map, now.anomaly_map)


def test_schema_4_is_what_is_kept_here() -> None:
    """Where this fails since a key was added, raise SCHEMA_VERSION and NEEDS, and keep a reader for schema 4."""
    document = (DATA / "metadata_v4.json").read_text()
    assert parse_bundle(document) == BUNDLE
    assert json.loads(BUNDLE.to_json()) == json.loads(document)
    assert SCHEMA_VERSION == 4


def test_schema_3_knows_no_light_and_no_kind_of_score_maps() -> None:
    document = (DATA / "metadata_v3.json").read_text()
    assert BUNDLE.validity is not None
    before = replace(BUNDLE, validity=replace(BUNDLE.validity, light=()), schema_version=3)
    assert parse_bundle(document) == before
    assert parse_bundle(before.to_json()) == replace(before, schema_version=4)
    with pytest.raises(ModelError, match="unknown field 'kind'"):
        parse_bundle(changed(document, score_fusion__kind="angles"))
    # With them, angles became a part of the coarsest cells, and score maps errors.
    coarse = {name: [0.5] * 4 for name in ("mean", "std", "weights")}
    found = parse_bundle(changed(document, score_fusion__coarse=coarse))
    assert found.score_map_names[0] == "stpm_8_error"
    assert found.angle_map_names == ("stpm_32_angle", "recon_32_angle")
    with pytest.raises(ModelError, match="the angles of the coarsest level have a part in the score twice"):
        parse_bundle(changed((DATA / "metadata_v4.json").read_text(), score_fusion__coarse=coarse))


def test_schema_2_knows_no_validity() -> None:
    document = (DATA / "metadata_v2.json").read_text()
    before = replace(BUNDLE, validity=None, schema_version=2)
    assert parse_bundle(document) == before
    assert parse_bundle(before.to_json()) == replace(before, schema_version=4)
    with pytest.raises(ModelError, match="unknown field 'validity'"):
        parse_bundle(changed(document, validity=None))


def test_a_file_from_before_the_coarsest_cells_were_part_of_the_score() -> None:
    document = json.loads((DATA / "metadata_v2.json").read_text())
    del document["score_fusion"]["coarse"]
    before = replace(BUNDLE, validity=None, schema_version=2)
    assert parse_bundle(json.dumps(document)) == before
    assert BUNDLE.score_map_names[0] == "stpm_8_angle"
    assert BUNDLE.angle_map_names == ()
    document["score_fusion"]["coarse_weight"] = 0.5  # before it had angles
    coarse = CoarseCells((0.3, 0.6), (0.03, 0.06), (0.5, 0.75))
    assert BUNDLE.score_fusion is not None
    found = parse_bundle(json.dumps(document))
    assert found == replace(before, score_fusion=replace(BUNDLE.score_fusion, coarse=coarse))
    assert found.output_names == BUNDLE.output_names
    for wrong in (-0.5, None, 1e13):
        document["score_fusion"]["coarse_weight"] = wrong
        with pytest.raises(ModelError, match="the coarsest cells' weight"):
            parse_bundle(json.dumps(document))


def test_what_was_read_from_schema_1_is_written_as_schema_4() -> None:
    older = parse_bundle((DATA / "metadata_v1.json").read_text())
    assert parse_bundle(older.to_json()) == replace(older, schema_version=4)


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
        f"The model has schema version 5, but this rstpm-edge, {__version__}, reads up to 4: it needs {told}; upgrade, "
        "or export the model again with this version."
    )


def test_a_newer_document_that_says_of_no_release() -> None:
    with pytest.raises(ModelError, match="it needs a newer rstpm-edge; upgrade"):
        check_version('{"schema_version": 5, "strides": NaN, "strides": 1}')


def test_this_release_reads_what_it_writes() -> None:
    needed, own = ([int(part) for part in version.split(".")] for version in (NEEDS, __version__))
    assert needed <= own


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
