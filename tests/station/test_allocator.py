"""Of how many arenas of the C library's allocator the threads of a server take."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from serve_process import ask, served
from watcher import encoded

pytestmark = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="another C library")

# Twelve threads of a server, each of which has got some memory.
THREADS = """
import threading
from rstpm_edge.station.allocator import share_freed_memory

share_freed_memory()
barrier = threading.Barrier(13)
def work():
    block = bytearray(100_000)
    barrier.wait()
    barrier.wait()
for _ in range(12):
    threading.Thread(target=work).start()
barrier.wait()
print(open("/proc/self/maps").read())
barrier.wait()
"""


def arenas_of_threads(environment: Mapping[str, str]) -> int:
    command = [sys.executable, "-c", THREADS]
    environment = {**os.environ, **environment}
    return arenas_in(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def arenas_in(maps: str) -> int:
    """How many arenas there are in the memory that /proc/PID/maps tells of, beside the first one.

    Each begins at a multiple of 64 MB, as hardly anything else does that is of no file and can be written. One that
    follows on other such memory is not seen.
    """
    found = re.findall(r"^([0-9a-f]+)-[0-9a-f]+ rw-p 00000000 00:00 0 *$", maps, re.MULTILINE)
    return sum(int(start, 16) % (64 << 20) == 0 for start in found)


def test_threads_share_one_arena() -> None:
    assert arenas_of_threads({}) == 0


def test_who_has_set_the_allocator_is_left_that() -> None:
    assert arenas_of_threads({"MALLOC_ARENA_MAX": "6"}) > 1


@pytest.mark.extra
def test_a_server_has_one_arena(model: Path, good: NDArray[np.uint8]) -> None:
    with served("--model", model) as (process, address):
        for _ in range(8):
            assert ask(f"{address}/v1/inspect", encoded(good))["verdict"] == "normal"
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        process.send_signal(signal.SIGTERM)
    assert arenas_in(maps) < 2  # a thread that a library started when it was imported may have one; else there are more
