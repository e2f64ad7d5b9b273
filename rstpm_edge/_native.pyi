from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

INTERFACE: int  # goes up with any change of this file, in csrc/python/module.cpp and native.py

def available_kernels() -> tuple[str, ...]: ...
def default_kernel() -> str: ...
def resize(
    image: NDArray[np.uint8], out: NDArray[np.uint8], bgr: bool, threads: int = 1, kernel: str | None = None
) -> str: ...
def listen_to_ffmpeg(path: str) -> bool: ...
def complaints_in_thread() -> int: ...
def complaints_in_process() -> int: ...
def lzw_length(data: bytes | memoryview, most: int) -> int: ...
def packbits_length(data: bytes | memoryview, most: int) -> int: ...
def scan_end(data: bytes | memoryview, at: int) -> int: ...
def is_whole_scan(
    data: bytes | memoryview,
    components: Sequence[tuple[int, tuple[bytes, bytes], tuple[bytes, bytes], int]],
    units: int,
    restart_interval: int,
    only_dc: bool = False,
    refines: bool = False,
) -> bool: ...

class ProgressiveComponent:
    def __init__(self, blocks: int) -> None: ...
    def is_whole_scan(
        self,
        data: bytes | memoryview,
        table: tuple[bytes, bytes],
        first: int,
        last: int,
        refines: bool,
        restart_interval: int,
    ) -> bool: ...

_Statistics: TypeAlias = tuple[str, Sequence[float], Sequence[float], Sequence[float], float]
_CoarseStatistics: TypeAlias = tuple[Sequence[float], Sequence[float], Sequence[float]]

class Scorer:
    def __init__(
        self,
        map_sizes: Sequence[tuple[int, int]],
        size: tuple[int, int],
        fusion: _Statistics,
        head: tuple[float, float, float] | None,
        scoring: tuple[_Statistics, _CoarseStatistics | None, float, float] | None,
        kernel: str | None,
    ) -> None: ...
    def run(
        self,
        outputs: Sequence[NDArray[np.float32]],
        masks: Sequence[NDArray[np.uint8] | None] | None,
        out: NDArray[np.float32] | None,
        threads: int,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32], int]: ...
    @property
    def kernel(self) -> str: ...
    @property
    def last_kernel(self) -> str | None: ...
