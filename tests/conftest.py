"""Fixtures that several files of tests share."""

from __future__ import annotations

import ast
import gc
import os
import struct
import sys
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bundles import Bundle, ModelFactory, make_bundle, write_model
from hypothesis import settings
from numpy.typing import NDArray
from once import once
from workplace import Workplace, fill_workplace

from rstpm_edge.detector import Detector

# Before torch is imported, and for child processes too: small networks gain nothing from more threads, and test
# processes that share the cores thrash.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# An example may take its time: machines are busy.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# The package itself sees to that; some tests import ONNX Runtime on their own.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# What an edge box need not have, as it is imported. onnx is not among them: the tests of the runtime make their models
# with it.
BEYOND_RUNTIME = {
    "rstpm_edge.training",
    "rstpm_edge.station",
    "rstpm_edge.fleet_score",
    "station_server",  # of the helpers
    "fsspec",
    "pyarrow",
    "ray",
    "s3fs",
    "asyncua",
    "torch",
    "torchvision",
    "timm",
    "sklearn",
    "scipy",
    "safetensors",
    "lightning",
    "openvino",
    "cryptography",
    "cyclonedx",
    "model_signing",
    "moto",
    "paho",
    "selenium",
    "trustme",
}
BEYOND_RUNTIME_FOLDERS = {"station", "training"}  # with fixtures that need it
TRAINING_FIXTURES = {"parts", "workplace", "reducible"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--runtime", action="store_true", help="only the tests of what an edge box installs, without torch"
    )


def needs_more(source: str) -> bool:
    """Whether a module imports at its top what an edge box need not have, so that it cannot be imported there."""
    names: list[str] = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return any(f"{name}.".startswith(f"{package}.") for name in names for package in BEYOND_RUNTIME)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if config.getoption("runtime"):
        if collection_path.parent == Path(__file__).parent and collection_path.name in BEYOND_RUNTIME_FOLDERS:
            return True
        if collection_path.suffix == ".py":
            return needs_more(collection_path.read_text()) or None
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --runtime, leave out single tests that train, build the package from its sources, or need an extra."""
    if not config.getoption("runtime"):
        return
    left_out = [
        item
        for item in items
        if TRAINING_FIXTURES & set(getattr(item, "fixturenames", ()))
        or any(item.get_closest_marker(name) for name in ("training", "checkout", "extra"))
    ]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish() -> None:
    """What the tests have imported stays: without it, the garbage collector has a million objects fewer to look at."""
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where RSTPM_EDGE_NO_SKIPS is set, a test that is skipped fails with its reason."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("RSTPM_EDGE_NO_SKIPS"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome, report.longrepr = "failed", f"RSTPM_EDGE_NO_SKIPS is set, but this was skipped: {reason}"
    return report


@pytest.fixture(scope="session", autouse=True)
def teachers_once() -> Iterator[None]:
    """Where tests train, a process reads each packaged teacher once."""
    with pytest.MonkeyPatch.context() as patch:
        if "rstpm_edge.training.model.rstpm" in sys.modules:  # imported by one of the tests: there is torch
            from teachers_once import read_teachers_once

            read_teachers_once(patch)
        yield


@pytest.fixture
def model_factory(tmp_path: Path) -> ModelFactory:
    """Writes a tiny model; keywords are fields of its document, or what `bundles.make_model` takes."""
    fields = set(Bundle.__dataclass_fields__)

    def write(name: str = "model.onnx", **keywords: Any) -> Path:
        changes = {key: keywords.pop(key) for key in list(keywords) if key in fields}
        return write_model(tmp_path / name, make_bundle(**changes), **keywords)

    return write


@pytest.fixture
def model(model_factory: ModelFactory) -> Path:
    """A model file that works."""
    return model_factory()


@pytest.fixture
def detector(model: Path) -> Detector:
    return Detector(model, threads=1)


@pytest.fixture
def good() -> NDArray[np.uint8]:
    """A picture of a normal part."""
    return np.full((120, 160, 3), 127, np.uint8)


@pytest.fixture
def bad(good: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same part with a white spot at rows 30…59 and columns 80…119."""
    image = good.copy()
    image[30:60, 80:120] = 255
    return image


@pytest.fixture
def photos(tmp_path: Path, bad: NDArray[np.uint8]) -> Path:
    """A folder with 1.png and 10.png (normal) and sub/2.jpg (anomalous)."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name in ("1.png", "10.png"):
        cv2.imwrite(str(folder / name), np.full((50, 70), 127, np.uint8))
    cv2.imwrite(str(folder / "sub" / "2.jpg"), bad)
    return folder


@pytest.fixture
def huge_png() -> bytes:
    """The start of a PNG file that claims 60000×60000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rendered parts in the MVTec AD layout: 12 to learn from, 4 good ones and one of each defect to test on."""

    def fill(folder: Path) -> None:
        from rstpm_edge.training.demo.part import write_dataset

        write_dataset(folder, train=12, test_good=4, test_per_kind=1, size=(128, 128))

    return once(tmp_path_factory, "parts", fill)


@pytest.fixture
def older(tmp_path: Path) -> Iterator[Path]:
    """A file that a failed or refused export must leave as it was, and nothing beside it."""
    folder = tmp_path / "models"
    folder.mkdir()
    path = folder / "model.onnx"
    path.write_bytes(b"an older model")
    yield path
    assert path.read_bytes() == b"an older model"
    assert list(folder.iterdir()) == [path]


@pytest.fixture(scope="session")
def workplace(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """Two epochs at 64×96 on the rendered parts, exported, for every test that needs a real model."""
    options = ["--epochs", "2", "--size", "64x96", "--holdout", "0.25", "--device", "cpu"]
    return Workplace(once(tmp_path_factory, "workplace", lambda folder: fill_workplace(folder, parts, options)))
