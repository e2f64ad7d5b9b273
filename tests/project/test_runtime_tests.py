"""`pytest --runtime`, which builds of wheels run where there is no torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from checkout import ROOT


def test_no_fixture_of_the_runtimes_tests_needs_torch(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('there is none')\n")
    tests = ROOT / "tests"
    plain = [folder for folder in tests.iterdir() if folder.is_dir() and not list(folder.rglob("conftest.py"))]
    left_out = [
        f"--ignore={folder}" for folder in (*plain, *tests.glob("test_*.py"))
    ]  # that share only `tests/conftest.py`
    collected = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "--runtime",
            "--collect-only",
            "-q",
            "-p",
            "no:cacheprovider",
            *left_out,
            tests,
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert collected.returncode == 0, collected.stdout + collected.stderr
    assert "tests/tools/" in collected.stdout
    assert "tests/training/" not in collected.stdout
