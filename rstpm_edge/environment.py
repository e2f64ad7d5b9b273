"""What measurements depend on: this machine and its packages."""

import contextlib
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from rstpm_edge import __version__
from rstpm_edge.cpu import usable_cores
from rstpm_edge.engine.no_telemetry import onnxruntime
from rstpm_edge.engine.providers import OPENVINO


@dataclass(frozen=True)
class Environment:
    """What the figures depend on. `load` is the machine's load average before the measurement: 0 when idle.

    `providers` and `precision` are those of the session. `openvino` is the version of OpenVINO's own runtime where
    that ran the network, and None where ONNX Runtime did.
    """

    cpu: str
    cores: int  # physical, that this process may use
    load: float
    os: str
    python: str
    numpy: str
    opencv: str
    onnxruntime: str
    openvino: str | None
    rstpm_edge: str
    providers: tuple[str, ...]
    precision: str | None
    threads: int
    polite: bool
    kernel: str


def read_environment(
    providers: tuple[str, ...],
    threads: int,
    *,
    precision: str | None,
    kernel: str,
    polite: bool = False,
    load: float | None = None,
) -> Environment:
    """This machine and its packages. Without `load`, the load average of now is taken."""
    return Environment(
        cpu=_cpu_name(),
        cores=usable_cores(),
        load=os.getloadavg()[0] if load is None else load,
        os=platform.platform(),
        python=platform.python_version(),
        numpy=np.__version__,
        opencv=cv2.__version__,
        onnxruntime=onnxruntime.__version__,
        openvino=_openvino_version() if providers[0].startswith(OPENVINO + " ") else None,
        rstpm_edge=__version__,
        providers=providers,
        precision=precision,
        threads=threads,
        polite=polite,
        kernel=kernel,
    )


def _openvino_version() -> str:
    from rstpm_edge.engine.openvino import version

    return version()


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    with contextlib.suppress(OSError):  # boards: "Raspberry Pi 5 Model B Rev 1.0"
        return Path("/proc/device-tree/model").read_text().rstrip("\0\n")
    return platform.processor() or platform.machine()
