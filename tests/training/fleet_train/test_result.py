"""What came of a product, kept and read again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from fleet_results import TRAINED, result, without_model

from rstpm_edge.errors import DatasetError
from rstpm_edge.training.fleet_train.result import (
    Audited,
    ProductResult,
    audited_from,
    failed,
    load,
    result_from,
    save,
    worst_first,
)


@pytest.mark.parametrize(
    "one",
    [
        result(),
        result(measured=None, needs=()),
        result(audited=Audited(0, 0, "too few")),
        without_model("nut", "no photos"),
    ],
)
def test_what_is_kept_comes_back(one: ProductResult, tmp_path: Path) -> None:
    save(tmp_path / "product.json", "key", one.to_json(), tmp_path)
    kept = load(tmp_path / "product.json", "key")
    assert kept is not None
    assert result_from(kept) == one
    assert load(tmp_path / "product.json", "another key") is None


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"key": "key"}', '{"name": "nut"}', "\udcff"])
def test_damaged_files_are_as_none(content: str, tmp_path: Path) -> None:
    path = tmp_path / "product.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    kept = load(path, "key")
    assert kept is None or result_from(kept) is None
    assert load(tmp_path / "missing.json", "key") is None


@pytest.mark.parametrize("change", [{"surprise": 1}, {"trained": {"photos": 3}}, {"needs": [3]}, {"audited": []}])
def test_other_fields_are_those_of_another_version(change: dict[str, Any]) -> None:
    content = json.loads(json.dumps(result().to_json()))
    assert result_from(content) == result()
    assert result_from({**content, **change}) is None


def test_an_audit_comes_back() -> None:
    assert audited_from(dataclasses.asdict(Audited(3, 1))) == Audited(3, 1)
    assert audited_from(None) is None
    assert audited_from({"another": 1}) is None


def test_the_worst_stands_first() -> None:
    synthetic = result("b", measured=None, trained=dataclasses.replace(TRAINED, synthetic_found=0.3))
    unknown = result("c", measured=None, trained=dataclasses.replace(TRAINED, synthetic_found=None))
    results = [result("a"), synthetic, without_model("d", "bad"), unknown]
    assert [one.name for one in worst_first(results)] == ["d", "c", "b", "a"]
    assert [one.found for one in results] == [0.9, 0.3, None, None]


def test_why_there_is_no_model(tmp_path: Path) -> None:
    assert failed("nut", tmp_path, DatasetError("too few:\n  one")).failure == "too few: one"
    assert (
        failed("nut", tmp_path, ZeroDivisionError("division by zero")).failure == "ZeroDivisionError: division by zero"
    )
    assert failed("nut", tmp_path, "its worker died").failure == "its worker died"
