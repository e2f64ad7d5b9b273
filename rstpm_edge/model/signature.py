"""The signature of a model file, which lies beside it: MODEL.sig.

It is what OpenSSF Model Signing writes of one file with an elliptic key, and reads: a Sigstore bundle without
certificates or a log, whose DSSE envelope holds an in-toto statement with the file's SHA-256. So a signature can be
checked by `model_signing verify key`, and one that it made can be checked here. Neither needs a network.

https://github.com/secure-systems-lab/dsse, https://github.com/sigstore/model-transparency
"""

import base64
import binascii
import json
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from rstpm_edge import document as read
from rstpm_edge.errors import SignatureError
from rstpm_edge.model.keys import PrivateKey, PublicKey
from rstpm_edge.model.small_file import read_small

ENDING = ".sig"

_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
_ITSELF = "."  # the name of the file in a manifest of it alone
_LARGEST = 1_000_000  # bytes of a signature's file; 1,400 are usual


def signature_file(model: Path) -> Path:
    """Where the signature of a model lies. Of a link, it lies beside the file that the link leads to."""
    target = Path(os.path.realpath(model)) if model.is_symlink() else model
    return target.with_name(target.name + ENDING)


def signed(name: str, digest: str, key: PrivateKey) -> bytes:
    """The content of the signature's file, for a model file of this name and SHA-256 (hexadecimal)."""
    payload = json.dumps(_statement(name, digest), indent=2).encode()
    bundle = {
        "mediaType": _BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": key.public.hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": _PAYLOAD,
            "signatures": [{"sig": base64.b64encode(key.sign(_to_sign(payload))).decode(), "keyid": ""}],
        },
    }
    return (json.dumps(bundle) + "\n").encode()


def check_signature(model: Path, digest: str, key: PublicKey) -> None:
    """Check that `key` signed the model file of this SHA-256, by the signature beside `model`.

    Raises SignatureError where there is none, where it cannot be read, or is that of another key or another file.
    """
    file = signature_file(model)
    content = _content(model, file)
    try:
        hint, signature, payload = _opened(content)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise _damaged(file, error) from error
    if hint is not None and hint != key.hint:
        raise SignatureError(f"The model {model} was signed with another key than {key.path}.")
    if not key.holds(signature, _to_sign(payload)):
        raise SignatureError(
            f"The signature {file} is not one of the key {key.path}: it is damaged or forged; sign the model again."
        )
    try:
        found = _digest(payload)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise _damaged(file, error) from error
    if found != digest:
        raise SignatureError(
            f"The model {model} is not the file that was signed: it or {file} was changed or exchanged since; copy "
            "both again, or sign the model again."
        )


def _statement(name: str, digest: str) -> Mapping[str, Any]:
    """Of in-toto: its subject stands for all files of a model, of which there is one."""
    return {
        "_type": _STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": sha256(bytes.fromhex(digest)).hexdigest()}}],
        "predicateType": _PREDICATE,
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": []},
            "resources": [{"name": _ITSELF, "algorithm": "sha256", "digest": digest}],
        },
    }


def _to_sign(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD), _PAYLOAD.encode(), len(payload), payload)


def _opened(content: bytes) -> tuple[str | None, bytes, bytes]:
    """The hint to the key, the signature and the payload, none of which is to be trusted yet. Raises ValueError."""
    bundle = _object(read.load(content.decode()), "it")
    if bundle.get("mediaType") != _BUNDLE:
        raise ValueError("it is no Sigstore bundle of version 0.3")
    envelope = _object(bundle.get("dsseEnvelope"), "its envelope")
    if envelope.get("payloadType") != _PAYLOAD:
        raise ValueError("it holds no in-toto statement")
    signatures = envelope.get("signatures")
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise ValueError("it holds none or several signatures")
    material = _object(bundle.get("verificationMaterial"), "its verification material")
    if "publicKey" not in material:
        raise ValueError("it was not made with a key, but with a certificate")
    hint = _object(material["publicKey"], "its public key").get("hint")
    if hint is not None and not isinstance(hint, str):
        raise ValueError("its hint to a key is no text")
    signature = _decoded(_object(signatures[0], "its signature").get("sig"))
    return hint, signature, _decoded(envelope.get("payload"))


def _digest(payload: bytes) -> str:
    """The SHA-256 that a signed statement vouches for. Raises ValueError for a statement of anything but one file."""
    statement = _object(read.load(payload.decode()), "its statement")
    if statement.get("_type") != _STATEMENT or statement.get("predicateType") != _PREDICATE:
        raise ValueError("its statement is none of OpenSSF Model Signing 1.0")
    predicate = _object(statement.get("predicate"), "its predicate")
    serialization = _object(predicate.get("serialization"), "its serialization")
    resources = predicate.get("resources")
    if not isinstance(resources, list) or len(resources) != 1:
        raise ValueError("it signs a folder of files, not one file")
    resource = _object(resources[0], "its resource")
    if serialization.get("method") != "files" or resource.get("name") != _ITSELF:
        raise ValueError("it signs a folder or parts of a file, not one file")
    digest = resource.get("digest")
    if resource.get("algorithm") != "sha256" or not isinstance(digest, str):
        raise ValueError("it has no SHA-256 of the file")
    return digest


def _decoded(value: Any) -> bytes:
    if not isinstance(value, str):
        raise ValueError("a part of it is no text")
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError("a part of it is no base64") from error


def _object(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} is no object")
    return value


def _damaged(file: Path, error: Exception) -> SignatureError:
    why = str(error) if type(error) is ValueError else "it is no JSON"  # what Python says of bytes may be long
    return SignatureError(
        f"The signature {file} is damaged, or none of OpenSSF Model Signing ({why}): sign the model again."
    )


def _content(model: Path, file: Path) -> bytes:
    try:
        return read_small(file, _LARGEST)
    except FileNotFoundError as error:
        raise SignatureError(
            f"The model {model} is not signed: there is no {file}; `rstpm-edge sign` makes it, and it is copied with "
            "the model."
        ) from error
    except OSError as error:
        raise SignatureError(f"Cannot read the signature {file}: {error.strerror or error}.") from error
