"""The log of a product: read as a whole each time, and appended to by one process at a time."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rstpm_edge.errors import ModelError, OutputError
from rstpm_edge.outputs.chain_check import Checked, check_chain
from rstpm_edge.outputs.chain_writer import ForeignLineError, append, chain_end, locked, open_for_appending, who
from rstpm_edge.outputs.hash_chain import Link
from rstpm_edge.registry.product import Product, replay

WAIT = 30.0  # seconds for another process that writes, and takes milliseconds
_POLL = 0.01


@dataclass(frozen=True)
class Logged:
    """What a log holds: the product as it is, all entries, and what was found of the lines."""

    product: Product
    entries: tuple[Mapping[str, Any], ...]
    checked: Checked


def read_log(path: Path, name: str, looked_for: str | None = None) -> Logged:
    """Read the log; `looked_for` is the hash of an entry that must be in it. None is needed: a product without a log
    has no versions.

    What a crash cut off at its end is left out. Raises ModelError where lines were changed, removed or inserted, or say
    what no log says, and for one that cannot be read.
    """
    links: list[Link] = []
    checked = Checked()
    try:
        if path.exists() and path.stat().st_size:
            checked = check_chain(path, looked_for, each=links.append)
    except (OSError, OutputError) as error:
        why = error.strerror or error if isinstance(error, OSError) else error
        raise ModelError(f"Cannot read the log {path}: {why}") from error
    if links and links[0].number != 1:
        checked.fault(f"{path} begins with entry {links[0].number}: what came before is missing.")
    if checked.faults:
        raise ModelError(
            f"The log of {name} was changed: {checked.faults[0]} `rstpm-edge registry check` names all; copy the log "
            "from a backup."
        )
    entries = tuple({**one.fields, "hash": one.hash} for one in links)
    try:
        product = replay(name, entries)
    except ValueError as error:
        raise ModelError(f"The log {path} is damaged, or newer than this rstpm-edge: {error}.") from error
    return Logged(replace(product, entries=len(entries), hash=checked.last_hash), entries, checked)


@dataclass(frozen=True)
class Change:
    """What is appended: an event with its fields, and the product as it is after it."""

    event: str
    fields: Mapping[str, Any]
    product: Product


def write_log(path: Path, name: str, decide: Callable[[Product], Change | None]) -> Product:
    """Append what `decide` makes of the product as it is while nobody else writes; the product after that.

    None changes nothing. Raises what `read_log` and `decide` do, and OutputError where the log cannot be written: it is
    then as it was.
    """
    try:
        with _open(path) as file:
            logged = read_log(path, name)
            change = decide(logged.product)
            if change is None:
                return logged.product
            try:
                end = append(file, chain_end(path), change.event, {**who(), **change.fields})
            except ForeignLineError as error:  # a line without a break that is no entry
                raise ModelError(f"The log {path} is damaged: its last line is none of a log.") from error
            return replace(change.product, entries=end.number, hash=end.hash)
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror or error}.") from error


@contextlib.contextmanager
def _open(path: Path) -> Iterator[int]:
    file = open_for_appending(path)
    try:
        deadline = time.monotonic() + WAIT
        while not locked(file):
            if time.monotonic() > deadline:
                raise OutputError(f"Another process has been writing {path} for {WAIT:.0f} seconds: try again.")
            time.sleep(_POLL)
        yield file
    finally:
        os.close(file)
