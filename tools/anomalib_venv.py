"""The environment that anomalib lives in, for the scripts that compare with it: it shares nothing with ours.

Made where it is missing: 6.7 GB, 4 minutes with a fast line.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

DEFAULT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rstpm-edge" / "anomalib-venv"
# The scripts reach into names of version 2 that a third may move.
PACKAGES = ("anomalib[openvino]>=2.7,<3", "torch", "torchvision", "onnxruntime")

venv_option = click.option(
    "--venv",
    type=click.Path(path_type=Path),
    default=DEFAULT,
    show_default=True,
    help="Environment with anomalib; made where it is missing.",
)


def ensure_anomalib(venv: Path) -> Path:
    """The Python that has anomalib; installed where an earlier call has not done so to the end.

    Raises ClickException with pip's last words.
    """
    python, complete = venv / "bin" / "python", venv / "complete"
    if not complete.exists():
        click.echo(f"Installing anomalib into {venv} (7 GB; once) …", err=True)
        trouble = "anomalib cannot be installed"
        run_quietly([sys.executable, "-m", "venv", str(venv)], trouble)
        run_quietly([str(python), "-m", "pip", "install", *PACKAGES], trouble)
        complete.touch()
    return python


def run_quietly(
    command: Sequence[str], trouble: str, *, log: Path | None = None, env: Mapping[str, str] | None = None
) -> str:
    """Run to the end and give its standard output; with `log`, both outputs go to that file, to be watched.

    Raises ClickException, `trouble` and the last words, when it cannot be started or fails.
    """
    try:
        if log is None:
            done = subprocess.run(command, env=env, capture_output=True, text=True)
            output, words = done.stdout, done.stderr or done.stdout
        else:
            with log.open("w") as file:
                done = subprocess.run(command, env=env, stdout=file, stderr=subprocess.STDOUT, text=True)
            output, words = "", log.read_text(errors="replace")
    except OSError as error:
        raise click.ClickException(f"{trouble}: {error}") from error
    if done.returncode:
        last = words.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        if done.returncode < 0:  # it had no time for last words: out of memory, or somebody stopped it
            last = [f"it was stopped by {signal.Signals(-done.returncode).name}"]
        raise click.ClickException(f"{trouble}: {last[0]}" + (f" (all of it in {log})" if log else ""))
    return output
