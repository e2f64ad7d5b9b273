"""What importing the package costs, and what it leaves alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT, modules

NEVER = {"torch", "torchvision", "timm", "sklearn", "scipy", "matplotlib", "onnx", "PIL", "pandas", "requests"}
NEVER |= {"openvino"}  # unless it is asked for
# Where one of these is set, the runtimes themselves report nothing.
QUIET = {
    "ORT_DISABLE_TELEMETRY",
    "ORT_RUNNING_UNIT_TESTS",
    "CI",
    "TF_BUILD",
    "GITHUB_ACTIONS",
    "JENKINS_URL",
    "BUILD_ID",
}

REPORT = """
import json, os, sys
{}
print(json.dumps([sorted({{name.split(".")[0] for name in sys.modules}}), len(os.listdir("/proc/self/task"))]))
"""


def modules_after(code: str, folder: Path) -> tuple[set[str], int]:
    """Top-level modules that `code` loads in a fresh interpreter, and how many threads there are then."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", REPORT.format(code)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stderr == ""
    names, threads = eval(run.stdout)
    return set(names), threads


def test_the_package_alone_loads_nothing_but_the_standard_library(tmp_path: Path) -> None:
    before, _ = modules_after("", tmp_path)
    after, threads = modules_after("import rstpm_edge; rstpm_edge.RstpmEdgeError", tmp_path)
    assert after - before <= {"rstpm_edge", *sys.stdlib_module_names}
    assert threads == 1
    assert os.listdir(tmp_path) == []


def test_the_command_line_alone_loads_click_and_no_engine(tmp_path: Path) -> None:
    loaded, threads = modules_after("import rstpm_edge.cli.main", tmp_path)
    assert "click" in loaded
    assert not loaded & {"numpy", "cv2", "onnxruntime", "sqlite3", *NEVER}
    assert threads == 1


@pytest.mark.training
def test_evaluation_loads_no_torch(tmp_path: Path) -> None:
    loaded, _ = modules_after("import rstpm_edge.training.evaluation.evaluate, rstpm_edge.training.report", tmp_path)
    assert "sklearn" in loaded
    assert not loaded & {"torch", "torchvision", "timm"}


@pytest.mark.parametrize("warm", [False, True])
def test_the_detector_loads_the_runtime_only(tmp_path: Path, model: Path, warm: bool) -> None:
    code = "from rstpm_edge import Detector\n"
    if warm:
        code += f"detector = Detector({str(model)!r}); detector.warmup()"
    loaded, _ = modules_after(code, tmp_path)
    assert {"numpy", "cv2", "onnxruntime"} <= loaded
    assert not loaded & {"sqlite3", *NEVER}
    assert os.listdir(tmp_path) == ["model.onnx"]


@pytest.mark.parametrize(
    "code",
    [
        "from rstpm_edge import Detector; Detector(MODEL).warmup()",
        pytest.param("import rstpm_edge.training.export.export", marks=pytest.mark.training),
    ],
)
def test_onnx_runtime_reports_to_nobody(tmp_path: Path, model: Path, code: str) -> None:
    """Its reports start with files below HOME; where nothing may be reported, there are none."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {key: value for key, value in os.environ.items() if key not in QUIET} | {"HOME": str(home)}
    environment.pop("XDG_CACHE_HOME", None)
    check = f"import os; {code.replace('MODEL', repr(str(model)))}; print(os.environ.get('ORT_DISABLE_TELEMETRY'))"
    command = [sys.executable, "-c", check]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert run.stdout == "None\n"  # what is set for the import does not stay
    assert os.listdir(home) == []


def test_onnx_runtime_is_imported_in_one_place() -> None:
    direct = [
        path.name for path in modules().values() if re.search(r"^\s*(import|from) onnxruntime", path.read_text(), re.M)
    ]
    assert direct == ["no_telemetry.py"]


def test_opencv_keeps_the_threads_it_had(model: Path) -> None:
    import cv2

    from rstpm_edge import Detector

    before = cv2.getNumThreads()
    Detector(model, threads=1).warmup()
    assert cv2.getNumThreads() == before
