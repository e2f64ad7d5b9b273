"""`rstpm-edge keygen`, `sign`, `verify`, and --public-key of the commands that load a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from keys import Pair, make_pair
from labelled import write_labelled

from rstpm_edge.model.signing import sign_model

pytestmark = pytest.mark.extra


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return make_pair(tmp_path)


def test_from_keys_to_a_verified_model(run: Any, model: Path, tmp_path: Path, photos: Path) -> None:
    made = run("keygen", tmp_path / "line")
    assert made.exit_code == 0, made.stderr
    assert "line.key: keep it secret" in made.stdout
    assert made.stderr == ""
    signed = run("sign", model, "--key", tmp_path / "line.key")
    assert signed.exit_code == 0, signed.stderr
    assert signed.stderr == ""
    (key,) = made.stdout.strip().rstrip(".").split("; key ")[1:]
    assert f"signed with the key {key}." in signed.stdout
    verified = run("verify", model, "--public-key", tmp_path / "line.pub")
    assert verified.exit_code == 0, verified.stderr
    assert f"signed with the key {key} (" in verified.stdout
    assert run("infer", photos / "1.png", "--public-key", tmp_path / "line.pub").exit_code == 0


def test_no_key_is_overwritten(run: Any, pair: Pair) -> None:
    before = pair.private.read_bytes()
    again = run("keygen", pair.private.with_suffix(""))
    assert again.exit_code == 2
    assert "no key is overwritten" in again.stderr
    assert pair.private.read_bytes() == before


def test_an_encrypted_key(run: Any, model: Path, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("open sesame\n")
    assert run("keygen", tmp_path / "line", "--password-file", password).exit_code == 0
    assert (
        "is encrypted: give the file with its passphrase, --password-file."
        in run("sign", model, "--key", tmp_path / "line.key").stderr
    )
    assert not model.with_name("model.onnx.sig").exists()
    assert run("sign", model, "--key", tmp_path / "line.key", "--password-file", password).exit_code == 0


def test_a_key_that_others_may_read_is_told(run: Any, model: Path, pair: Pair) -> None:
    pair.private.chmod(0o640)
    signed = run("sign", model, "--key", pair.private)
    assert signed.exit_code == 0
    assert "Others on this machine may read the key" in signed.stderr


@pytest.mark.parametrize("command", ["infer", "bench", "info", "verify", "evaluate"])
def test_every_command_that_loads_a_model_refuses_what_is_not_signed(
    command: str, run: Any, model: Path, photos: Path, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: dict[str, list[object]] = {
        "infer": [photos],
        "bench": ["--runs", 1],
        "evaluate": [write_labelled(tmp_path / "data", {"good": 1, "spot": 1})],
    }
    start = (command, *arguments.get(command, []))
    for options in ((*start, "--public-key", pair.public), start):
        refused = run(*options)
        assert refused.exit_code == 2
        assert "is not signed: there is no" in refused.stderr
        assert refused.stdout == ""
        monkeypatch.setenv("RSTPM_EDGE_PUBLIC_KEY", str(pair.public))  # the second time without the option
    monkeypatch.setenv("RSTPM_EDGE_PUBLIC_KEY", "")  # a variable that was to be filled in does not switch it off
    refused = run(*start)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "The variable RSTPM_EDGE_PUBLIC_KEY is empty" in refused.stderr
    assert "is not signed" in run(*start, "--public-key", pair.public).stderr
    monkeypatch.setenv("RSTPM_EDGE_PUBLIC_KEY", str(pair.public))
    sign_model(model, pair.key)
    assert run(*start).exit_code in (0, 1)


def test_bad_keys_are_one_sentence(run: Any, model: Path, pair: Pair, photos: Path, tmp_path: Path) -> None:
    for command, message in (
        (("sign", model, "--key", tmp_path / "none"), "There is no file"),
        (("sign", model, "--key", pair.public), "it is a public one"),
        (("sign", model), "Missing option '--key'"),
        (("sign", tmp_path / "none.onnx", "--key", pair.private), "There is no model file"),
        (("sign", photos / "1.png", "--key", pair.private), "is damaged, or not an ONNX file"),
        (("sign", ".", "--key", pair.private), "The model . is a folder"),
        (("keygen", "."), ". names a folder, not a pair of keys"),
        (("keygen", ".."), ".. names a folder, not a pair of keys"),
        (("keygen", "/"), "/ names a folder, not a pair of keys"),
        (("infer", photos, "--public-key", pair.private), "holds a private key"),
        (("infer", photos, "--public-key", photos / "1.png"), "holds no public key in PEM form"),
    ):
        result = run(*command)
        assert result.exit_code == 2
        assert message in result.stderr
        assert "Traceback" not in result.output
    assert sorted(os.listdir(photos)) == ["1.png", "10.png", "sub"]


def test_verify_says_what_is_missing(run: Any, model: Path, pair: Pair) -> None:
    assert "There is nothing to verify" in run("verify", model).stderr
    shouted = model.with_name("M.ONNX")
    shouted.write_bytes(model.read_bytes())
    assert f"There is nothing to verify {shouted} by" in run("verify", shouted).stderr
    for one in (model, shouted):
        said = run("verify", f"{one}.sig").stderr
        assert said == f"Error: {one}.sig is a signature, which is found beside its model: give {one}.\n"
    for option in (("--run", "runs/none"), ("--most", 3), ("--allow-size-change",)):
        said = run("verify", model, "--public-key", pair.public, *option).stderr
        assert f"{option[0]} goes with IMAGEs only, and here are none." in said
    assert "Give one model, not a.onnx and b.onnx" in run("verify", "a.onnx", "b.onnx").stderr
    assert "Give one model: a.onnx or --model b.onnx" in run("verify", "a.onnx", "--model", "b.onnx").stderr
