"""Lines of JSON that hang together: each has the hash of the one before, and its own.

An entry is one line: {"entry":N,"time":…,"event":…,…,"previous":HASH,"hash":HASH}. Its hash is the SHA-256 of the line
without `,"hash":"…"`, and `previous` is that of the entry before, 64 zeros for the first. A file that has grown too
large is renamed to FILE.000001, FILE.000002, …, and the chain goes on in FILE.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

FIRST = "0" * 64
TORN = "torn"  # the event that says of a line before it that it was cut off
LONGEST = 100_000  # bytes of a line
_BEGINNING = b'{"entry":'
_LINE = re.compile(rb'(\{"entry":(\d{1,15}),.*,"previous":"([0-9a-f]{64})"),"hash":"([0-9a-f]{64})"\}', re.DOTALL)


@dataclass(frozen=True)
class Link:
    """A whole line of a chain, whose own hash is right. `hash` and `previous` are hexadecimal."""

    number: int
    previous: str
    hash: str
    fields: Mapping[str, Any]


def link(number: int, previous: str, fields: Mapping[str, Any]) -> tuple[bytes, str]:
    """The line of an entry, with its line break, and its hash. ValueError for one that is too long, NaN or infinity."""
    body = json.dumps(
        {"entry": number, **fields, "previous": previous}, allow_nan=False, separators=(",", ":")
    ).encode()
    digest = sha256(body).hexdigest()
    line = body[:-1] + b',"hash":"%s"}\n' % digest.encode()
    if len(line) > LONGEST:
        raise ValueError("the entry is too long")
    return line, digest


def read_link(line: bytes) -> Link | None:
    """The entry of a line without its line break; None where it is none, or not the one that was written."""
    found = _LINE.fullmatch(line)
    if found is None or sha256(found[1] + b"}").hexdigest() != found[4].decode():
        return None
    try:
        fields = json.loads(found[1] + b"}")
    except (ValueError, RecursionError):
        return None
    return Link(int(found[2]), found[3].decode(), found[4].decode(), fields)


def files_of(path: Path) -> list[Path]:
    """The files of a chain, oldest first: those that were set aside, and `path` where it is there."""
    aside = re.compile(re.escape(path.name) + r"\.\d{6,}")
    try:
        names = [name for name in os.listdir(path.parent) if aside.fullmatch(name)]
    except OSError:
        names = []
    older = sorted((path.with_name(name) for name in names), key=lambda file: int(file.name.rpartition(".")[2]))
    return [*older, path] if path.exists() else older


def next_aside(path: Path) -> Path:
    """The name that `path` gets when it is set aside."""
    numbers = [int(file.name.rpartition(".")[2]) for file in files_of(path) if file != path]
    return path.with_name(f"{path.name}.{max(numbers, default=0) + 1:06d}")


def lines_of(path: Path) -> Iterator[tuple[bytes, bool]]:
    """The lines of a file, and whether each ends in a line break; one that is too long comes in pieces.

    What is written meanwhile is left out: the rest of a line that has been read to its end so far is no line.
    """
    with open(path, "rb") as file:
        left = os.fstat(file.fileno()).st_size
        while line := file.readline(min(LONGEST + 1, left)):
            left -= len(line)
            yield line.removesuffix(b"\n"), line.endswith(b"\n")


def is_torn(line: bytes) -> bool:
    """Whether a line that is no entry may be the beginning of one, cut off, or what a power cut leaves of it."""
    return _BEGINNING.startswith(line[: len(_BEGINNING)]) or not line.strip(b"\0")


def last_link(path: Path) -> tuple[Link | None, list[bytes]]:
    """The last entry of a file, and the lines after it, which are none; the last of these has no line break.

    Where the entry itself lacks its line break, there are none, not even an empty one.
    """
    lines = _tail(path)
    for place in reversed(range(len(lines))):
        found = read_link(lines[place])
        if found is not None:
            return found, lines[place + 1 :]
    return None, lines


def last_of(path: Path, *events: str) -> Mapping[str, Any]:
    """The fields of the last entry of one of these kinds; none where there is none."""
    marks = [f'"event":"{event}"'.encode() for event in events]  # most lines are of other kinds
    for file in reversed(files_of(path)):
        for line in _backwards(file):
            found = read_link(line) if any(mark in line for mark in marks) else None
            if found is not None and found.fields.get("event") in events:
                return found.fields
    return {}


def _backwards(path: Path) -> Iterator[bytes]:
    """The lines of a file, the last one first; of one that is too long, no more than tells that it is."""
    with open(path, "rb") as file:
        end, rest = file.seek(0, os.SEEK_END), b""
        while end > 0:
            start = max(0, end - 4 * LONGEST)
            file.seek(start)
            first, *lines = (file.read(end - start) + rest).split(b"\n")
            yield from reversed(lines)
            end, rest = start, first[: LONGEST + 1]
        yield rest


def _tail(path: Path) -> list[bytes]:
    """The last lines of a file; the first of them may be the end of one."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 4 * LONGEST))
        return file.read().split(b"\n")
