"""A unit as systemd sees it."""

from __future__ import annotations

import subprocess
from pathlib import Path


def assert_systemd_agrees(unit: Path, folder: Path) -> None:
    """It has nothing to object to, and grades the exposure with 2.0 of 10 at most. `folder` takes a copy."""
    program = folder / "rstpm-edge"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copy = folder / unit.name
    copy.write_text(unit.read_text().replace("/opt/rstpm-edge/bin", str(folder)))
    verified = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    security = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", copy]
    assert subprocess.run(security, capture_output=True, check=False).returncode == 0
