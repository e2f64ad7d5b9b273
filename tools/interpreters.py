"""Finds the CPython interpreters, with their headers, that wheels are built for: on PATH, then in pyenv."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from commands import Failed, environment

VERSIONS = ("3.10", "3.11", "3.12", "3.13")

PROBE = """
import json, sys, sysconfig
print(json.dumps({
    "implementation": sys.implementation.name,
    "abi": sys.abiflags + ("t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""),
    "release": ".".join(map(str, sys.version_info[:3])),
    "include": sysconfig.get_path("include"),
    "multiarch": sysconfig.get_config_var("MULTIARCH") or "",
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """A CPython that can build extensions."""

    version: str  # "3.11"
    release: str  # "3.11.7"
    executable: Path
    include: Path  # the folder with Python.h
    config: Path  # pyconfig.h; Debian keeps the real one elsewhere, one for each architecture

    @property
    def tag(self) -> str:
        """As in names of wheels: cp311."""
        return "cp" + self.version.replace(".", "")


def find_interpreters(versions: Iterable[str]) -> list[Interpreter]:
    """One interpreter of each version. Raises Failed that names all that are missing."""
    found, problems = [], []
    for version in versions:
        try:
            found.append(find_interpreter(version))
        except Failed as problem:
            problems.append(f"\n  {version}: {problem}")
    if problems:
        raise Failed(f"CPythons are missing; install them, or name others with --python:{''.join(problems)}")
    return found


def find_interpreter(version: str) -> Interpreter:
    """The first interpreter of this version that can build. Raises Failed that says what to install."""
    problem = (
        f"apt install python{version} python{version}-dev python{version}-venv where the release has them, "
        f"otherwise pyenv install {version}"
    )
    for candidate in candidates(version):
        facts = probe(candidate)
        if facts is None or facts["implementation"] != "cpython" or facts["abi"]:
            continue  # a shim of pyenv for a version that is not active, PyPy, a debug or free-threaded build
        if facts["release"].rpartition(".")[0] != version:
            continue
        include = Path(facts["include"])
        if (include / "Python.h").is_file():
            config = config_header(include, facts["multiarch"])
            return Interpreter(version, facts["release"], candidate, include, config)
        problem = f"{candidate} has no headers: apt install python{version}-dev"
    raise Failed(problem)


def candidates(version: str) -> list[Path]:
    """Programs that may be a Python of this version, best first."""
    on_path = shutil.which(f"python{version}")
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    releases = sorted(pyenv.glob(f"{version}.*/bin/python"), key=lambda path: release_number(path.parts[-3]))
    return [*([Path(on_path)] if on_path else []), *reversed(releases)]


def release_number(release: str) -> tuple[int, ...]:
    """(3, 12, 10) of "3.12.10"; what is no number, as in "3.14.0rc1", counts as lowest."""
    return tuple(int(part) if part.isdigit() else -1 for part in release.split("."))


def probe(executable: Path) -> dict[str, str] | None:
    """What an interpreter says about itself; None when it does not start."""
    command = [str(executable), "-c", PROBE]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60, check=True)
        facts: dict[str, str] = json.loads(answer.stdout)
        return facts
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def config_header(include: Path, multiarch: str) -> Path:
    """The pyconfig.h with the definitions: Debian's in the include folder only includes that of an architecture."""
    real = include.parent / multiarch / include.name / "pyconfig.h"
    return real if multiarch and real.is_file() else include / "pyconfig.h"
