"""The targets by name, and the bytes that a case is made of where no coverage guides."""

from __future__ import annotations

import importlib
import random
from collections.abc import Iterator
from types import ModuleType

# Each module has `seeds`, cases that are right or nearly so, and `check`, which raises where a case breaks something
# and says whether the bytes were a case at all.
TARGETS = {
    "images": "fuzz_images",
    "metadata": "fuzz_metadata",
    "onnx": "fuzz_onnx",
    "documents": "fuzz_documents",
    "arrays": "fuzz_arrays",
    "arguments": "fuzz_arguments",
}
LONGEST = 8192  # bytes of a case
_INTERESTING = (b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0")


def target(name: str) -> ModuleType:
    """The module of a target."""
    return importlib.import_module(TARGETS[name])


def mutations(seeds: list[bytes], seed: int) -> Iterator[bytes]:
    """The seeds, then endlessly many cases near them; the same for the same `seed`."""
    yield from seeds
    rng = random.Random(seed)
    while True:
        case = bytearray(rng.choice(seeds))
        for _ in range(rng.choice((1, 1, 2, 4, 8))):
            _mutate(case, seeds, rng)
        yield bytes(case[:LONGEST])


def _mutate(case: bytearray, seeds: list[bytes], rng: random.Random) -> None:
    at, length = rng.randrange(len(case) + 1), rng.choice((1, 1, 2, 4, 16, 200))
    kind = rng.randrange(7)
    if kind == 0 and case:
        case[min(at, len(case) - 1)] ^= 1 << rng.randrange(8)
    elif kind == 1:
        case[at : at + length] = rng.randbytes(length)
    elif kind == 2:
        del case[at : at + length]
    elif kind == 3:
        case[at:at] = rng.randbytes(length)
    elif kind == 4:
        wanted = rng.choice(_INTERESTING)
        case[at : at + len(wanted)] = wanted
    elif kind == 5:
        other = rng.choice(seeds)
        start = rng.randrange(len(other) + 1)
        case[at:] = other[start:] if rng.random() < 0.5 else other[start : start + length] + bytes(case[at + length :])
    else:
        start = rng.randrange(len(case) + 1)
        case[at:at] = case[start : start + length]
