"""A folder for the files of a target."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path


@cache
def folder_of(target: str) -> Path:
    """The same one for as long as the process lives."""
    path = Path(tempfile.mkdtemp(prefix=f"fuzz_{target}_"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path
