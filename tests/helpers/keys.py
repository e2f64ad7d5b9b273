"""Pairs of keys for tests of signatures, and files that look like keys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rstpm_edge.model.keys import PrivateKey, load_private_key, make_keys


@dataclass(frozen=True)
class Pair:
    """The files of a pair."""

    private: Path
    public: Path

    @property
    def key(self) -> PrivateKey:
        return load_private_key(self.private)


def make_pair(folder: Path, name: str = "release") -> Pair:
    return Pair(*make_keys(folder / name))


def write_pair(folder: Path, kind: str) -> Pair:
    """A pair of another kind: rsa, ed25519, or a curve's name, such as secp521r1."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    key: Any
    if kind == "rsa":
        key = rsa.generate_private_key(65537, 2048)
    elif kind == "ed25519":
        key = ed25519.Ed25519PrivateKey.generate()
    else:
        key = ec.generate_private_key(getattr(ec, kind.upper())())
    pair = Pair(folder / f"{kind}.key", folder / f"{kind}.pub")
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    pair.private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    pair.public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return pair
