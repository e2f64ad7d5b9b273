"""Runs one target, led by coverage where atheris is there; `tools/fuzz.py` starts it.

    python tests/fuzz/fuzz_child.py TARGET CORPUS FAILURES SECONDS
    python tests/fuzz/fuzz_child.py TARGET --input FILE      one case again, with what it raises

FAILURES/cases keeps the number of cases so far, and FAILURES/current the case that runs.
"""

from __future__ import annotations

import ctypes
import faulthandler
import hashlib
import mmap
import signal
import struct
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuzz_targets

MOST_SECONDS = 20.0  # of the processor, for a case: other programs may hold it for as long as they like
HANGS = 600  # seconds after which a case that does not even compute is given up
MOST_MEMORY = 4000  # MiB: an image of 268 megapixels takes most of it, and is taken


def main() -> None:
    name, *rest = sys.argv[1:]
    warnings.simplefilter("error")
    _abort_on_time()
    if rest[0] == "--input":
        _timed(fuzz_targets.target(name).check, Path(rest[1]).read_bytes())
        return
    corpus, failures = Path(rest[0]), Path(rest[1])
    seconds = float(rest[2])
    try:
        import atheris
    except ImportError:
        _mutated(fuzz_targets.target(name), failures, seconds)
        return
    with atheris.instrument_imports(include=["rstpm_edge"]):
        target = fuzz_targets.target(name)
    for seed in target.seeds():
        (corpus / f"seed-{hashlib.sha1(seed).hexdigest()[:12]}").write_bytes(seed)
    options = [f"-max_total_time={max(1, round(seconds))}", f"-timeout={HANGS}", f"-rss_limit_mb={MOST_MEMORY}"]
    options += [
        f"-max_len={fuzz_targets.LONGEST}",
        f"-artifact_prefix={failures}/",
        "-print_final_stats=1",
        "-report_slow_units=60",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], _counting(target.check, failures))
    atheris.Fuzz()


def _abort_on_time() -> None:
    """Let the timer of `_timed` end the process as a crash does, also in the midst of C: libFuzzer keeps the case."""
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal(signal.SIGPROF, ctypes.cast(libc.abort, ctypes.c_void_p))


def _timed(check: Callable[[bytes], bool], data: bytes) -> bool:
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    try:
        return check(data)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _counting(check: Callable[[bytes], bool], failures: Path) -> Callable[[bytes], None]:
    """`check` with a count of the cases, which outlives a crash."""
    path = failures / "cases"
    path.write_bytes(bytes(8))
    with open(path, "r+b") as file:
        memory = mmap.mmap(file.fileno(), 8)
    count = 0

    def one(data: bytes) -> None:
        nonlocal count
        count += _timed(check, data)
        struct.pack_into("<q", memory, 0, count)

    return one


def _mutated(target: Any, failures: Path, seconds: float) -> None:
    """Cases near the seeds, without any coverage to lead."""
    faulthandler.enable()
    one, current = _counting(target.check, failures), failures / "current"
    end = time.monotonic() + seconds
    for case in fuzz_targets.mutations(target.seeds(), time.time_ns()):
        current.write_bytes(case)
        faulthandler.dump_traceback_later(HANGS, exit=True)
        one(case)
        if time.monotonic() > end:
            break
    faulthandler.cancel_dump_traceback_later()
    current.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
