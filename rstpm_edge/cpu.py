"""Whether this processor multiplies 8-bit integers fast, which decides whether INT8 pays on it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

# As Linux calls them, best first; those of AMX and i8mm multiply whole matrices.
_INSTRUCTIONS = ("amx_int8", "i8mm", "avx512_vnni", "avx_vnni", "asimddp")
_CPUINFO = Path("/proc/cpuinfo")
_limits: list[int] = []


def dot_products() -> str | None:
    """The best instructions for dot products of 8-bit integers that this processor has, None where it has none."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return None
    flags = {
        flag
        for line in lines
        if line.partition(":")[0].strip().lower() in ("flags", "features")
        for flag in line.partition(":")[2].split()
    }
    return next((name for name in _INSTRUCTIONS if name in flags), None)


def advice(precision: str) -> str:
    """Whether a model file of this precision ("fp32", "fp16", "int8") is the one for this processor."""
    found = dot_products()
    if precision == "fp16":
        return "on a CPU FP16 saves space, not time: it is for GPUs, and for ARM processors with 16-bit arithmetic"
    if found is None:
        lacking = "this processor has no dot products of 8-bit integers, without which INT8 saves less time, or none"
        return f"{lacking}: compare with the FP32 file by `rstpm-edge bench`" if precision == "int8" else lacking
    has = f"this processor has dot products of 8-bit integers ({found})"
    return f"{has}, for which INT8 is made" if precision == "int8" else f"{has}: try `rstpm-edge export --int8`"


def usable_cores() -> int:
    """Physical cores that this process may run on: a second hyper-thread adds nothing to matrix products. Inside
    `limited_cores`, no more than that says.

    Not left to ONNX Runtime, which counts the machine's cores and pins its threads to them, also in a
    container that was given two of them.
    """
    cores = set()
    for cpu in os.sched_getaffinity(0):
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.add(siblings.read_text() if siblings.exists() else str(cpu))
    return max(min([len(cores), _cpu_quota(), *_limits]), 1)


@contextlib.contextmanager
def limited_cores(most: int) -> Iterator[None]:
    """Inside the block `usable_cores` counts `most` at most, so that processes beside this one have theirs."""
    _limits.append(most)
    try:
        yield
    finally:
        _limits.remove(most)


def _cpu_quota() -> int:
    """Whole processors that the container may use (`docker run --cpus`); without a limit, a huge number."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return int(quota) // int(period)
    except (OSError, ValueError):  # no limit ("max"), or control groups of version 1
        return 1 << 16
