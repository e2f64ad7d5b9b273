"""Keys that sign model files: elliptic ones in PEM files, as OpenSSL and OpenSSF Model Signing take them.

The arithmetic is that of the package cryptography (the extra `sign`), which is imported only when a key is used.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rstpm_edge.atomic_files import write_new
from rstpm_edge.errors import OutputError, UsageError
from rstpm_edge.model.small_file import read_small

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

PRIVATE, PUBLIC = ".key", ".pub"
_LARGEST = 100_000  # bytes of a key's file; some 200 are usual
_LONGEST = 1023  # bytes of a passphrase, the most that OpenSSL takes
_KINDS = "elliptic keys on the curves P-256, P-384 and P-521"
_BEGIN = re.compile(rb"-----BEGIN ([A-Z ]{,40}PRIVATE KEY)-----")
_CURVES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}  # and the hash that goes with each


@dataclass(frozen=True)
class PublicKey:
    """What checks signatures. `path` is the file that it came from, for people."""

    path: Path
    _key: ec.EllipticCurvePublicKey = field(repr=False)

    @property
    def hint(self) -> str:
        """SHA-256 of the key's PEM form, in hexadecimal: by this a signature says which key made it."""
        return sha256(_public_pem(self._key)).hexdigest()

    def holds(self, signature: bytes, message: bytes) -> bool:
        """Whether `signature`, ECDSA in ASN.1 form, is that of `message` by this key."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(signature, message, _ecdsa(self._key.curve))
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class PrivateKey:
    """What makes signatures."""

    path: Path
    _key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def public(self) -> PublicKey:
        """The other half."""
        return PublicKey(self.path, self._key.public_key())

    def sign(self, message: bytes) -> bytes:
        """ECDSA in ASN.1 form, with the hash that goes with the curve."""
        return self._key.sign(message, _ecdsa(self._key.curve))


def make_keys(name: Path, password: bytes | None = None) -> tuple[Path, Path]:
    """Make a pair on P-256: NAME.key, which only its owner may read, and NAME.pub. Gives both paths.

    With a `password`, the private key's file is encrypted. Raises OutputError where one of the two is there already,
    since a key that is overwritten signs nothing any more; UsageError for a name that is none, and without the package
    cryptography.
    """
    serialization, ec = _cryptography()
    if name.name in ("", ".."):
        raise UsageError(f"{name} names a folder, not a pair of keys: put a name behind it.")
    private, public = name.with_name(name.name + PRIVATE), name.with_name(name.name + PUBLIC)
    for path in (private, public):
        if os.path.lexists(path):
            raise OutputError(f"Cannot write {path}: it is there already, and no key is overwritten; name another.")
    key = ec.generate_private_key(ec.SECP256R1())
    encryption = serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    write_new(private, pem, mode=0o600)
    try:
        write_new(public, _public_pem(key.public_key()), mode=0o644)
    except OutputError:
        private.unlink(missing_ok=True)  # half a pair is of no use, and would be in the way of the next
        raise
    return private, public


def load_private_key(path: Path, password: bytes | None = None) -> PrivateKey:
    """Read a private key. Raises UsageError, in one sentence, for a file that holds none that can be used."""
    serialization, ec = _cryptography()
    pem = _read(path)
    pem = _private_block(pem) or pem  # `openssl ecparam -genkey` puts the curve's name before it, as a block of its own
    if b"PRIVATE KEY" not in pem:
        other = " (it is a public one)" if b"PUBLIC KEY" in pem else ""
        raise UsageError(f"{path} holds no private key in PEM form{other}: give the {PRIVATE} file of a pair.")
    encrypted = b"ENCRYPTED" in pem
    if encrypted and password is None:
        raise UsageError(f"The key {path} is encrypted: give the file with its passphrase, `password_file`.")
    if password is not None and not encrypted:
        raise UsageError(f"The key {path} is not encrypted: leave `password_file` out.")
    try:
        key = serialization.load_pem_private_key(pem, password)
    except Exception as error:  # ValueError, TypeError, UnsupportedAlgorithm, by what is wrong and by release
        why = "its passphrase is another one, or it is damaged" if encrypted else "it is damaged"
        raise UsageError(f"The key {path} cannot be read: {why}.") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in _CURVES:
        raise UsageError(f"The key {path} is of another kind: models are signed with {_KINDS}.")
    return PrivateKey(path, key)


def _private_block(pem: bytes) -> bytes | None:
    """The first private key in a file, from its first line to its last; None where there is none with both.

    Each end is looked for once, so that a file of nothing but beginnings takes no time.
    """
    begins = list(_BEGIN.finditer(pem))
    kinds = {begin[1] for begin in begins}
    last = {kind: pem.rfind(b"-----END " + kind + b"-----") for kind in kinds}
    for begin in begins:
        if last[begin[1]] >= begin.end():
            end = b"-----END " + begin[1] + b"-----"
            return pem[begin.start() : pem.index(end, begin.end()) + len(end)]
    return None


def as_public_key(key: PublicKey | str | os.PathLike[str]) -> PublicKey:
    """A key, or that in a file. Raises as `load_public_key` does."""
    return key if isinstance(key, PublicKey) else load_public_key(Path(key))


def load_public_key(path: Path) -> PublicKey:
    """Read a public key. Raises UsageError, in one sentence, for a file that holds none that can be used."""
    serialization, ec = _cryptography()
    pem = _read(path)
    if b"PRIVATE KEY" in pem:
        raise UsageError(
            f"{path} holds a private key: give the public one of the pair, its {PUBLIC} file, and keep the private one "
            "where models are signed."
        )
    if b"PUBLIC KEY" not in pem:
        raise UsageError(f"{path} holds no public key in PEM form: give the {PUBLIC} file of a pair.")
    try:
        key = serialization.load_pem_public_key(pem)
    except Exception as error:  # ValueError, UnsupportedAlgorithm, by what is wrong and by release
        raise UsageError(f"The key {path} cannot be read: it is damaged.") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise UsageError(f"The key {path} is of another kind: models are signed with {_KINDS}.")
    return PublicKey(path, key)


def read_password(path: Path) -> bytes:
    """The passphrase in a file, without the line break at its end. Raises UsageError."""
    password = _read(path).rstrip(b"\r\n")
    if not password:
        raise UsageError(f"The file {path} holds no passphrase.")
    if len(password) > _LONGEST:
        raise UsageError(f"The file {path} holds no passphrase: it is longer than {_LONGEST} bytes.")
    return password


def others_may_read(path: Path) -> bool:
    """Whether the file's mode lets anybody but its owner read it."""
    return bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))


def _public_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    serialization, _ = _cryptography()
    pem: bytes = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return pem


def _ecdsa(curve: ec.EllipticCurve) -> ec.ECDSA:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.ECDSA(getattr(hashes, _CURVES[curve.name])())


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as error:
        raise UsageError("Signatures need the package cryptography: pip install cryptography") from error
    return serialization, ec


def _read(path: Path) -> bytes:
    try:
        return read_small(path, _LARGEST)
    except FileNotFoundError as error:
        raise UsageError(f"There is no file {path}; `rstpm-edge keygen` makes a pair of keys.") from error
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror or error}.") from error
