"""Runs the programs that other scripts need, and says in one sentence what is wrong when one fails."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

LINES_SHOWN = 25


class Failed(Exception):
    """What is wrong and what to do, for the person who ran the script."""


def run(
    command: Sequence[object],
    purpose: str,
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    expected: Sequence[int] = (0,),
) -> int:
    """Run a program without input, its output in `log`; return its exit code.

    Raises Failed with `purpose` and the end of the output when the exit code is none of `expected`.
    """
    words = [str(word) for word in command]
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as file:
        file.write(f"$ {shlex.join(words)}\n".encode())
        file.flush()
        try:
            code = subprocess.run(
                words, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=env, cwd=cwd, check=False
            ).returncode
        except OSError as error:
            raise Failed(f"{purpose} failed: cannot start {words[0]}: {error.strerror}.") from error
    if code not in expected:
        raise Failed(f"{purpose} failed with exit code {code}. The end of {log}:\n{tail(log)}")
    return code


def environment(**changes: str) -> dict[str, str]:
    """This process's variables without those that steer Python or the package, so that a child starts as on its own."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "RSTPM_"))} | changes


def tail(log: Path) -> str:
    """The last lines of a program's output."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-LINES_SHOWN:])
