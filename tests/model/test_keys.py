"""Keys that sign models: made once, kept to their owner, and refused with a sentence where they cannot be used."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from keys import Pair, make_pair, write_pair

from rstpm_edge.errors import OutputError, UsageError
from rstpm_edge.model.keys import load_private_key, load_public_key, make_keys, read_password

pytestmark = pytest.mark.extra


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return make_pair(tmp_path)


def refused(load: Callable[[Path], object], path: Path, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_pair_belongs_together(pair: Pair, tmp_path: Path) -> None:
    private, public = load_private_key(pair.private), load_public_key(pair.public)
    assert public.hint == private.public.hint
    assert public.holds(private.sign(b"words"), b"words")
    assert not public.holds(private.sign(b"words"), b"other words")
    assert not public.holds(b"no signature", b"words")
    assert not load_public_key(make_pair(tmp_path, "other").public).holds(private.sign(b"words"), b"words")


@pytest.mark.parametrize("umask", [0, 0o077])
def test_only_the_owner_may_read_the_private_key_whatever_the_umask(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        pair = make_pair(tmp_path)
    finally:
        os.umask(before)
    assert pair.private.stat().st_mode & 0o777 == 0o600
    assert pair.public.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("there", ["release.key", "release.pub"])
def test_no_key_is_overwritten(there: str, tmp_path: Path) -> None:
    (tmp_path / there).write_text("an older key")
    with pytest.raises(OutputError, match=f"{there}: it is there already, and no key is overwritten"):
        make_keys(tmp_path / "release")
    assert os.listdir(tmp_path) == [there]
    assert (tmp_path / there).read_text() == "an older key"


def test_a_link_to_nowhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "release.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="it is there already"):
        make_keys(tmp_path / "release")
    assert not (tmp_path / "elsewhere").exists()


def test_half_a_pair_does_not_stay(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"Cannot write .*: File name too long"):
        make_keys(tmp_path / ("n" * 252))  # with .key one byte too long
    with pytest.raises(OutputError, match=r"Cannot write .*none/release\.key: No such file or directory"):
        make_keys(tmp_path / "none" / "release")
    assert os.listdir(tmp_path) == []


def test_openssl_reads_both(pair: Pair) -> None:
    for option, path in ((), pair.private), (("-pubin",), pair.public):
        command = ["openssl", "pkey", *option, "-in", path, "-noout", "-text"]
        assert "P-256" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_file_of_openssl_that_has_the_curve_in_front(tmp_path: Path, pair: Pair) -> None:
    command = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-out", tmp_path / "both.pem"]
    subprocess.run(command, capture_output=True, check=True)
    assert (tmp_path / "both.pem").read_bytes().startswith(b"-----BEGIN EC PARAMETERS")
    load_private_key(tmp_path / "both.pem")


@pytest.mark.parametrize("curve", ["secp256r1", "secp384r1", "secp521r1"])
def test_keys_of_openssl_on_the_three_curves(curve: str, tmp_path: Path) -> None:
    pair = write_pair(tmp_path, curve)
    assert load_public_key(pair.public).holds(pair.key.sign(b"words"), b"words")


@pytest.mark.parametrize("kind", ["rsa", "ed25519", "secp256k1"])
def test_keys_of_other_kinds(kind: str, tmp_path: Path) -> None:
    pair = write_pair(tmp_path, kind)
    message = "is of another kind: models are signed with elliptic keys on the curves P-256, P-384 and P-521"
    refused(load_private_key, pair.private, message)
    refused(load_public_key, pair.public, message)


def test_the_other_half(pair: Pair) -> None:
    refused(
        load_private_key, pair.public, r"holds no private key in PEM form \(it is a public one\): give the .key file"
    )
    refused(load_public_key, pair.private, r"holds a private key: give the public one of the pair, its .pub file")


@pytest.mark.parametrize("load", [load_private_key, load_public_key])
def test_files_that_hold_no_key(load: Callable[[Path], object], pair: Pair, tmp_path: Path) -> None:
    refused(load, tmp_path / "none", "There is no file .*none; `rstpm-edge keygen` makes a pair")
    refused(load, tmp_path / "a\0b", "There is no file")
    refused(load, tmp_path, "Cannot read .*: it is no file|Is a directory")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    refused(load, fifo, "Cannot read .*fifo: it is no file")
    file = tmp_path / "file"
    for content, message in (
        (b"", "holds no (private|public) key in PEM form"),
        (bytes(range(256)), "holds no (private|public) key in PEM form"),
        (b"x" * 100_001, "larger than 100,000 bytes"),
        (b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", "holds no (private|public) key"),
    ):
        file.write_bytes(content)
        refused(load, file, message)
    of_it = pair.private if load is load_private_key else pair.public
    for content in (of_it.read_bytes()[:-60], of_it.read_bytes().replace(b"MF", b"MG").replace(b"MIG", b"MIH")):
        file.write_bytes(content)
        refused(load, file, "The key .*file cannot be read: it is damaged")


def test_a_file_of_nothing_but_beginnings_takes_no_time(tmp_path: Path, pair: Pair) -> None:
    file, begin = tmp_path / "file", b"-----BEGIN EC PRIVATE KEY-----\n"
    file.write_bytes(3200 * begin)
    start = time.process_time()
    refused(load_private_key, file, "The key .*file cannot be read: it is damaged")
    assert time.process_time() - start < 5
    file.write_bytes(3200 * begin + pair.private.read_bytes())  # a whole one is found behind them
    load_private_key(file)


def test_an_encrypted_key(tmp_path: Path) -> None:
    private, _ = make_keys(tmp_path / "release", b"open sesame")
    assert b"ENCRYPTED" in private.read_bytes()
    load_private_key(private, b"open sesame")
    refused(load_private_key, private, "is encrypted: give the file with its passphrase, `password_file`")
    refused(lambda path: load_private_key(path, b"other"), private, "its passphrase is another one, or it is damaged")
    plain, _ = make_keys(tmp_path / "plain")
    refused(lambda path: load_private_key(path, b"other"), plain, "is not encrypted: leave `password_file` out")


def test_an_encrypted_key_of_the_older_form(tmp_path: Path) -> None:
    key = serialization.load_pem_private_key(make_pair(tmp_path).private.read_bytes(), None)
    older, encryption = serialization.PrivateFormat.TraditionalOpenSSL, serialization.BestAvailableEncryption(b"1")
    path = tmp_path / "older.pem"
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, older, encryption))
    load_private_key(path, b"1")
    refused(load_private_key, path, "is encrypted")


def test_the_file_of_a_passphrase(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(b"open sesame\r\n")
    assert read_password(file) == b"open sesame"
    file.write_bytes(b"\n")
    refused(read_password, file, "holds no passphrase")
    file.write_bytes(1023 * b"x" + b"\n")
    make_keys(tmp_path / "long", read_password(file))
    file.write_bytes(1024 * b"x" + b"\n")
    refused(read_password, file, "holds no passphrase: it is longer than 1023 bytes")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in sys.modules if name.startswith("cryptography")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    refused(load_public_key, tmp_path / "key", "need the package cryptography: pip install cryptography")
    refused(make_keys, tmp_path / "key", "need the package cryptography")
