"""A program that PyInstaller makes of rstpm-edge has all in it that it needs."""

from __future__ import annotations

import ast
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import rstpm_edge
from rstpm_edge._pyinstaller import hook_dirs

ROOT = Path(rstpm_edge.__file__).parent

PROGRAM = """
import sys
from rstpm_edge import Detector, kernels
if sys.argv[1] == "sdk":
    print(Detector(sys.argv[2])(sys.argv[3]).is_anomalous, kernels().active)
else:
    from rstpm_edge.__main__ import run
    run()
"""


def test_the_hook_names_what_is_imported_by_its_name_only() -> None:
    (folder,) = hook_dirs()
    hook = runpy.run_path(str(Path(folder) / "hook-rstpm_edge.py"))
    assert {*rstpm_edge._LAZY.values(), "rstpm_edge._native", "onnxruntime"} <= set(hook["hiddenimports"])
    assert hook["excludedimports"] == ["rstpm_edge.training"]
    taken = {path for source, _ in hook["datas"] for path in Path(source).parent.glob(Path(source).name)}
    code = {".py", ".pyi", ".pyc", ".so", ".typed"}
    files = {path for path in ROOT.rglob("*") if path.is_file() and path.suffix not in code}
    assert taken == {path for path in files if "training" not in path.relative_to(ROOT).parts} != set()
    assert {target for _, target in hook["datas"]} == {
        "rstpm_edge/msa",
        "rstpm_edge/outputs",
        "rstpm_edge/station/page",
    }


def test_imports_by_name_are_known_to_the_hook() -> None:
    """A new `import_module` is one that PyInstaller cannot see."""
    found = set()
    for path in (path for path in ROOT.rglob("*.py") if "training" not in path.relative_to(ROOT).parts):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
                found.add((path.name, ast.unparse(node.args[0])))
    assert found == {
        ("__init__.py", "_LAZY[name]"),
        ("no_telemetry.py", "f'onnxruntime.{name}'"),  # for training
        ("openvino.py", "'openvino'"),
        ("ray_cluster.py", "'ray'"),  # Ray starts Python on scripts, so no single program holds a fleet
        ("ray_cluster.py", "'ray.data'"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["--onedir", "--onefile"])
def test_a_program_runs_without_python(tmp_path: Path, model: Path, bad: NDArray[np.uint8], kind: str) -> None:
    pytest.importorskip("PyInstaller")
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "ERROR", kind]
    command += ["--additional-hooks-dir", *hook_dirs(), "program.py"]  # of a checkout there may be no entry point
    environment = {**os.environ, "PYTHONPATH": str(ROOT.parent)}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    built = tmp_path / "dist" / "program"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    cv2.imwrite(str(elsewhere / "part.png"), bad)
    shutil.move(model, elsewhere / "model.onnx")
    shutil.move(built, elsewhere / "program")
    (tmp_path / "program.py").unlink()
    program = elsewhere / "program" / "program" if kind == "--onedir" else elsewhere / "program"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *arguments], cwd=elsewhere, env={}, capture_output=True, text=True)

    result = run("sdk", "model.onnx", "part.png")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("True ")
    result = run("infer", "part.png")
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.startswith("ANOMALOUS")
    assert run("roi", "part.png", "--page", "roi.html").returncode == 0
    assert "pip install" in run("train", ".").stderr
