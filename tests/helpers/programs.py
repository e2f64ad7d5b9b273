"""Programs that tests run: CMake, compilers, and what these have made."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def run(command: object, *arguments: object, code: int = 0, **keywords: Any) -> str:
    """Run a program, this environment's own where it has one, and expect the exit code `code`.

    Gives what it printed, what it said on standard error last. Skips the test where the program is missing.
    """
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    found = shutil.which(str(command), path=places)
    if found is None:
        pytest.skip(f"{command} is missing: make build; apt install g++ make")
    result = subprocess.run(
        [found, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False, **keywords
    )
    assert result.returncode == code, result.stdout + result.stderr
    return result.stdout + result.stderr


def build(source: Path, folder: Path, *options: object) -> None:
    """Configure and build a CMake project; warnings are errors."""
    flags = [f"-DCMAKE_{language}_FLAGS=-Wall -Wextra -Werror" for language in ("C", "CXX")]
    run("cmake", "-S", source, "-B", folder, "-DCMAKE_BUILD_TYPE=Release", *flags, *options)
    run("cmake", "--build", folder, "--parallel", 2)
