"""Says in one sentence what a fresh machine lacks before the installation starts. Run by the Makefile."""

import importlib.util
import sys
import sysconfig
from pathlib import Path

version = f"{sys.version_info.major}.{sys.version_info.minor}"
if not (3, 10) <= sys.version_info[:2] <= (3, 13):
    sys.exit(f"rstpm-edge needs Python 3.10 to 3.13, but this is {version}: try make PYTHON=python3.12 …")
if importlib.util.find_spec("ensurepip") is None and not Path(".venv/bin/python").exists():
    sys.exit(f"Python's venv module is missing: sudo apt install python{version}-venv")
if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
    sys.exit(f"Python's headers are missing, which the C++ extension needs: sudo apt install python{version}-dev")
