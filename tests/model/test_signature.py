"""Signed models: what was signed is loaded, and nothing else, whatever runtime is to load it."""

from __future__ import annotations

import base64
import copy
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import ModelFactory
from forked import in_child
from keys import Pair, make_pair, write_pair
from numpy.typing import NDArray

from rstpm_edge import Detector
from rstpm_edge.errors import ModelError, SignatureError, UsageError
from rstpm_edge.model import model_file
from rstpm_edge.model.onnx_file import OnnxFile
from rstpm_edge.model.signature import signed
from rstpm_edge.model.signing import sign_model

pytestmark = pytest.mark.extra

Image = NDArray[np.uint8]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return make_pair(tmp_path)


@pytest.fixture
def signature(model: Path, pair: Pair) -> Path:
    """That of `model`, by `pair`."""
    return sign_model(model, pair.key).file


@pytest.fixture(params=["cpu", "openvino"])
def provider(request: pytest.FixtureRequest) -> str:
    """The runtimes that read model files themselves."""
    return str(request.param)


def refused(model: Path, pair: Pair, message: str, kind: type[ModelError] = SignatureError, **options: Any) -> None:
    with pytest.raises(kind, match=message) as caught:
        Detector(model, public_key=pair.public, **options)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_a_signed_model_judges(model: Path, pair: Pair, signature: Path, provider: str, bad: Image) -> None:
    assert signature == model.with_name("model.onnx.sig")
    detector = Detector(model, public_key=pair.public, providers=provider)
    assert detector(bad).score == Detector(model, providers=provider)(bad).score


@pytest.mark.parametrize("curve", ["secp384r1", "secp521r1"])
def test_other_curves(curve: str, model: Path, tmp_path: Path) -> None:
    pair = write_pair(tmp_path, curve)
    sign_model(model, pair.key)
    Detector(model, public_key=pair.public)
    model.write_bytes(model.read_bytes() + b"\0")
    refused(model, pair, "is not the file that was signed")


def test_an_unsigned_model(model: Path, pair: Pair, provider: str) -> None:
    message = r"model\.onnx is not signed: there is no .*model\.onnx\.sig; `rstpm-edge sign` makes it"
    refused(model, pair, message, providers=provider)


def test_every_changed_byte_is_noticed_before_anything_reads_it(model: Path, pair: Pair, signature: Path) -> None:
    content = model.read_bytes()
    for place in range(0, len(content), 31):
        model.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        refused(model, pair, "is not the file that was signed")
    for other in (content[:-1], content + b"\0", b"", b"no model at all"):
        model.write_bytes(other)
        refused(model, pair, r"is not the file that was signed: it or .*model\.onnx\.sig was changed or exchanged")


def test_a_signature_of_what_is_no_model_helps_nobody(model: Path, pair: Pair) -> None:
    model.write_bytes(b"no model at all")
    digest = sha256(model.read_bytes()).hexdigest()
    model.with_name("model.onnx.sig").write_bytes(signed("model.onnx", digest, pair.key))
    refused(model, pair, "is damaged, or not an ONNX file", ModelError)
    with pytest.raises(ModelError, match="is damaged, or not an ONNX file"):
        sign_model(model, pair.key)


def test_another_key(model: Path, pair: Pair, signature: Path, tmp_path: Path) -> None:
    refused(model, make_pair(tmp_path, "other"), r"was signed with another key than .*other\.pub")


def test_the_signature_of_another_file(model: Path, model_factory: ModelFactory, pair: Pair) -> None:
    other = model_factory("other.onnx", scale=1.0)
    sign_model(other, pair.key).file.rename(model.with_name("model.onnx.sig"))
    refused(model, pair, "is not the file that was signed")


def test_what_is_signed_anew_is_taken(model: Path, model_factory: ModelFactory, pair: Pair, signature: Path) -> None:
    model_factory("model.onnx", scale=1.0)
    refused(model, pair, "is not the file that was signed")
    sign_model(model, pair.key)
    Detector(model, public_key=pair.public)


def test_a_link_has_the_signature_of_the_file_that_it_leads_to(model: Path, pair: Pair, signature: Path) -> None:
    link = model.parent / "folder" / "current.onnx"
    link.parent.mkdir()
    link.symlink_to(model)
    Detector(link, public_key=pair.public)
    signature.unlink()
    assert sign_model(link, pair.key).file == signature


def changed(signature: Path, change: Callable[[dict[str, Any]], object]) -> None:
    bundle = json.loads(signature.read_text())
    change(bundle)
    signature.write_text(json.dumps(bundle))


def statement(bundle: dict[str, Any], change: Callable[[dict[str, Any]], object], pair: Pair) -> None:
    """Change what is signed, and sign it."""
    found = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    change(found)
    payload = json.dumps(found).encode()
    message = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(payload), payload)
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(pair.key.sign(message)).decode()


def test_a_forged_signature(model: Path, pair: Pair, signature: Path, tmp_path: Path) -> None:
    """It names the right key, and was made with another one."""
    hint = json.loads(signature.read_text())["verificationMaterial"]
    sign_model(model, make_pair(tmp_path, "thief").key)
    changed(signature, lambda bundle: bundle.update(verificationMaterial=hint))
    refused(model, pair, r"is not one of the key .*release\.pub: it is damaged or forged; sign the model again")


def test_a_digest_that_was_exchanged(model: Path, pair: Pair, signature: Path) -> None:
    payload = base64.b64decode(json.loads(signature.read_text())["dsseEnvelope"]["payload"])
    model.write_bytes(model.read_bytes() + b"\0")
    old, new = json.loads(payload)["predicate"]["resources"][0]["digest"], sha256(model.read_bytes()).hexdigest()
    forged = base64.b64encode(payload.replace(old.encode(), new.encode())).decode()
    changed(signature, lambda bundle: bundle["dsseEnvelope"].update(payload=forged))
    refused(model, pair, "it is damaged or forged")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is no JSON"),
        (b"\xff\xfe", "it is no JSON"),
        (b"[" * 100_000, "it is no JSON"),
        (b"[]", "it is no object"),
        (b"{}", "no Sigstore bundle of version 0.3"),
        (b'{"mediaType": 1, "mediaType": 2}', "a name comes twice"),
        (b"x" * 1_000_001, "larger than 1,000,000 bytes"),
    ],
)
def test_a_signature_that_is_none(content: bytes, why: str, model: Path, pair: Pair, signature: Path) -> None:
    signature.write_bytes(content)
    refused(model, pair, f"The signature .* is damaged, or none of .*{why}|Cannot read the signature .*{why}")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda bundle: bundle.pop("dsseEnvelope"), "its envelope is no object"),
        (lambda bundle: bundle["dsseEnvelope"].update(payloadType="text/plain"), "holds no in-toto statement"),
        (lambda bundle: bundle["dsseEnvelope"].update(signatures=[]), "holds none or several signatures"),
        (lambda bundle: bundle["dsseEnvelope"].update(payload="%"), "a part of it is no base64"),
        (lambda bundle: bundle["dsseEnvelope"].update(payload=7), "a part of it is no text"),
        (lambda bundle: bundle["dsseEnvelope"]["signatures"][0].pop("sig"), "a part of it is no text"),
        (lambda bundle: bundle.update(verificationMaterial={"x509CertificateChain": {}}), "but with a certificate"),
        (lambda bundle: bundle["verificationMaterial"]["publicKey"].update(hint=7), "its hint to a key is no text"),
    ],
)
def test_an_envelope_that_is_none(change: Any, why: str, model: Path, pair: Pair, signature: Path) -> None:
    changed(signature, change)
    refused(model, pair, f"The signature .* is damaged, or none of OpenSSF Model Signing .*{why}")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda found: found.update(_type="other"), "none of OpenSSF Model Signing 1.0"),
        (lambda found: found.update(predicateType="https://model_signing/signature/v2.0"), "none of OpenSSF"),
        (lambda found: found["predicate"].update(resources=[]), "a folder of files"),
        (lambda found: found["predicate"]["resources"][0].update(name="model.onnx"), "a folder or parts of a file"),
        (lambda found: found["predicate"]["serialization"].update(method="shards"), "a folder or parts of a file"),
        (lambda found: found["predicate"]["resources"][0].update(algorithm="blake3"), "no SHA-256"),
    ],
)
def test_statements_of_something_else(change: Any, why: str, model: Path, pair: Pair, signature: Path) -> None:
    changed(signature, lambda bundle: statement(bundle, change, pair))
    refused(model, pair, f"The signature .* is damaged, or none of OpenSSF Model Signing .*{why}")


def test_a_signature_without_a_hint_is_looked_at_all_the_same(model: Path, pair: Pair, signature: Path) -> None:
    changed(signature, lambda bundle: bundle["verificationMaterial"]["publicKey"].pop("hint"))
    Detector(model, public_key=pair.public)


def test_a_signature_that_is_no_file(model: Path, pair: Pair) -> None:
    os.mkfifo(model.with_name("model.onnx.sig"))
    refused(model, pair, "Cannot read the signature .*: it is no file")


def test_what_was_verified_is_what_is_loaded(
    provider: str, model: Path, model_factory: ModelFactory, pair: Pair, bad: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody exchanges the file behind the verification, and sets its times back."""
    sign_model(model, pair.key)
    expected = Detector(model, providers=provider)(bad).score
    other = model_factory("other.onnx", scale=1.0).read_bytes()
    assert len(other) == model.stat().st_size
    real = model_file.split_onnx

    def exchange(content: Any) -> OnnxFile:
        times = model.stat()
        with open(model, "r+b") as file:  # the same file, as it was opened
            file.write(other)
        os.utime(model, ns=(times.st_atime_ns, times.st_mtime_ns))
        return real(content)

    monkeypatch.setattr(model_file, "split_onnx", exchange)
    detector = Detector(model, public_key=pair.public, providers=provider)
    assert model.read_bytes() == other
    assert detector(bad).score == expected


def test_pickled_and_forked_detectors_verify_again(
    model: Path,
    pair: Pair,
    signature: Path,
    bad: Image,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    detector = Detector("model.onnx", public_key="release.pub")
    monkeypatch.chdir("/")
    assert pickle.loads(pickle.dumps(detector))(bad).is_anomalous
    assert in_child(lambda: detector(bad)) == 0
    signature.unlink()
    with pytest.raises(SignatureError, match="is not signed"):
        copy.copy(detector)
    assert in_child(lambda: detector(bad)) == 1
    assert "is not signed" in capfd.readouterr().err


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_engines_that_others_may_exchange_are_not_loaded(mode: int, model: Path, pair: Pair, signature: Path) -> None:
    cache = model.parent / "engines"
    cache.mkdir()
    options: dict[str, Any] = {"providers": "openvino", "engine_cache": cache}
    cache.chmod(mode)
    Detector(model, **options)  # without a key, whoever may write there might as well exchange the model
    with pytest.raises(UsageError, match=r"Others may write to .*engines, and engines are not signed"):
        Detector(model, public_key=pair.public, **options)
    cache.chmod(0o755)
    Detector(model, public_key=pair.public, **options)
    (engine,) = cache.glob("*/*")
    engine.chmod(0o666)
    with pytest.raises(UsageError, match=r"Others may write to .*engines/.*/"):
        Detector(model, public_key=pair.public, **options)


def test_a_key_that_cannot_be_used(model: Path, pair: Pair, signature: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds a private key"):
        Detector(model, public_key=pair.private)
    with pytest.raises(UsageError, match=r"There is no file .*none\.pub"):
        Detector(model, public_key=tmp_path / "none.pub")


def model_signing(*arguments: object) -> str:
    """The program of OpenSSF Model Signing, in a process of its own: it loads what would warn here."""
    command = [sys.executable, "-m", "model_signing", *map(str, arguments)]
    found = subprocess.run(command, capture_output=True, text=True)
    return found.stdout + found.stderr


@pytest.mark.parametrize("curve", ["secp256r1", "secp384r1", "secp521r1"])
def test_openssf_model_signing_takes_our_signatures_and_we_take_its(curve: str, model: Path, tmp_path: Path) -> None:
    pair = write_pair(tmp_path, curve)
    signature = sign_model(model, pair.key).file
    verify = ("verify", "key", model, "--signature", signature, "--public_key", pair.public)
    assert "Verification succeeded" in model_signing(*verify)
    content = model.read_bytes()
    model.write_bytes(content + b"\0")
    assert "Verification failed" in model_signing(*verify)
    model.write_bytes(content)
    signature.unlink()
    sign = ("sign", "key", model, "--signature", signature, "--private_key", pair.private)
    assert "Signing succeeded" in model_signing(*sign)
    Detector(model, public_key=pair.public)
    model.write_bytes(content + b"\0")
    refused(model, pair, "is not the file that was signed")
