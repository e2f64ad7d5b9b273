"""The software bill of materials of a wheel, from what pip says and without building or fetching one."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sbom
from checkout import ROOT
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from sbom import NOTE, REQUIREMENTS, bill_of, pinned

WHEEL = "rstpm_edge-0.1.0-cp311-cp311-manylinux_2_17_aarch64.whl"
TIME = 1_700_000_000


def item(name: str, version: str, digest: str = "", **metadata: Any) -> dict[str, Any]:
    hashes = {"sha256": digest} if digest else {}
    return {
        "metadata": {"name": name, "version": version, **metadata},
        "download_info": {"url": f"file:///somewhere/{name}.whl", "archive_info": {"hashes": hashes}},
    }


def report(*items: dict[str, Any]) -> dict[str, Any]:
    ours = item(
        "rstpm-edge",
        "0.1.0",
        license_expression="Apache-2.0",
        requires_dist=[
            "numpy>=1.26",
            "Click>=8.1",
            "only-there; platform_machine == 'aarch64'",
            "not-there; platform_machine == 'x86_64'",
            "torch; extra == 'train'",
        ],
    )
    environment = {"python_version": "3.11", "platform_machine": "x86_64", "sys_platform": "linux"}
    return {"version": "1", "install": [ours, *items], "environment": environment}


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / WHEEL
    path.write_bytes(b"a wheel")
    return path


@pytest.fixture
def said() -> dict[str, Any]:
    return report(
        item("numpy", "2.4.6", "a" * 64, license_expression="BSD-3-Clause AND MIT", summary="Arrays"),
        item("click", "8.5.1", "b" * 64, license="BSD License"),
        item("only_there", "1.0", license="x" * 1000, classifier=["License :: OSI Approved :: MIT License", "Other"]),
        item("not-there", "1.0"),
    )


@pytest.fixture
def bill(wheel: Path, said: dict[str, Any]) -> dict[str, Any]:
    versions = pinned(REQUIREMENTS.read_text())
    loaded: dict[str, Any] = json.loads(bill_of(wheel, said, versions, TIME))
    return loaded


def test_it_is_a_cyclonedx_document(bill: dict[str, Any]) -> None:
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill)) is None
    bill["components"][0]["type"] = "wishes"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill)) is not None


def test_its_subject_is_the_wheel(bill: dict[str, Any], wheel: Path) -> None:
    subject = bill["metadata"]["component"]
    assert (subject["name"], subject["version"], subject["type"]) == ("rstpm-edge", "0.1.0", "application")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert subject["hashes"] == [{"alg": "SHA-256", "content": digest}]
    assert subject["properties"] == [{"name": "rstpm-edge:wheel", "value": WHEEL}]
    assert bill["metadata"]["timestamp"] == "2023-11-14T22:13:20+00:00"


def test_it_lists_versions_hashes_and_licences(bill: dict[str, Any]) -> None:
    found = {one["name"]: one for one in bill["components"]}
    versions = pinned(REQUIREMENTS.read_text())
    assert {name: one["version"] for name, one in found.items()} == {
        "numpy": "2.4.6",
        "click": "8.5.1",
        "only-there": "1.0",
        "libc++": f"of ziglang {versions['ziglang']}",
        "pybind11": versions["pybind11"],
        "uPlot": "1.6.32",
    }
    assert found["uPlot"]["purl"] == "pkg:npm/uplot@1.6.32"
    assert found["uPlot"]["licenses"] == [{"license": {"id": "MIT"}}]
    script = (NOTE.parent / "uplot.js").read_bytes()
    assert found["uPlot"]["hashes"][0]["content"] == hashlib.sha256(script).hexdigest()
    assert found["numpy"]["purl"] == "pkg:pypi/numpy@2.4.6"
    assert found["numpy"]["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    assert found["numpy"]["licenses"] == [{"expression": "BSD-3-Clause AND MIT"}]
    assert found["click"]["licenses"] == [{"license": {"name": "BSD License"}}]
    assert found["only-there"]["licenses"] == [{"license": {"name": "MIT License"}}]
    assert "hashes" not in found["only-there"]


def test_another_script_than_the_note_says_is_told(
    wheel: Path, said: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = tmp_path / NOTE.name
    note.write_text(NOTE.read_text().replace("1.6.32", "1.6.31"))
    (tmp_path / "uplot.js").write_bytes((NOTE.parent / "uplot.js").read_bytes())
    monkeypatch.setattr(sbom, "NOTE", note)
    with pytest.raises(ValueError, match="does not say the version and licence of the script"):
        bill_of(wheel, said, pinned(REQUIREMENTS.read_text()), TIME)


def test_it_says_who_needs_whom_on_the_wheels_processor(bill: dict[str, Any]) -> None:
    needs = {one["ref"]: one.get("dependsOn", []) for one in bill["dependencies"]}
    (ours,) = (ref for ref in needs if "rstpm-edge" in ref)
    assert needs[ours] == sorted(
        [
            "compiled-in:libc++",
            "compiled-in:pybind11",
            "pkg:npm/uplot@1.6.32",
            "pkg:pypi/click@8.5.1",
            "pkg:pypi/numpy@2.4.6",
            "pkg:pypi/only-there@1.0",
        ]
    )
    assert needs["pkg:pypi/numpy@2.4.6"] == []


def test_a_needed_package_that_pip_did_not_find_is_told(wheel: Path, said: dict[str, Any]) -> None:
    versions = pinned(REQUIREMENTS.read_text())
    ours, numpy, click, only_there, _ = said["install"]
    excluded = {**said, "install": [ours, numpy, click, only_there]}  # by its marker
    assert "not-there" not in bill_of(wheel, excluded, versions, TIME)
    for lacking, name in (([ours, numpy, only_there], "click"), ([ours, numpy, click], "only-there")):
        with pytest.raises(ValueError, match=rf"The report says nothing of {name}, which rstpm-edge needs"):
            bill_of(wheel, {**said, "install": lacking}, versions, TIME)


def test_the_same_wheel_has_the_same_bill(wheel: Path, said: dict[str, Any]) -> None:
    versions = pinned(REQUIREMENTS.read_text())
    first = bill_of(wheel, said, versions, TIME)
    assert bill_of(wheel, said, versions, TIME) == first
    wheel.write_bytes(b"another")
    assert json.loads(bill_of(wheel, said, versions, TIME))["serialNumber"] != json.loads(first)["serialNumber"]


def test_what_is_needed_to_write_it_is_fixed() -> None:
    versions = pinned(REQUIREMENTS.read_text())
    assert {"cyclonedx-python-lib", "packageurl-python", "packaging", "pybind11", "ziglang"} <= set(versions)


def test_the_command(wheel: Path, said: dict[str, Any], tmp_path: Path) -> None:
    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, ROOT / "tools" / "sbom.py", wheel, tmp_path / "report.json", tmp_path / "bill.json"]
        return subprocess.run([*map(str, command), "--time", str(TIME)], capture_output=True, text=True)

    assert (run().returncode, (tmp_path / "bill.json").exists()) == (1, False)
    (tmp_path / "report.json").write_text("{")
    assert run().returncode == 1
    (tmp_path / "report.json").write_text(json.dumps({**said, "install": said["install"][1:]}))
    failed = run()
    assert failed.stderr == "Error: The report says nothing of rstpm-edge.\n"
    (tmp_path / "report.json").write_text(json.dumps(said))
    assert run().returncode == 0
    assert json.loads((tmp_path / "bill.json").read_text())["bomFormat"] == "CycloneDX"
