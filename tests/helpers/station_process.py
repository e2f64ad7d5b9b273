"""`rstpm-edge serve` as a process of its own, with a watched folder."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from checkout import ROOT
from numpy.typing import NDArray
from waiting import until


@dataclass(frozen=True)
class StationProcess:
    """`address` is http://127.0.0.1:PORT."""

    address: str
    folder: Path
    history: Path

    def drop(self, name: str, photo: NDArray[np.uint8]) -> float:
        """Put a photo into the watched folder, whole at once; gives when, in seconds since 1970."""
        encoded = cv2.imencode(Path(name).suffix, photo)[1].tobytes()
        (self.folder / f".{name}").write_bytes(encoded)
        (self.folder / f".{name}").rename(self.folder / name)
        return time.time()


@contextlib.contextmanager
def station_process(place: Path, model: Path, *options: str, cameras: str = "") -> Iterator[StationProcess]:
    """The command line's station, until the end of the block; it must then end with 0.

    `cameras` is a station.toml, whose folders are made by whoever gives it, in the place of the watched folder `in`.
    """
    (place / "in").mkdir(parents=True)
    source = ["in", "--watch"]
    if cameras:
        (place / "station.toml").write_text(cameras)
        source = ["station.toml"]
    command = [sys.executable, "-m", "rstpm_edge", "serve", *source, "--model", str(model), "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = place / "said"
    with open(said, "wb") as output:
        process = subprocess.Popen(
            [*command, "--history", "kept", *options], cwd=place, env=environment, stdout=output, stderr=output
        )
    try:

        def started() -> bool:
            assert process.poll() is None, said.read_text()
            return "Serving on" in said.read_text()

        until(started)
        found = re.search(r"Serving on (\S+)", said.read_text())
        assert found is not None
        yield StationProcess(found[1], place / "in", place / "kept")
    finally:
        process.terminate()
        code = process.wait(120)
    assert code == 0, said.read_text()
