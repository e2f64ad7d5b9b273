"""A model file, looked at before a runtime gets it: what was looked at is what runs."""

import contextlib
import mmap
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rstpm_edge.bundle import CHECKSUM_KEY, METADATA_KEY
from rstpm_edge.errors import ModelError
from rstpm_edge.wire import graph_and_metadata, uses_external_data


@dataclass(frozen=True)
class ModelFile:
    """A model file while it is open.

    `source` is what a runtime loads: a name that no other file can take, or the bytes. `document` is the JSON that
    `export` left in it.
    """

    path: Path
    source: str | bytes
    document: str


@contextlib.contextmanager
def opened(path: Path) -> Iterator[ModelFile]:
    """Open a model file for the block, in which a runtime loads it.

    Raises ModelError when it is missing, unreadable, damaged, not exported by rstpm-edge, or keeps weights in a
    second file; after the block, when the file was written to in the meantime.
    """
    if path.is_dir():
        raise ModelError(f"The model {path} is a folder; name the .onnx file itself.")
    try:
        with open(path, "rb") as file:
            before = os.fstat(file.fileno())
            document = _document(path, _content(file, before.st_size))
            # A runtime reads the file itself: given its bytes, it would hold it twice.
            source: str | bytes = f"/proc/self/fd/{file.fileno()}"
            if not os.path.exists(source):
                file.seek(0)
                source = file.read()
            yield ModelFile(path, source, document)
            after = os.fstat(file.fileno())
    except FileNotFoundError as error:
        raise ModelError(f"There is no model file {path}; `rstpm-edge export` makes one.") from error
    except OSError as error:
        raise ModelError(f"Cannot read the model {path}: {error.strerror or error}.") from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise ModelError(f"The model {path} was written to while it was being loaded; load it again.")


def _document(path: Path, content: bytes | mmap.mmap) -> str:
    if uses_external_data(content):
        # A runtime would open that file, whatever it is.
        raise ModelError(f"The model {path} keeps weights in a second file; export it again as one file.")
    try:
        graph, metadata = graph_and_metadata(content)
    except ValueError as error:
        raise ModelError(f"The model {path} is damaged, or not an ONNX file: {error}.") from error
    document = metadata.get(METADATA_KEY)
    if document is None:
        raise ModelError(f"The model {path} was not exported by rstpm-edge.")
    # Files from before have none. Nobody else notices a weight or a threshold that a worn memory card has changed.
    if CHECKSUM_KEY in metadata and metadata[CHECKSUM_KEY] != checksum(graph, document):
        raise ModelError(f"The model {path} has been changed since it was exported, or is damaged: copy it again.")
    return document


def checksum(graph: bytes | memoryview, document: str) -> str:
    """What `export` leaves under `CHECKSUM_KEY`: CRC-32 over the graph's bytes and the document, in hexadecimal."""
    return f"{zlib.crc32(document.encode(), zlib.crc32(graph)):08x}"


def _content(file: BinaryIO, size: int) -> bytes | mmap.mmap:
    """The whole file, in memory that goes back to the system at once, as that of `bytes` does not: the allocator
    takes a large block that is freed for a sign of more to come, and from then on holds on to some."""
    if size == 0:
        return file.read()
    content = mmap.mmap(-1, size)  # not of the file: one that is cut short meanwhile would end the process
    file.readinto(content)  # type: ignore[attr-defined]
    return content
