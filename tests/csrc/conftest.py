"""The C library, built and installed once a session."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkout import ROOT
from once import once
from programs import build, run


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
