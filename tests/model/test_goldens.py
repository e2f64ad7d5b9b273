"""The goldens in a model file: what comes back, what is refused, and what readers from before make of them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from golden_models import goldens_of, put_document, put_goldens
from numpy.typing import NDArray

from rstpm_edge import Detector
from rstpm_edge.errors import ModelError
from rstpm_edge.image.decode import decode_stored
from rstpm_edge.model.goldens import MOST, Golden, golden_image, goldens_to_json, parse_goldens, stored_map

Image = NDArray[np.uint8]


@pytest.fixture
def goldens(model: Path, good: Image, bad: Image) -> list[Golden]:
    return goldens_of(model, good=good, bad=bad)


def test_they_come_back(goldens: list[Golden]) -> None:
    for before, after in zip(goldens, parse_goldens(goldens_to_json(goldens)), strict=True):
        assert dataclasses.asdict(after) == dataclasses.asdict(before)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("grey", [False, True])
def test_a_photo_comes_back_to_the_last_bit(dtype: Any, grey: bool) -> None:
    photo = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (31, 17, 3), dtype, endpoint=True)
    if grey:
        photo[...] = photo[..., :1]
    found = decode_stored(golden_image(photo))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, photo)


def test_what_else_a_photo_says_does_not_get_into_the_file(tmp_path: Path, good: Image) -> None:
    encoded = cv2.imencode(".png", good)[1].tobytes()
    assert b"Exif" not in golden_image(decode_stored(encoded))
    assert b"tEXt" not in golden_image(decode_stored(encoded))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3, 40), (1e-9, 2e-9), (5, 5), (-1e30, 1e30)])
def test_a_map_is_off_by_half_a_step_at_most(low: float, high: float) -> None:
    values = np.random.default_rng(0).uniform(low, high, (40, 50)).astype(np.float32)
    step = (float(values.max()) - float(values.min())) / 65535
    off = np.abs(stored_map(values).values().astype(np.float64) - values).max()
    assert off <= step / 2 + np.spacing(np.float32(max(abs(low), abs(high))))


def test_a_map_takes_little_room(goldens: list[Golden]) -> None:
    assert all(len(one.anomaly_map.png) < 64 * 64 * 2 for one in goldens)


def test_a_reader_that_knows_nothing_of_them_judges_as_before(model: Path, goldens: list[Golden], bad: Image) -> None:
    """They are no part of the document, which readers of that schema take only whole."""
    before, document = Detector(model)(bad).score, onnx.load(model).metadata_props[0].value
    put_goldens(model, goldens)
    props = {entry.key: entry.value for entry in onnx.load(model).metadata_props}
    assert props.pop("rstpm_edge") == document
    assert sorted(props) == ["rstpm_edge_crc32_goldens", "rstpm_edge_goldens"]
    assert Detector(model)(bad).score == before


def test_a_changed_byte_of_them_is_noticed_when_the_model_is_loaded(model: Path, goldens: list[Golden]) -> None:
    put_goldens(model, goldens)
    content = bytearray(model.read_bytes())
    content[content.index(b'"score"') + 10] ^= 1
    model.write_bytes(content)
    with pytest.raises(ModelError, match="has been changed since it was exported, or is damaged"):
        Detector(model)


def changed(goldens: list[Golden], **changes: Any) -> str:
    document = json.loads(goldens_to_json(goldens))
    document["goldens"][0].update(changes)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"name": 7}, "a golden's name is no text"),
        ({"name": "a\nb"}, "a golden's name is no text"),
        ({"score": "high"}, "a golden's score is no number"),
        ({"is_anomalous": 1}, "verdict is neither true nor false"),
        ({"image": "%"}, "a golden's picture is no base64"),
        ({"image": None}, "a golden's picture is no text"),
        ({"map": {}}, "a golden's map has no png"),
        ({"more": 1}, "unknown field 'more'"),
    ],
)
def test_goldens_that_are_none(changes: Any, why: str, model: Path, goldens: list[Golden]) -> None:
    put_document(model, changed(goldens, **changes))
    Detector(model)  # they decide nothing
    with pytest.raises(ModelError, match=f"goldens are damaged .*{why}.*; export the model again"):
        Detector(model, verify=True)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ("", "goldens are damaged"),
        ("[]", "it is no object"),
        ('{"schema_version": 1, "needs": "0.1.0", "goldens": []}', "no list of 1 to 8"),
        ('{"schema_version": 2, "needs": "3.4"}', "has schema version 2, .* it needs rstpm-edge ≥ 3.4; upgrade"),
        ('{"schema_version": 1, "needs": "0.1.0", "goldens": [{}], "x": 1}', "unknown field 'x'"),
    ],
)
def test_documents_that_are_none(document: str, why: str, model: Path) -> None:
    put_document(model, document)
    with pytest.raises(ModelError, match=why):
        Detector(model, verify=True)


def test_too_many_are_refused_when_they_are_read(goldens: list[Golden]) -> None:
    assert len(parse_goldens(goldens_to_json(goldens * (MOST // 2)))) == MOST
    with pytest.raises(ModelError, match="no list of 1 to 8"):
        parse_goldens(goldens_to_json(goldens * MOST))
