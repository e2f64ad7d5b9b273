"""Free memory goes back to the system while the server runs."""

from __future__ import annotations

import asyncio
import ctypes
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from rstpm_edge.station import memory, serve

KEPT = """
import ctypes, ctypes.util
from pathlib import Path
from rstpm_edge.station.memory import give_back

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes, c.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
blocks = [c.malloc(60_000) for _ in range(1000)]
for block in blocks:
    ctypes.memset(block, 1, 60_000)
for block in blocks[:-1]:  # the last one keeps the arena's end where it is
    c.free(block)
before = resident()
give_back()
print(before - resident())
"""


def test_what_lies_free_below_a_block_in_use_goes_back() -> None:
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("this C library has no malloc_trim")
    found = subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True, check=True)
    assert float(found.stdout) > 40  # of 60 MB


@pytest.mark.parametrize("library", [SimpleNamespace(), OSError("no library"), TypeError("none on Windows")])
def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch, library: Any) -> None:
    def load(name: None) -> Any:
        if isinstance(library, Exception):
            raise library
        return library

    monkeypatch.setattr(memory.ctypes, "CDLL", load)
    memory.give_back()


def test_the_server_gives_back_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[None] = []
    monkeypatch.setattr(serve, "give_back", lambda: given.append(None))

    async def no_tick(self: object, counter: int) -> bool:
        return False

    monkeypatch.setattr(serve.uvicorn.Server, "on_tick", no_tick)
    server = object.__new__(serve._Server)
    server._ready, server._tick = lambda: None, lambda: False

    async def minutes() -> None:
        for counter in range(1800):
            await server.on_tick(counter)

    asyncio.run(minutes())
    assert len(given) == 3
