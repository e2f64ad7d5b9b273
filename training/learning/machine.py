"""What a training runs on: device, precision, processes, memory."""

import contextlib
import ctypes
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import nn

from rstpm_edge.errors import TrainingError, UsageError
from rstpm_edge.progress import Report

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
SMALLER = "train with a smaller `size`, or with `device=cpu`"  # where memory ends before the training begins


@dataclass(frozen=True)
class Machine:
    """Where to train: Fabric's accelerator, precision (`PRECISIONS`), and how many processes share each batch.

    Precision "auto" is "bf16-mixed" on a CPU with bfloat16 instructions, where a step then takes half the time at the
    same AUROC, and "32-true" elsewhere.
    """

    device: str = "auto"
    precision: str = "auto"
    processes: int = 1


def of_one_process(fabric: Fabric, report: Report) -> Report:
    """One voice is enough."""
    return report if fabric.is_global_zero else lambda progress: None


def is_first_process() -> bool:
    """Whether this process is the only one of a training, or the one that speaks for all."""
    return not dist.is_initialized() or dist.get_rank() == 0


def check_machine(machine: Machine) -> str:
    """The name of its device. Raises UsageError for a machine that is not there, or that no training can use."""
    device = _checked_device(machine.device)
    if machine.precision not in PRECISIONS:
        raise UsageError(f"`precision` is one of {', '.join(PRECISIONS)}, not {machine.precision!r}.")
    if machine.processes < 1:
        raise UsageError(f"`processes` must be at least 1, not {machine.processes}.")
    return device


def launch(machine: Machine) -> Fabric:
    device = check_machine(machine)
    strategy = "ddp" if machine.processes > 1 else "auto"
    precision = _auto_precision(device) if machine.precision == "auto" else machine.precision
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells which precision was asked for
    try:
        fabric = Fabric(
            accelerator=device,
            devices=machine.processes,
            strategy=strategy,
            precision=precision,  # type: ignore[arg-type]
        )
    except (ValueError, RuntimeError, TypeError) as error:
        raise UsageError(
            f"Cannot train on {machine.device!r} with `precision={precision}` and `processes={machine.processes}` "
            f"({error}); try `device=cpu`."
        ) from error
    if machine.processes > 1 and fabric.device.type == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // machine.processes))
    fabric.launch()
    return fabric


def _checked_device(device: str) -> str:
    """The device in lower case. Raises UsageError for others than ours, and for a GPU that is not there."""
    name = device.strip().lower()
    if name not in DEVICES:
        gpu = " An NVIDIA GPU is called cuda." if name in ("gpu", "mps", "nvidia", "tpu") or name.isdecimal() else ""
        raise UsageError(f"Cannot train on {device!r}: the device is one of {', '.join(DEVICES)}.{gpu}")
    if name == "cuda" and not torch.cuda.is_available():
        why = "there is no NVIDIA GPU here that it can use" if torch.version.cuda else "it was built for the CPU alone"
        raise UsageError(f"Cannot train on {name!r} (PyTorch says that {why}); try `device=cpu`.")
    return name


def _auto_precision(device: str) -> str:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        flags = ""
    native = "avx512_bf16" in flags or "amx_bf16" in flags
    on_cpu = device == "cpu" or (device == "auto" and not torch.cuda.is_available())
    return "bf16-mixed" if native and on_cpu else "32-true"


def tune(fabric: Fabric, students: nn.Module) -> None:
    """What makes the students' steps fast on this machine and changes nothing else: layout of weights, kept memory."""
    students.to(memory_format=torch.channels_last)
    if fabric.device.type == "cpu":
        _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Let the C library keep what a step frees; by default the kernel gets it back and every step faults it in again.

    That takes a tenth to a half of the time on small boxes. glibc only: elsewhere nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    m_trim_threshold, m_mmap_max = -1, -4  # malloc.h
    mallopt(m_mmap_max, 0)
    mallopt(m_trim_threshold, (1 << 31) - 1)


@contextlib.contextmanager
def enough_memory(fabric: Fabric, otherwise: str) -> Iterator[None]:
    """Raises TrainingError, with `otherwise` for what to do, where the accelerator's memory is too small."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(f"The memory of {fabric.device} is too small; {otherwise}.") from error
