"""A model file, looked at before a runtime gets it: what was looked at is what runs."""

import contextlib
import hashlib
import mmap
import os
import stat
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from rstpm_edge.errors import ModelError
from rstpm_edge.model.metadata import (
    CHECKSUM_KEY,
    FILE_CHECKSUM_KEY,
    GOLDENS_CHECKSUM_KEY,
    GOLDENS_KEY,
    METADATA_KEY,
    RECALIBRATIONS_CHECKSUM_KEY,
    RECALIBRATIONS_KEY,
)
from rstpm_edge.model.onnx_check import check_onnx
from rstpm_edge.model.onnx_file import OnnxFile, split_onnx
from rstpm_edge.model.onnx_schema import ForeignError
from rstpm_edge.model.read_metadata import check_version

if TYPE_CHECKING:
    from rstpm_edge.model.keys import PublicKey

_LARGEST = (1 << 31) - 1  # bytes; no protobuf message is larger
_LONGEST = 1 << 25  # bytes of the document
# What stands beside the document, and its checksum.
_BESIDE = ((GOLDENS_KEY, GOLDENS_CHECKSUM_KEY), (RECALIBRATIONS_KEY, RECALIBRATIONS_CHECKSUM_KEY))


@dataclass(frozen=True)
class ModelFile:
    """A model file while it is open.

    `source` is what a runtime loads: a name that no other file can take, or the bytes. `document` is the JSON that
    `export` left in it; `goldens` is that of `rstpm_edge.model.goldens`, and `recalibrations` that of
    `rstpm_edge.model.recalibrations`, or None. `sha256` is that of all of the file, in hexadecimal.
    """

    path: Path
    source: str | bytes
    document: str
    goldens: str | None
    recalibrations: str | None
    sha256: str


@contextlib.contextmanager
def opened(path: Path, public_key: "PublicKey | None" = None) -> Iterator[ModelFile]:
    """Open a model file for the block, in which a runtime loads it.

    With a `public_key`, the file must be signed with the other half of it. That is looked at before anything in the
    file is, and the bytes that were verified are those that are loaded: nobody can write to them meanwhile.

    Raises SignatureError for a signature that does not hold; ModelError when the file is missing, unreadable, no
    regular file, damaged, not exported by rstpm-edge, newer than this package, or not self-contained; after the block,
    when it was written to in the meantime.
    """
    if "\0" in str(path):
        raise ModelError(f"There is no model file {str(path)!a}; `rstpm-edge export` makes one.")
    if path.is_dir():
        raise ModelError(f"The model {path} is a folder; name the .onnx file itself.")
    try:
        # Of a pipe that nobody writes to, opening alone would wait for ever.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise ModelError(f"The model {path} is a pipe or a device; name the .onnx file itself.")
            if before.st_size > _LARGEST:
                raise ModelError(f"The model {path} is damaged, or not an ONNX file: it is larger than 2 GB.")
            # A runtime reads the file itself: given its bytes, it would hold it twice.
            source: str | bytes = f"/proc/self/fd/{file.fileno()}"
            if public_key is not None or not os.path.exists(source):
                source = file.read(before.st_size)
                sha256 = hashlib.sha256(source).hexdigest()
                if public_key is not None:
                    from rstpm_edge.model.signature import check_signature

                    check_signature(path, sha256, public_key)
                metadata = _look(path, source)
            else:
                content = _content(path, file, before.st_size)
                sha256 = hashlib.sha256(content).hexdigest()
                metadata = _look(path, content)
                del content
            goldens, recalibrations = map(metadata.get, (GOLDENS_KEY, RECALIBRATIONS_KEY))
            yield ModelFile(path, source, metadata[METADATA_KEY], goldens, recalibrations, sha256)
            after = os.fstat(file.fileno())
    except FileNotFoundError as error:
        raise ModelError(f"There is no model file {path}; `rstpm-edge export` makes one.") from error
    except OSError as error:
        raise ModelError(f"Cannot read the model {path}: {error.strerror or error}.") from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise ModelError(f"The model {path} was written to while it was being loaded; load it again.")


def stamps(model: bytes, document: str) -> dict[str, str]:
    """The metadata by which a file's damage is noticed: what `export` leaves in it, beside the document.

    `model` is the ONNX file, with any metadata or none.
    """
    file = split_onnx(model)
    return {CHECKSUM_KEY: checksum([file.graph], document), FILE_CHECKSUM_KEY: checksum(file.stamped, document)}


def recalibration_entries(recalibrations: str) -> dict[str, str]:
    """The metadata of a model file with this history of calibrations."""
    return {RECALIBRATIONS_KEY: recalibrations, RECALIBRATIONS_CHECKSUM_KEY: checksum([], recalibrations)}


def golden_entries(goldens: str) -> dict[str, str]:
    """The metadata of a model file with these goldens."""
    return {GOLDENS_KEY: goldens, GOLDENS_CHECKSUM_KEY: checksum([], goldens)}


def checksum(parts: Iterator[memoryview] | tuple[memoryview, ...] | list[memoryview], document: str) -> str:
    """CRC-32 over bytes of the file and the document, in hexadecimal."""
    value = 0
    for part in parts:
        value = zlib.crc32(part, value)
    return f"{zlib.crc32(document.encode(), value):08x}"


def _look(path: Path, content: bytes | mmap.mmap) -> Mapping[str, str]:
    """The file's metadata: the document among them, and what fits the checksums."""
    try:
        file = split_onnx(content)
    except ValueError as error:
        raise ModelError(f"The model {path} is damaged, or not an ONNX file: {error}.") from error
    document = file.metadata.get(METADATA_KEY)
    if document is None:
        raise ModelError(f"The model {path} was not exported by rstpm-edge.")
    if len(document) > _LONGEST:
        raise ModelError(f"The model {path} is damaged: its rstpm_edge metadata is larger than any.")
    check_version(document)  # of what follows, a newer file may have more than is known here
    _check_sum(path, file, document)
    try:
        check_onnx(file)
    except ForeignError as error:
        raise ModelError(f"The model {path} is none that rstpm-edge exports: {error}; export it again.") from error
    except ValueError as error:
        raise ModelError(f"The model {path} is damaged, or not an ONNX file: {error}.") from error
    return file.metadata


def _check_sum(path: Path, file: OnnxFile, document: str) -> None:
    """Compare the sum over all of the file but the metadata, and the document, as it is now, with the one at export.

    Nobody else notices a weight or a threshold that a worn memory card has changed. Files from before have the sum of
    the graph only, or none.
    """
    found = checksum(file.stamped, document)
    stamped: Mapping[str, str] = file.metadata
    older = CHECKSUM_KEY in stamped and FILE_CHECKSUM_KEY not in stamped
    if (
        stamped.get(FILE_CHECKSUM_KEY, found) != found
        or (older and stamped[CHECKSUM_KEY] != checksum([file.graph], document))
        or any(key in stamped and stamped.get(sum_key) != checksum([], stamped[key]) for key, sum_key in _BESIDE)
    ):
        raise ModelError(f"The model {path} has been changed since it was exported, or is damaged: copy it again.")


def _content(path: Path, file: BinaryIO, size: int) -> bytes | mmap.mmap:
    """The whole file, in memory that goes back to the system at once, as that of `bytes` does not: the allocator
    takes a large block that is freed for a sign of more to come, and from then on holds on to some."""
    if size == 0:
        return file.read()
    content = mmap.mmap(-1, size)  # not of the file: one that is cut short meanwhile would end the process
    view = memoryview(content)
    done = 0
    while done < size and (got := file.readinto(view[done:])):  # type: ignore[attr-defined]
        done += got
    if done < size:
        raise ModelError(f"The model {path} was written to while it was being loaded; load it again.")
    return content
