"""The C library: built, tested and installed, its interface, and what the documentation says of it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from checkout import ROOT
from documented import code_block, embedding_page
from programs import run

import rstpm_edge
from rstpm_edge import Detector

pytestmark = pytest.mark.checkout

STRICT = ["-std=c99", "-pedantic-errors", "-Wall", "-Wextra", "-Wconversion", "-Werror"]


def header() -> str:
    return (ROOT / "csrc" / "rstpm_edge.h").read_text()


def interface() -> set[str]:
    """Names of the functions that the header declares."""
    return set(re.findall(r"RSTPM_API [^;(]*?\b(rstpm_\w+)\(", header()))


def exported(binary: Path) -> set[str]:
    """Names and versions that a shared library or extension exports."""
    return {line.split()[-1] for line in run("nm", "-D", "--defined-only", binary).splitlines()}


def test_the_tests_in_c(library: Path) -> None:
    output = run("ctest", "--test-dir", library, "--output-on-failure")
    passed = re.findall(r"(test_\w+) \.+ +Passed", output)
    names = ("errors", "fusion", "fuzz", "resize", "scorer", "swap")
    assert sorted(passed) == [f"test_{name}{kind}" for name in names for kind in ("", "_static")]
    assert "100% tests passed" in output


def test_only_the_interface_is_exported(library: Path) -> None:
    node = "RSTPM_EDGE_0.1"
    assert len(interface()) == 18
    assert exported(library / "librstpm_edge.so") == {node} | {f"{name}@@{node}" for name in interface()}


def test_the_extension_exports_nothing_of_it() -> None:
    from rstpm_edge import _native

    names = exported(Path(str(_native.__file__)))
    assert "PyInit__native" in names
    assert not [name for name in names if "rstpm" in name.lower()]


def test_the_extension_uses_the_header_only() -> None:
    folder = ROOT / "csrc" / "python"
    included = [name for path in folder.iterdir() for name in re.findall(r'#include "(.*)"', path.read_text())]
    assert {name for name in included if not (folder / name).exists()} == {"rstpm_edge.h"}


def test_versions_agree(library: Path, prefix: Path) -> None:
    version = rstpm_edge.__version__
    minor = ".".join(version.split(".")[:2])
    assert f'#define RSTPM_VERSION "{version}"' in header()
    assert (library / "librstpm_edge.so").resolve().name == f"librstpm_edge.so.{version}"
    assert re.search(rf"SONAME\s+librstpm_edge\.so\.{minor}\n", run("objdump", "-p", library / "librstpm_edge.so"))
    assert f"RSTPM_EDGE_{minor} {{" in (ROOT / "csrc" / "rstpm_edge.map").read_text()
    assert run("pkgconf", "--modversion", "rstpm_edge", env=pkg_config(prefix)) == f"{version}\n"
    assert f"find_package(rstpm_edge {minor} REQUIRED)" in embedding_page()


def pkg_config(prefix: Path) -> dict[str, str]:
    return {**os.environ, "PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig")}


@pytest.mark.parametrize("kind", ["shared", "static"])
def test_the_program_in_the_documentation(kind: str, prefix: Path, tmp_path: Path) -> None:
    (tmp_path / "inspect.c").write_text(code_block("c", "int main(void)"))
    wanted = ["--static"] if kind == "static" else []
    flags = run("pkgconf", "--cflags", "--libs", *wanted, "rstpm_edge", env=pkg_config(prefix)).split()
    if kind == "static":  # where both libraries lie side by side, the linker takes the shared one
        flags = [flag.replace("-lrstpm_edge", "-l:librstpm_edge.a") for flag in flags]
    run("cc", *STRICT, tmp_path / "inspect.c", *flags, "-o", tmp_path / "inspect")
    environment = {} if kind == "static" else {"LD_LIBRARY_PATH": str(prefix / "lib")}
    output = run(tmp_path / "inspect", code=1, env=environment)
    found = re.fullmatch(r"anomalous: score (.*) at x (.*), y (.*); (.*) pixels of the input .*\n", output)
    assert found is not None, output
    score, x, y, above = map(float, found.groups())
    assert score > 20
    assert 480 <= x < 540
    assert 300 <= y < 340
    assert 60 * 40 / 2.5 / 1.875 / 3 < above < 3 * 60 * 40 / 2.5 / 1.875  # about as many as the scratch has


def test_the_numbers_in_the_documentation_are_what_info_prints(model: Path) -> None:
    printed = json.loads(run("rstpm-edge", "info", "--model", model, "--json"))
    assert printed["calibration"]["threshold"] == Detector(model).threshold
    assert set(printed["fusion"]) == {"mode", "mean", "std", "weights", "smoothing_sigma", "head"}
