"""Memory that the process has, and does not use."""

import ctypes
from collections.abc import Callable


def give_back() -> None:
    """Let the system have what is free inside of the C library's memory, as far as it can: glibc does, others do not.

    Photos of the last verdicts come and go, of many sizes, in the arenas of many threads. What is free between them
    grows for days, though nothing leaks. It takes some 15 ms.
    """
    if (trim := _trim()) is not None:
        trim(0)


def _trim() -> Callable[[int], object] | None:
    try:
        found: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # TypeError: Windows has no library of that kind
        return None
    return found
