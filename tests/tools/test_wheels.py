"""What the scripts that build wheels and emulate 64-bit Arm decide; neither compiles nor emulates anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from build_wheels import audit_problem, compare, differences, package_version
from check_arm import Verdict, parse_verdicts, pick_images
from check_arm import compare as compare_verdicts
from checkout import ROOT
from commands import Failed, run
from emulator import this_distribution
from interpreters import Interpreter, find_interpreter, find_interpreters, release_number
from wheel_builder import commit_time, copy_files, wheel_name

# Programs


def test_a_program_that_fails_is_one_sentence_and_the_end_of_its_output(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "log.txt"
    code = "import sys; print(*range(100), sep='\\n'); sys.exit(3)"
    with pytest.raises(Failed, match=r"^Counting failed with exit code 3\. The end of .*log\.txt:\n75\n76\n") as failed:
        run([sys.executable, "-c", code], "Counting", log)
    assert str(failed.value).endswith("\n99")
    assert run([sys.executable, "-c", code], "Counting", log, expected=(0, 3)) == 3


def test_a_program_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"^Looking failed: cannot start .*nothing: No such file or directory\.$"):
        run([tmp_path / "nothing"], "Looking", tmp_path / "log.txt")


# Interpreters


@pytest.fixture
def pythons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes programs that say what a Python would, on PATH or as a release of pyenv."""
    on_path = tmp_path / "bin"
    on_path.mkdir()
    monkeypatch.setenv("PATH", str(on_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))

    def make(program: Path, release: str, *, headers: bool = True, **other: str) -> Path:
        path = on_path / program if len(program.parts) == 1 else tmp_path / "pyenv" / "versions" / program
        include = path.parent.parent / "include" / release
        include.mkdir(parents=True)
        if headers:
            (include / "Python.h").touch()
        facts = {"implementation": "cpython", "abi": "", "release": release, "include": str(include), "multiarch": ""}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\necho '{json.dumps({**facts, **other})}'\n")
        path.chmod(0o755)
        return path

    return make


def test_an_interpreter_on_path_comes_first_and_then_the_newest_of_pyenv(pythons: Any) -> None:
    pythons(Path("3.12.9/bin/python"), "3.12.9")
    newest = pythons(Path("3.12.10/bin/python"), "3.12.10")
    pythons(Path("3.13.1/bin/python"), "3.13.1")
    found = find_interpreter("3.12")
    assert (found.executable, found.release, found.tag) == (newest, "3.12.10", "cp312")
    on_path = pythons(Path("python3.12"), "3.12.4")
    assert find_interpreter("3.12").executable == on_path


@pytest.mark.parametrize(
    "what",
    [{"implementation": "pypy"}, {"abi": "t"}, {"abi": "d"}, {"release": "3.13.1"}],
    ids=["pypy", "free-threaded", "debug", "another version"],
)
def test_what_cannot_build_is_passed_over(pythons: Any, what: dict[str, str]) -> None:
    pythons(Path("python3.12"), what.pop("release", "3.12.4"), **what)
    good = pythons(Path("3.12.9/bin/python"), "3.12.9")
    assert find_interpreter("3.12").executable == good


def test_a_shim_for_a_version_that_is_not_active_is_passed_over(pythons: Any) -> None:
    shim = pythons(Path("python3.12"), "3.12.4")
    shim.write_text("#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2; exit 127\n")
    good = pythons(Path("3.12.9/bin/python"), "3.12.9")
    assert find_interpreter("3.12").executable == good


def test_all_that_is_missing_is_named_at_once(pythons: Any) -> None:
    without = pythons(Path("python3.11"), "3.11.2", headers=False)
    pythons(Path("3.12.9/bin/python"), "3.12.9")
    with pytest.raises(Failed) as failed:
        find_interpreters(["3.10", "3.11", "3.12"])
    _, first, second = str(failed.value).splitlines()
    assert first.startswith("  3.10: apt install python3.10 python3.10-dev python3.10-venv")
    assert second == f"  3.11: {without} has no headers: apt install python3.11-dev"


def test_debian_keeps_the_real_configuration_apart(pythons: Any) -> None:
    program = pythons(Path("python3.12"), "3.12.4", multiarch="x86_64-linux-gnu")
    include = program.parent.parent / "include"
    assert find_interpreter("3.12").config == include / "3.12.4" / "pyconfig.h"
    real = include / "x86_64-linux-gnu" / "3.12.4" / "pyconfig.h"
    real.parent.mkdir(parents=True)
    real.touch()
    assert find_interpreter("3.12").config == real


def test_releases_are_ordered_by_number() -> None:
    releases = ["3.12.10", "3.12.9", "3.12.0rc1", "3.12.0"]
    assert sorted(releases, key=release_number) == ["3.12.0rc1", "3.12.0", "3.12.9", "3.12.10"]


# Wheels


def test_the_name_of_a_wheel() -> None:
    interpreter = Interpreter("3.10", "3.10.13", Path("python"), Path("include"), Path("pyconfig.h"))
    assert wheel_name("0.1.0", interpreter, "aarch64") == "rstpm_edge-0.1.0-cp310-cp310-manylinux_2_17_aarch64.whl"


def test_the_version_is_that_of_the_package() -> None:
    import rstpm_edge

    assert package_version((ROOT / "pyproject.toml").read_text()) == rstpm_edge.__version__
    with pytest.raises(Failed, match="states no version"):
        package_version('requires = ["setuptools"]')


REPORT = {"overall_tag": "manylinux_2_17_aarch64", "external_libs": {}, "versioned_symbols": {"libc.so.6": ["2.17"]}}


def test_a_wheel_that_keeps_its_promise() -> None:
    assert audit_problem(REPORT, "manylinux_2_17_aarch64") == ""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"overall_tag": "manylinux_2_34_aarch64"}, "fit for manylinux_2_34_aarch64, not manylinux_2_17_aarch64"),
        ({"overall_tag": "linux_aarch64"}, "fit for linux_aarch64"),
        ({"external_libs": {"libstdc++.so.6": None, "libz.so.1": None}}, "may lack: libstdc++.so.6, libz.so.1"),
    ],
)
def test_a_wheel_that_does_not(change: dict[str, Any], says: str) -> None:
    assert says in audit_problem({**REPORT, **change}, "manylinux_2_17_aarch64")


def archive(path: Path, comment: bytes = b"", **files: str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.comment = comment
        for name, content in files.items():
            file.writestr(zipfile.ZipInfo(name), content)
    return path


def test_two_builds_are_compared_by_their_bytes(tmp_path: Path) -> None:
    first = archive(tmp_path / "first", RECORD="1", code="x")
    same = archive(tmp_path / "same", RECORD="1", code="x")
    other = archive(tmp_path / "other", RECORD="2", code="x", more="y")
    target: Any = "cp312, aarch64"
    compare({target: first}, {target: same})
    assert differences(first, other) == ["RECORD", "more"]
    with pytest.raises(Failed, match=r"^Two builds of the same sources differ:\n  first: RECORD, more$"):
        compare({target: first}, {target: other})
    with pytest.raises(Failed, match="only the archive around its files"):
        compare({target: first}, {target: archive(tmp_path / "made otherwise", b"!", RECORD="1", code="x")})


def test_sources_are_copied_with_the_modes_of_a_checkout(tmp_path: Path) -> None:
    left_over = tmp_path / "copy" / "left over"
    left_over.mkdir(parents=True)
    copy_files([Path("pyproject.toml"), Path(".ci/run")], tmp_path / "copy")
    assert not left_over.exists()
    assert (tmp_path / "copy" / "pyproject.toml").stat().st_mode & 0o777 == 0o644
    mode = 0o755 if os.access(ROOT / ".ci" / "run", os.X_OK) else 0o644
    assert (tmp_path / "copy" / ".ci" / "run").stat().st_mode & 0o777 == mode


def test_the_time_of_a_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert commit_time() == 1_700_000_000
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(Failed, match="must be a number of seconds, but is 'yesterday'"):
        commit_time()


def test_missing_interpreters_stop_the_build_with_a_sentence(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": str(tmp_path), "PYENV_ROOT": str(tmp_path)}
    command = [sys.executable, str(ROOT / "tools" / "build_wheels.py"), "--work", str(tmp_path / "work")]
    build = subprocess.run([*command, "--python", "3.13"], capture_output=True, text=True, env=environment)
    assert build.returncode == 1
    assert build.stderr.startswith("Error: CPythons are missing; install them")
    assert "3.13: apt install python3.13" in build.stderr
    assert "Traceback" not in build.stderr
    assert list(tmp_path.iterdir()) == []


# Emulation


def test_distributions() -> None:
    debian = this_distribution('ID=debian\nVERSION_CODENAME=bookworm\nPRETTY_NAME="Debian GNU/Linux 12"\n')
    assert (debian.suite, debian.components) == ("bookworm", "main")
    assert debian.mirrors["arm64"] == debian.mirrors["amd64"]
    ubuntu = this_distribution('ID="ubuntu"\nVERSION_CODENAME=noble\n')
    assert "ports" in ubuntu.mirrors["arm64"]
    assert "ports" not in ubuntu.mirrors["amd64"]
    assert this_distribution("ID=debian\n", "trixie").suite == "trixie"
    for other in ("ID=fedora\nVERSION_CODENAME=\n", "ID=debian\n", ""):
        with pytest.raises(Failed, match="packages of Debian or Ubuntu"):
            this_distribution(other)


def said(path: str, score: float, threshold: float = 4.0) -> str:
    return json.dumps({"path": path, "score": score, "threshold": threshold, "is_anomalous": score > threshold})


def test_verdicts_are_compared_image_by_image() -> None:
    here = parse_verdicts("\n".join([said("a", 1.0), said("b", 8.0), said("c", -0.5)]))
    assert here["b"] == Verdict(8.0, 4.0, True)
    there = parse_verdicts("\n".join([said("c", -0.501), said("a", 1.0), said("b", 8.004)]))
    found = compare_verdicts(here, there)
    assert (found.images, found.anomalous, found.verdicts, found.agree) == (3, 1, (), True)
    assert found.score == pytest.approx(0.004)
    assert found.relative == pytest.approx(0.0005)  # of 8; the other difference is measured by the threshold


def test_verdicts_that_disagree() -> None:
    here, there = (parse_verdicts(said("a", score)) for score in (3.9999, 4.0001))
    found = compare_verdicts(here, there)
    assert found.verdicts == ("a",)
    assert found.relative < 1e-3
    assert not found.agree
    assert not compare_verdicts(here, parse_verdicts(said("a", 3.9))).agree


def test_verdicts_that_cannot_be_compared() -> None:
    with pytest.raises(Failed, match="1 images were judged here and 2 there"):
        compare_verdicts(parse_verdicts(said("a", 1)), parse_verdicts(said("a", 1) + "\n" + said("b", 1)))
    with pytest.raises(Failed, match="0 images were judged here and 0 there"):
        compare_verdicts({}, {})
    with pytest.raises(Failed, match="is no image"):
        parse_verdicts(json.dumps({"path": "a", "error": "a is no image"}))


def test_images_are_picked_evenly(tmp_path: Path) -> None:
    for i in range(10):
        (tmp_path / f"{i}.png").touch()
    assert [path.name for path in pick_images(tmp_path, 4)] == ["0.png", "2.png", "5.png", "7.png"]
    assert len(pick_images(tmp_path, 50)) == 10
    (tmp_path / "empty").mkdir()
    with pytest.raises(Failed, match="There are no images in"):
        pick_images(tmp_path / "empty", 4)
