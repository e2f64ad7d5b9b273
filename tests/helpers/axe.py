"""axe-core, which finds what keeps people out of a page. For tests alone: it is fetched once, and never shipped."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from checkout import ROOT

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

VERSION = "4.14.1"
SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
FOLDER = ROOT / "build" / "axe"
SERIOUS = ("serious", "critical")


def axe_source() -> str:
    """Its text. Skips the test where it is not there, and npm cannot fetch it."""
    file = FOLDER / f"axe-{VERSION}.min.js"
    if not file.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("there is no npm to fetch axe-core with: apt install npm")
        FOLDER.mkdir(parents=True, exist_ok=True)
        fetched = subprocess.run(
            [npm, "pack", f"axe-core@{VERSION}"], cwd=FOLDER, capture_output=True, text=True, timeout=120, check=False
        )
        if fetched.returncode:
            pytest.skip(f"npm cannot fetch axe-core: {fetched.stderr.strip().splitlines()[-1:]}")
        with tarfile.open(FOLDER / f"axe-core-{VERSION}.tgz") as archive:
            member = archive.extractfile("package/axe.min.js")
            assert member is not None
            file.write_bytes(member.read())
    content = file.read_bytes()
    assert hashlib.sha256(content).hexdigest() == SHA256, f"{file} is not what was looked at: remove it"
    return content.decode()


def serious_faults(page: Chrome) -> list[tuple[str, list[str]]]:
    """What axe-core calls serious or critical: the rule, and where."""
    page.execute_script(axe_source())
    found: dict[str, Any] = page.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
    return [
        (fault["id"], [node["html"][:200] for node in fault["nodes"]])
        for fault in found["violations"]
        if fault["impact"] in SERIOUS
    ]
