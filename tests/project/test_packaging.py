"""What is installed, and by which name: nothing that a stranger could register, and a source archive that is whole."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from checkout import ROOT

TEXTS = {".py", ".md", ".service", ".toml", ".txt", ".yml", ".sh", ".h", ""}

# The name, where pip would look it up; a file's name, rstpm_edge-…, is none, and --no-index asks nobody.
BY_NAME = re.compile(
    r"pip3?\s+(?:install|download|wheel)\b(?!.*--no-index)[^\n`]*?[\s'\"]rstpm[-_.]edge(?![-_.\w]*(?:whl|gz))"
)


def tracked() -> list[Path]:
    found = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if found.returncode:
        pytest.fail("this is no git checkout: leave the test out with -m 'not checkout'")
    return [Path(name) for name in found.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def test_what_counts_as_an_installation_by_name() -> None:
    for command in (
        "pip install rstpm-edge",
        "pip install 'rstpm-edge[train]'",
        "/opt/x/bin/pip install -U rstpm_edge",
        'pip install "rstpm-edge==0.1"',
        "pip download paho-mqtt rstpm-edge",
    ):
        assert BY_NAME.search(command)
    for command in (
        "pip install '.[train]'",
        "pip install ./rstpm_edge-*.whl paho-mqtt",
        "pip install rstpm_edge-0.1.0-cp311-cp311-manylinux_2_17_aarch64.whl",
        "pip install --no-index --find-links wheels rstpm-edge",
    ):
        assert not BY_NAME.search(command)


@pytest.mark.checkout
def test_nobody_is_told_to_install_a_name_that_is_not_ours() -> None:
    """It is registered nowhere: who registers it would own those who follow such advice."""
    told = [
        f"{path}: {line.strip()}"
        for path in tracked()
        if path.suffix in TEXTS and path != Path("tests/project/test_packaging.py")
        for line in (ROOT / path).read_text(errors="replace").splitlines()
        if BY_NAME.search(line)
    ]
    assert told == []


@pytest.mark.checkout
def test_the_source_archive_holds_what_its_tests_need(tmp_path: Path) -> None:
    files = [path for path in tracked() if path.parts[0] != ".ci"]
    for path in files:
        (tmp_path / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / "tree" / path)
    build = "from setuptools import build_meta; build_meta.build_sdist('..')"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path / "tree", check=True, capture_output=True, timeout=120)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        packed = {Path(*Path(name).parts[1:]) for name in opened.getnames()}
    assert set(files) - packed == set()
    assert not any("__pycache__" in path.parts for path in packed)
