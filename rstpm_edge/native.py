"""The C++ extension, or a clear word where it is missing or stale, and the kernels that it has for this processor."""

from __future__ import annotations

from dataclasses import dataclass

from rstpm_edge.errors import UsageError

try:
    from rstpm_edge import _native
except ImportError as error:
    raise ImportError(
        "The C++ extension of rstpm_edge is not built: run `pip install .` (or `make build`)", name="rstpm_edge._native"
    ) from error

_INTERFACE = 4  # of csrc/python/, as this package calls it
if getattr(_native, "INTERFACE", 0) != _INTERFACE:
    raise ImportError(
        "The C++ extension of rstpm_edge was built from other sources than the package: run `make build`, or install "
        "rstpm-edge again",
        name=_native.__name__,
    )

__all__ = ["Kernels", "_native", "kernels"]


@dataclass(frozen=True)
class Kernels:
    """What this processor can run, slowest first, and what is used unless a kernel is named."""

    available: tuple[str, ...]
    active: str


def kernels() -> Kernels:
    """Which kernels there are. The environment variable RSTPM_EDGE_KERNEL chooses the active one.

    Raises:
        UsageError: RSTPM_EDGE_KERNEL names a kernel that does not exist or does not run on this processor.
    """
    try:
        return Kernels(_native.available_kernels(), _native.default_kernel())
    except ValueError as error:
        raise UsageError(f"{error}.") from error
