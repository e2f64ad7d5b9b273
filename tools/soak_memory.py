"""What `soak.py` measures of a process that runs for long, and whether that grows."""

from __future__ import annotations

import ctypes
import math
import os
import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np
from numpy.typing import NDArray

PER = 100_000  # images that a slope is told for
WARM_UP = 0.25  # of a stage

_TOTAL = re.compile(r'<total type="(\w+)" count="\d+" size="(\d+)"')
_SYSTEM = re.compile(r'<system type="current" size="(\d+)"')


@dataclass(frozen=True)
class Sample:
    """What the process held at a moment."""

    stage: str
    seconds: float
    images: int
    swaps: int
    rss: float  # MB, of 10^6 bytes
    heap: float  # MB that the process has asked for and not freed, whatever the allocator keeps beside it
    files: int
    threads: int


class SampleTable:
    """At most so many samples of a stage, in memory that is all taken at the start: of the process that is measured, a
    list of them takes 0.4 MB in a quarter of an hour, which looks like a leak where few images are judged."""

    def __init__(self, stage: str, most: int) -> None:
        self._stage, self._count = stage, 0
        self._rows = np.full((most, len(fields(Sample)) - 1), np.nan)  # all columns but the stage; touched

    def add(self, sample: Sample) -> None:
        """Keep one."""
        self._rows[self._count] = astuple(sample)[1:]
        self._count += 1

    def samples(self) -> list[Sample]:
        """All, in their order."""
        return [
            Sample(self._stage, seconds, int(images), int(swaps), rss, heap, int(files), int(threads))
            for seconds, images, swaps, rss, heap, files, threads in self._rows[: self._count].tolist()
        ]


@dataclass(frozen=True)
class Slope:
    """MB per 100,000 images: of the least-squares line, with one standard error, as if samples were independent.

    Where no image was judged between the samples, that says nothing: 0, with an infinite error.
    """

    value: float
    error: float


@dataclass(frozen=True)
class Trend:
    """What became of a stage after its warm-up: its first and last sample, and slopes."""

    first: Sample
    last: Sample
    files: tuple[int, int]  # the fewest at the beginning and at the end
    threads: tuple[int, int]
    rss: Slope
    heap: Slope

    def grows(self, limit: float) -> bool:
        """Whether it leaks: what is in use, and the process with it, beyond `limit`, or files or threads at all.

        What is freed stays with the allocator in part, and how much jumps by megabytes where models come and go.
        """
        leaks = min(self.rss.value, self.heap.value) > limit
        return leaks or self.files[1] > self.files[0] or self.threads[1] > self.threads[0]


def trend(samples: Sequence[Sample]) -> Trend:
    """The trend of the samples of one stage, in their order, of which three or more come after the warm-up."""
    settled = list(samples[int(len(samples) * WARM_UP) :])
    images = np.array([sample.images for sample in settled]) / PER
    third = max(1, len(settled) // 3)
    files, alive = (
        (min(values[:third]), min(values[-third:]))
        for values in ([sample.files for sample in settled], [sample.threads for sample in settled])
    )
    rss, heap = (
        _slope(images, np.array(values))
        for values in ([sample.rss for sample in settled], [sample.heap for sample in settled])
    )
    return Trend(settled[0], settled[-1], files, alive, rss, heap)


def _slope(images: NDArray[np.float64], values: NDArray[np.float64]) -> Slope:
    if images.min() == images.max():
        return Slope(0.0, math.inf)
    centred = images - images.mean()
    spread = float((centred**2).sum())
    slope = float((centred * values).sum() / spread)
    residual = values - values.mean() - slope * centred
    return Slope(slope, float(np.sqrt((residual**2).sum() / max(len(values) - 2, 1) / spread)))


def resident() -> float:
    """The resident set, in MB."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def in_use() -> float:
    """MB that glibc's malloc has given and not got back; the resident set where there is another libc.

    With PYTHONMALLOC=malloc that is all memory but what is mapped.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_info"):
        return resident()
    text, size = ctypes.c_char_p(), ctypes.c_size_t()
    libc.open_memstream.restype = ctypes.c_void_p
    stream = ctypes.c_void_p(libc.open_memstream(ctypes.byref(text), ctypes.byref(size)))
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    report = (text.value or b"").decode()
    libc.free(text)
    of_all = report[report.rindex("</heap>") :]
    totals = {kind: int(bytes_) for kind, bytes_ in _TOTAL.findall(of_all)}
    (system,) = _SYSTEM.findall(of_all)
    return (int(system) - totals["fast"] - totals["rest"] + totals["mmap"]) / 1e6
