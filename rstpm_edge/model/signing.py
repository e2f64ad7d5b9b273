"""Signing a model file."""

from dataclasses import dataclass
from pathlib import Path

from rstpm_edge.atomic_files import write_bytes
from rstpm_edge.model.keys import PrivateKey
from rstpm_edge.model.model_file import opened
from rstpm_edge.model.signature import signature_file, signed


@dataclass(frozen=True)
class Signature:
    """Where a signature was written, and the SHA-256, in hexadecimal, of the model file that it is of."""

    file: Path
    sha256: str


def sign_model(model: Path, key: PrivateKey) -> Signature:
    """Write the signature beside the model, whole or not at all; an older one is replaced.

    Raises ModelError for a file that is no model of ours, and OutputError.
    """
    with opened(model) as found:
        file = signature_file(model)
        content = signed(file.stem, found.sha256, key)
    write_bytes(file, content)
    return Signature(file, found.sha256)
