"""What an edge box installs: the package without extras, which must do without torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from bundles import write_model
from checkout import ROOT

pytestmark = pytest.mark.checkout

UNREACHABLE = (
    "No matching distribution",
    "Could not find a version",
    "Failed to establish",
    "Max retries",
    "timed out",
)


def copy_sources(target: Path) -> None:
    """The files that git knows or would add, with their times, so that building leaves the working tree alone.

    Where the checkout has the extension, setuptools compiles it again only if a source is newer.
    """
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0"):
        source = ROOT / os.fsdecode(name)
        if name and source.is_file():
            copy = target / os.fsdecode(name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)
    built = target / "build" / f"lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}" / "rstpm_edge"
    built.mkdir(parents=True)
    for extension in (ROOT / "rstpm_edge").glob(f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"):
        shutil.copy2(extension, built)


def pip_of(programs: Path) -> list[object]:
    """This environment's pip for another one, into which none has to be installed."""
    return [sys.executable, "-m", "pip", "--python", programs / "python"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a fresh environment into which `pip install .` went."""
    folder = tmp_path_factory.mktemp("install")
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout, so what belongs to the package is not known")
    copy_sources(folder / "source")
    venv.create(folder / "venv")
    programs = folder / "venv" / "bin"
    environment = {
        key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PIP_REQUIRE_VIRTUALENV")
    }
    result = subprocess.run(
        [
            *pip_of(programs),
            "install",
            "--quiet",
            "--no-compile",
            str(folder / "source"),
        ],  # a box imports a few modules
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0 and any(words in result.stderr for words in UNREACHABLE):
        pytest.skip(f"the package index cannot be reached: {result.stderr.strip().splitlines()[-1]}")
    assert result.returncode == 0, result.stderr
    return programs


def run(programs: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "RSTPM"))}
    command = [str(programs / "rstpm-edge"), *map(str, arguments)]
    return subprocess.run(
        command, cwd=programs.parent, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_runtime_without_torch(installed: Path, tmp_path: Path, photos: Path) -> None:
    listed = subprocess.run(
        [*pip_of(installed), "list", "--format", "json"], capture_output=True, text=True, check=True
    )
    packages = {package["name"].lower() for package in json.loads(listed.stdout)}
    assert "rstpm-edge" in packages
    assert not packages & {"torch", "torchvision", "timm", "onnx", "scikit-learn", "lightning-fabric", "safetensors"}

    model = write_model(tmp_path / "model.onnx")
    judged = run(installed, "infer", photos, "--model", model, "--json")
    assert judged.returncode == 1, judged.stderr
    assert [json.loads(line)["is_anomalous"] for line in judged.stdout.splitlines()] == [False, False, True]
    facts = run(installed, "info", "--model", model, "--json")
    assert facts.returncode == 0, facts.stderr
    assert json.loads(facts.stdout)["preset"] == "test"
    assert json.loads(facts.stdout)["runtime"]["kernels"]  # the extension was built

    for command in (["train", photos], ["export"], ["evaluate", photos], ["demo"]):
        refused = run(installed, *command)
        assert refused.returncode == 2
        assert refused.stdout == ""
        assert len(refused.stderr.splitlines()) == 1
        assert refused.stderr.startswith("Error: This command needs packages for training (")
        assert "pip install '.[train]'" in refused.stderr


def test_the_packages_top_level_holds_only_the_package(installed: Path) -> None:
    code = "import importlib.util as u; print([n for n in ('training', 'tests', 'tools', 'csrc') if u.find_spec(n)])"
    found = subprocess.run(
        [installed / "python", "-I", "-c", code], cwd=installed, capture_output=True, text=True, check=True
    )
    assert found.stdout == "[]\n"


def test_what_the_report_is_made_of_is_installed(installed: Path) -> None:
    code = (
        "import importlib.resources as r; "
        "roots = [r.files(f'rstpm_edge.training.{name}') for name in ('fleet_train', 'report')]; "
        "print(sorted(f.name for root in roots for f in root.iterdir() if not f.name.endswith(('.py', '__pycache__'))))"
    )
    found = subprocess.run(
        [installed / "python", "-I", "-c", code], cwd=installed, capture_output=True, text=True, check=True
    )
    assert found.stdout == "['gallery.js', 'report.css', 'report.html', 'report.html', 'sortable.js']\n"
