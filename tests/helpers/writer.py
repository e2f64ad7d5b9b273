"""A process that writes a file as it is told to, step by step: no test has to be lucky with its pauses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import TracebackType

SCRIPT = """
import mmap, os, sys
path, how = sys.argv[1:]
content = None
file = open(path, "w+b", buffering=0)
for line in sys.stdin:
    word, *numbers = line.split()
    if word == "content":
        content = open(bytes.fromhex(numbers[0]), "rb").read()
    elif word == "reserve":
        if how == "fallocate":
            os.posix_fallocate(file.fileno(), 0, len(content))
        elif how == "zeros":
            file.write(bytes(len(content)))
        else:
            file.truncate(len(content))
        if how == "mmap":
            view = mmap.mmap(file.fileno(), len(content))
            file.close()
    elif word == "write":
        start, end = map(int, numbers)
        if how == "mmap":
            view[start:end] = content[start:end]
        else:
            file.seek(start)
            file.write(content[start:end])
    elif word == "reopen":
        file = open(path, "r+b", buffering=0)
    elif word == "close":
        view.close() if how == "mmap" else file.close()
    print("done", flush=True)
"""


class Writer:
    """Writes `path` in a process of its own: `how` is "ftruncate", "fallocate", "zeros" or "mmap"."""

    def __init__(self, path: Path, content: Path, how: str = "ftruncate") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(path), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self("content", bytes(content).hex())

    def __call__(self, *words: object) -> None:
        """Take a step, and come back when it is done."""
        assert self._process.stdin
        assert self._process.stdout
        print(*words, file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "done\n"

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
