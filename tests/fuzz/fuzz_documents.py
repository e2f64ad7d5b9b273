"""What else is read that nobody vouches for: signatures, keys, goldens, audit logs, drift states, masks,
the log of a registry.
"""

from __future__ import annotations

import base64
import json
import math
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from encoded import encode, photo
from fuzz_choices import Choices
from fuzz_folder import folder_of
from fuzz_sentences import check_sentence
from keys import Pair, make_pair

from rstpm_edge.calibration import Calibration
from rstpm_edge.drift import begin
from rstpm_edge.errors import ModelError, OutputError, SignatureError, UsageError
from rstpm_edge.image.mask import load_mask
from rstpm_edge.model.goldens import Golden, golden_image, goldens_to_json, parse_goldens, stored_map
from rstpm_edge.model.keys import PublicKey, load_private_key, load_public_key, read_password
from rstpm_edge.model.signature import _to_sign, check_signature, signed
from rstpm_edge.outputs.audit_log import AuditLog
from rstpm_edge.outputs.chain_check import check_chain
from rstpm_edge.outputs.drift_file import load_drift, save_drift
from rstpm_edge.outputs.hash_chain import FIRST, last_of
from rstpm_edge.registry.product import Calibrated, ModelFacts
from rstpm_edge.registry.product_log import read_log

CALIBRATION = Calibration(0.1, tuple(i / 8 for i in range(1, 20)))
DIGEST = "0" * 64


def _folder() -> Path:
    return folder_of("documents")


@cache
def _pair() -> Pair:
    return make_pair(_folder())


def _written(name: str, content: bytes) -> Path:
    path = _folder() / name
    with open(path, "wb") as file:
        file.write(content)
    return path


def _signature(choices: Choices) -> None:
    """The file, and a statement that the right key signed, whatever it says."""
    model, key = _written("model.onnx", b""), _pair().key
    bundle = json.loads(_signed())
    if choices.whole(0, 1):
        payload = choices.odd_json(json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))).encode()
        bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
        bundle["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(key.sign(_to_sign(payload))).decode()
        content = json.dumps(bundle).encode()
    else:
        content = choices.odd_json(bundle).encode("utf-8", "surrogatepass")
    _check_signature(model, content)


def _signature_text(choices: Choices) -> None:
    _check_signature(_written("model.onnx", b""), choices.rest())


def _check_signature(model: Path, content: bytes) -> None:
    _written("model.onnx.sig", content)
    try:
        check_signature(model, DIGEST, _public())
    except SignatureError as error:
        check_sentence(error)


@cache
def _signed() -> bytes:
    return signed("model", DIGEST, _pair().key)


@cache
def _public() -> PublicKey:
    return load_public_key(_pair().public)


def _keys(choices: Choices) -> None:
    password = choices.one_of((None, b"secret"))
    path = _written("any.key", choices.rest())
    for read in (lambda: load_private_key(path, password), lambda: load_public_key(path), lambda: read_password(path)):
        try:
            read()
        except UsageError as error:
            check_sentence(error)


def _goldens(choices: Choices) -> None:
    _check_goldens(choices.odd_json(json.loads(_golden_document())))


def _goldens_text(choices: Choices) -> None:
    _check_goldens(choices.rest().decode("utf-8", "replace"))


def _check_goldens(document: str) -> None:
    try:
        for golden in parse_goldens(document):
            values = golden.anomaly_map.values()
            assert values.ndim == 2
    except ModelError as error:
        check_sentence(error)


@cache
def _golden_document() -> str:
    values = photo(6, 5).astype(np.float32)
    golden = Golden("a.png", golden_image(photo(8, 9, 3)), 1.5, True, stored_map(values))
    return goldens_to_json([golden])


def _audit_log(choices: Choices) -> None:
    """Lines whose hashes are right, of entries that are not; and what comes between them."""
    lines: list[bytes] = []
    previous, number = FIRST, 1
    for _ in range(choices.whole(1, 4)):
        event = choices.one_of(("start", "counts", "drift", "stop", "torn", "refused"))
        fields = choices.odd_json(
            {"time": "2026-01-01T00:00:00", "event": event, "normal": 3, "changed": {"alpha": [1, 2]}}
        )
        inner = fields.strip().removeprefix("{").removesuffix("}")
        body = f'{{"entry":{number},{inner},"previous":"{previous}"}}'.encode("utf-8", "surrogatepass")
        digest = sha256(body).hexdigest()
        line = body[:-1] + f',"hash":"{digest}"}}'.encode()
        how = choices.whole(0, 7)
        if how == 7:
            line = line[: choices.whole(0, len(line))]
        elif how == 6:
            line = choices.take(12)
        else:
            previous = digest
        number += choices.one_of((1, 1, 1, 0, 2, 10**14))
        lines.append(line)
    _check_audit_log(b"\n".join(lines) + choices.one_of((b"\n", b"", b"\0\0\0")))


def _audit_log_text(choices: Choices) -> None:
    _check_audit_log(choices.rest())


def _check_audit_log(content: bytes) -> None:
    path = _written("audit.jsonl", content)
    try:
        checked = check_chain(path, DIGEST)
        assert all(sentence.isprintable() for sentence in (*checked.faults, *checked.notes))
    except (UsageError, OutputError) as error:
        check_sentence(error)
    last_of(path, "start")
    try:
        with AuditLog(path) as log:
            log.start({"model": "m", "alpha": 0.1})
            log.tell({"verdict": "normal"})
    except (UsageError, OutputError) as error:
        check_sentence(error)
        assert path.read_bytes().startswith(content)  # nothing is lost
    else:
        again = check_chain(path)
        assert again.entries >= 2


def _registry_log(choices: Choices) -> None:
    """Entries that hang together, of which some say what no log says."""
    path = _folder() / "registry.jsonl"
    facts = ModelFacts(DIGEST, DIGEST, None, 10, "edge", "fp32", 64, 96, "0.1.0", Calibrated(0.05, 2.0, 1.0, 20))
    entries: list[dict[str, Any]] = [
        {"event": "added", "version": 1, "model": facts.to_json(), "user": "u", "host": "h", "time": "t", "note": "n"},
        {"event": "promoted", "version": 1, "to": "live"},
        {"event": "noted", "version": 1, "evaluation": {"both": {"image_auroc": 0.9}}},
        {"event": "rolled back", "version": 1},
    ]
    content, previous = b"", FIRST
    for number in range(1, choices.whole(2, 5)):
        inner = choices.odd_json(entries[number - 1]).strip().removeprefix("{").removesuffix("}")
        body = f'{{"entry":{number},{inner},"previous":"{previous}"}}'.encode("utf-8", "surrogatepass")
        previous = sha256(body).hexdigest()
        content += body[:-1] + f',"hash":"{previous}"}}\n'.encode()
    path.write_bytes(content[: len(content) - choices.one_of((0, 0, 1, 9))])
    try:
        product = read_log(path, "bracket").product
        assert product.live is None or product.live in product.versions
    except ModelError as error:
        check_sentence(error)


def _drift(choices: Choices) -> None:
    _check_drift(choices.odd_json(json.loads(_drift_document())).encode("utf-8", "surrogatepass"), choices)


def _drift_text(choices: Choices) -> None:
    _check_drift(choices.rest(), choices)


def _check_drift(content: bytes, choices: Choices) -> None:
    path = _written("drift.json", content)
    try:
        state = load_drift(path, begin(CALIBRATION, 0.01), DIGEST)
        for _ in range(6):
            state = state.update(choices.one_of((0.05, 0.1, 0.5, 1.0)))
        assert all(not math.isnan(one) for one in (*state.scene, *state.defects))
    except UsageError as error:
        check_sentence(error)
        return
    save_drift(path, state, DIGEST)
    assert load_drift(path, begin(CALIBRATION, 0.01), DIGEST) == state


@cache
def _drift_document() -> str:
    state = begin(CALIBRATION, 0.01)
    for p_value in (0.05, 0.5, 1.0):
        state = state.update(p_value)
    path = _folder() / "good_drift.json"
    save_drift(path, state, DIGEST)
    return path.read_text()


def _mask(choices: Choices) -> None:
    path = _written("mask.png", choices.rest())
    try:
        assert load_mask(path).white.any()
    except UsageError as error:
        check_sentence(error)


READERS = (
    *(_signature, _signature_text, _keys, _goldens, _goldens_text),
    *(_audit_log, _audit_log_text, _drift, _drift_text, _mask),
    _registry_log,
)


def seeds() -> list[bytes]:
    """A right document for each reader, and some that are nearly right."""
    private, public = _pair().private.read_bytes(), _pair().public.read_bytes()
    with AuditLog(_folder() / "good.jsonl") as log:
        log.start({"model": "m", "alpha": 0.1})
    audit = (_folder() / "good.jsonl").read_bytes()
    grey = photo(12, 12)
    texts = {
        _signature_text: [_signed()],
        _keys: [b"\0" + private, b"\0" + public],
        _goldens_text: [_golden_document().encode()],
        _audit_log_text: [audit],
        _drift_text: [_drift_document().encode()],
        _mask: [encode(".png", (grey > 128).astype(np.uint8) * 255), encode(".png", grey)],
    }
    found = []
    for number, reader in enumerate(READERS):
        given = texts.get(reader, [bytes(range(step, step + 50)) for step in (0, 40, 90, 150, 200)])
        found += [bytes([number]) + one for one in given]
    return found


def check(data: bytes) -> bool:
    """Each reader gives a value, or an error of our tree."""
    choices = Choices(data)
    READERS[choices.whole(0, 255) % len(READERS)](choices)
    return True
