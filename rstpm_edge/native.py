"""The C++ extension, or a clear word where it is missing."""

try:
    from rstpm_edge import _native
except ImportError as error:
    raise ImportError("the C++ extension of rstpm_edge is not built: run `pip install .` (or `make build`)") from error

__all__ = ["_native"]
