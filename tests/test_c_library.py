"""The C library: built, tested, installed and used as firmware would, without Python in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from bundles import make_bundle, write_model
from conftest import once
from programs import ROOT, build, run

import rstpm_edge
from rstpm_edge import Detector
from rstpm_edge.model.metadata import Evidence, Fusion, HeadMap
from rstpm_edge.postprocess.scoring import Scorer

pytestmark = pytest.mark.checkout


def header() -> str:
    return (ROOT / "csrc" / "rstpm_edge.h").read_text()


def page() -> str:
    return (ROOT / "docs" / "embedding.md").read_text()


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of csrc/."""
    return once(tmp_path_factory, "c_library", lambda folder: build(ROOT / "csrc", folder))


@pytest.fixture(scope="session")
def prefix(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it was installed, and then moved to: nothing in it may depend on the first place."""

    def fill(folder: Path) -> None:
        run("cmake", "--install", library, "--prefix", folder / "first")
        (folder / "first").rename(folder / "prefix")

    return once(tmp_path_factory, "c_prefix", fill) / "prefix"


@pytest.fixture(scope="session")
def fuse_maps(prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's program, built with the installed CMake package."""

    def fill(folder: Path) -> None:
        build(ROOT / "examples" / "c", folder, f"-DCMAKE_PREFIX_PATH={prefix}")

    return once(tmp_path_factory, "c_example", fill) / "fuse_maps"


def block(language: str, word: str) -> str:
    """The block of that language in docs/embedding.md in which a word occurs."""
    (found,) = [code for code in re.findall(rf"```{language}\n(.*?)```", page(), re.DOTALL) if word in code]
    return str(found)


def interface() -> set[str]:
    """Names of the functions that the header declares."""
    return set(re.findall(r"RSTPM_API [^;(]*?\b(rstpm_\w+)\(", header()))


def exported(binary: Path) -> set[str]:
    """Names and versions that a shared library or extension exports."""
    return {line.split()[-1] for line in run("nm", "-D", "--defined-only", binary).splitlines()}


def test_the_tests_in_c(library: Path) -> None:
    output = run("ctest", "--test-dir", library, "--output-on-failure")
    passed = re.findall(r"(test_\w+) \.+ +Passed", output)
    assert sorted(passed) == [
        f"test_{name}{kind}" for name in ("errors", "fusion", "resize", "scorer") for kind in ("", "_static")
    ]
    assert "100% tests passed" in output


def test_only_the_interface_is_exported(library: Path) -> None:
    node = "RSTPM_EDGE_0.1"
    assert len(interface()) == 16
    assert exported(library / "librstpm_edge.so") == {node} | {f"{name}@@{node}" for name in interface()}


def test_the_extension_exports_nothing_of_it() -> None:
    from rstpm_edge import _native

    names = exported(Path(str(_native.__file__)))
    assert "PyInit__native" in names
    assert not [name for name in names if "rstpm" in name.lower()]


def test_the_extension_uses_the_header_only() -> None:
    included = re.findall(r'#include "(.*)"', (ROOT / "csrc" / "bindings.cpp").read_text())
    assert included == ["decoder_log.hpp", "encoded.hpp", "rstpm_edge.h"]  # the former two are of the extension alone


def test_versions_agree(library: Path, prefix: Path) -> None:
    version = rstpm_edge.__version__
    minor = ".".join(version.split(".")[:2])
    assert f'#define RSTPM_VERSION "{version}"' in header()
    assert (library / "librstpm_edge.so").resolve().name == f"librstpm_edge.so.{version}"
    assert re.search(rf"SONAME\s+librstpm_edge\.so\.{minor}\n", run("objdump", "-p", library / "librstpm_edge.so"))
    assert f"RSTPM_EDGE_{minor} {{" in (ROOT / "csrc" / "rstpm_edge.map").read_text()
    assert run("pkgconf", "--modversion", "rstpm_edge", env=pkg_config(prefix)) == f"{version}\n"
    assert f"find_package(rstpm_edge {minor} REQUIRED)" in page()


def pkg_config(prefix: Path) -> dict[str, str]:
    return {**os.environ, "PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig")}


@pytest.mark.parametrize("kind", ["shared", "static"])
def test_the_program_in_the_documentation(kind: str, prefix: Path, tmp_path: Path) -> None:
    (tmp_path / "inspect.c").write_text(block("c", "int main(void)"))
    wanted = ["--static"] if kind == "static" else []
    flags = run("pkgconf", "--cflags", "--libs", *wanted, "rstpm_edge", env=pkg_config(prefix)).split()
    if kind == "static":  # where both libraries lie side by side, the linker takes the shared one
        flags = [flag.replace("-lrstpm_edge", "-l:librstpm_edge.a") for flag in flags]
    strict = ["-std=c99", "-pedantic-errors", "-Wall", "-Wextra", "-Werror"]
    run("cc", *strict, tmp_path / "inspect.c", *flags, "-o", tmp_path / "inspect")
    environment = {} if kind == "static" else {"LD_LIBRARY_PATH": str(prefix / "lib")}
    output = run(tmp_path / "inspect", code=1, env=environment)
    found = re.fullmatch(r"anomalous: score (.*) at x (.*), y (.*); (.*) pixels of the input .*\n", output)
    assert found is not None, output
    score, x, y, above = map(float, found.groups())
    assert score > 20
    assert 480 <= x < 540
    assert 300 <= y < 340
    assert 60 * 40 / 2.5 / 1.875 / 3 < above < 3 * 60 * 40 / 2.5 / 1.875  # about as many as the scratch has


def test_the_example_on_maps_of_its_own(fuse_maps: Path) -> None:
    output = run(fuse_maps, code=1)
    assert re.fullmatch(r"score 59\.97\d* row 71 column 180 anomalous\n", output)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the snippet in the documentation writes, for a model with statistics and an image with a spot."""
    folder = tmp_path_factory.mktemp("written")
    numbers = {name: tuple(np.linspace(0.1, 0.9, 6) + shift) for shift, name in enumerate(("mean", "std", "weights"))}
    evidence = Evidence(Fusion(smoothing_sigma=4.0, weights=(3.0,) * 6), outline=0.25, offset=-2.0)
    fusion = Fusion(smoothing_sigma=2.5, **numbers, head=HeadMap(mean=0.2, std=0.5, weight=0.7))
    write_model(folder / "model.onnx", make_bundle(fusion=fusion, evidence=evidence, strides=(8, 16, 32)))
    image = np.full((120, 160, 3), 127, np.uint8)
    image[30:60, 80:120] = 255
    cv2.imwrite(str(folder / "image.png"), image)
    run(sys.executable, "-c", block("python", "onnxruntime"), cwd=folder)
    return folder


@pytest.fixture
def files(written: Path, tmp_path: Path) -> list[str]:
    """The program's arguments: names of files in the test's own folder."""
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    maps = [f"{pair}_{stride}" for pair in ("stpm", "recon") for stride in (8, 16, 32)]
    return ["model.txt", *(f"{name}.f32" for name in maps), *(f"{name}_angle.f32" for name in maps), "head_8.f32"]


def test_the_example_on_maps_of_a_model(fuse_maps: Path, files: list[str], tmp_path: Path) -> None:
    detector = Detector(tmp_path / "model.onnx", threads=1)
    result = detector(tmp_path / "image.png")
    sizes = [(8, 8), (4, 4), (2, 2)]
    maps = [np.fromfile(tmp_path / name, np.float32).reshape(1, *sizes[i % 3]) for i, name in enumerate(files[1:])]
    found = Scorer(detector.info.fusion, detector.info.evidence, sizes, (64, 64))(maps)
    score, (row, column) = found.score[0], found.position[0]
    assert score == pytest.approx(result.score, rel=1e-6)
    for threshold, code, verdict in ((score - 0.01, 1, "anomalous"), (score + 0.01, 0, "normal")):
        text = re.sub("threshold .*", f"threshold {threshold}", (tmp_path / "model.txt").read_text())
        (tmp_path / "model.txt").write_text(text)
        output = run(fuse_maps, *files, code=code, cwd=tmp_path)
        found = re.fullmatch(r"score (\S+) row (\d+) column (\d+) (\w+)\n", output)
        assert found is not None, output
        assert float(found[1]) == pytest.approx(score, rel=1e-6)
        assert (int(found[2]), int(found[3]), found[4]) == (row, column, verdict)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("stpm_8.f32", b"\0" * 252, "its size is not that of the level's map"),
        ("stpm_8.f32", b"\0" * 260, "its size is not that of the level's map"),
        ("recon_32.f32", np.full(4, np.nan, np.float32).tobytes(), "a map holds NaN or infinity"),
        ("model.txt", b"mode normalized\nsize 64 64\n", "neither eight lines nor, with evidence, fourteen"),
        ("model.txt", b"mean 1 2 3\n", "a number is missing"),
        ("model.txt", b"size 64 1e9\n", "a size is not possible"),
        ("model.txt", b"colour 3\n", "an unknown word"),
        ("model.txt", None, "cannot be opened"),
        ("recon_8.f32", None, "cannot be opened"),
    ],
)
def test_the_example_on_wrong_files(
    fuse_maps: Path, files: list[str], tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert run(fuse_maps, *files, code=2, cwd=tmp_path).endswith(f": {message}\n")


def test_the_example_passes_on_what_the_library_says(fuse_maps: Path, files: list[str], tmp_path: Path) -> None:
    text = (tmp_path / "model.txt").read_text()
    (tmp_path / "model.txt").write_text(re.sub("std .*", "std 1 1 1 1 1 0", text))
    assert "making the plan: mean, std and weight must be finite" in run(fuse_maps, *files, code=2, cwd=tmp_path)
    usage = "[MODEL MAP...]: six maps, six more where the model has evidence, one with a head\n"
    assert run(fuse_maps, *files[:7], code=2, cwd=tmp_path).endswith(usage)


def test_the_numbers_in_the_documentation_are_what_info_prints(model: Path) -> None:
    printed = json.loads(run("rstpm-edge", "info", "--model", model, "--json"))
    assert printed["calibration"]["threshold"] == Detector(model).threshold
    assert set(printed["fusion"]) == {"mode", "mean", "std", "weights", "smoothing_sigma", "head"}
