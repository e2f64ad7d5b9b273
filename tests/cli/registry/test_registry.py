"""`rstpm-edge registry`, and `infer` with a product of one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import Fusion, ModelFactory
from click.testing import Result
from keys import make_pair
from notify_socket import NotifySocket
from numpy.typing import NDArray
from waiting import until
from watcher import encoded
from workplace import command_line, document, finish, running

from rstpm_edge.model.signing import sign_model
from rstpm_edge.registry.registry import open_registry


@pytest.fixture
def models(model_factory: ModelFactory) -> list[Path]:
    return [model_factory(f"{i}.onnx", fusion=Fusion(weights=(float(i),) * 6)) for i in (1, 2)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "registry"


@pytest.fixture
def registry(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `rstpm-edge registry`."""
    monkeypatch.setenv("RSTPM_EDGE_REGISTRY", str(folder))
    return lambda *arguments: command_line("registry", *arguments)


@pytest.fixture
def filled(registry: Any, models: list[Path]) -> Callable[..., Result]:
    """Two versions of bracket: the first one is live."""
    for model in models:
        assert registry("add", "bracket", model).exit_code == 0
    assert registry("promote", "bracket", 1).exit_code == 0
    return registry  # type: ignore[no-any-return]


def test_what_is_said(registry: Any, models: list[Path], folder: Path, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    figures.write_text(json.dumps({"both": {"image_auroc": 0.9876}, "images": [{"name": "1.png"}] * 2000}))
    said = registry("add", "bracket", models[0], "--evaluation", figures, "--note", "new light")
    assert said.stdout.startswith("bracket: version 1 is added, SHA-256 ")
    assert said.stdout.endswith(", not signed.\n")
    assert registry("add", "bracket", models[0]).stdout == f"bracket: {models[0]} is version 1 already.\n"
    assert registry("add", "bracket", models[1]).exit_code == 0
    assert registry("promote", "bracket", 1).stdout == "bracket: version 1 is live.\n"
    assert registry("promote", "bracket", 1).stdout == "bracket: version 1 is live already.\n"
    assert registry("promote", "bracket", 2, "--to", "shadow").stdout == "bracket: version 2 judges in shadow.\n"
    assert registry("promote", "bracket", 2, "--note", "agreed").stdout == (
        "bracket: version 2 is live, in the place of version 1.\n"
    )
    header, first, second = registry("list", "bracket").stdout.splitlines()
    assert header.split()[:2] == ["version", "stage"]
    assert first.split()[:2] == ["1", "candidate"]
    assert first.endswith("at most 1%     0.988        new light")
    assert second.split()[:2] == ["2", "live"]
    assert registry("list").stdout.splitlines()[1].split()[:5] == ["bracket", "2", "1", "–", "2"]
    assert registry("rollback", "bracket", "--from", 2).stdout == (
        "bracket: version 1 is live again, in the place of version 2.\n"
    )
    lines = registry("history", "bracket").stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[1:-1]] == ["1", "2", "3", "4", "5", "6"]
    assert "version 2 to live" in lines[5]
    assert lines[5].endswith("agreed")
    digest = open_registry(folder).product("bracket").hash
    assert lines[-1] == f"The last entry has the hash {digest}."
    assert registry("check").stdout == f"{folder}: 1 product, 2 versions; logs and files are what was written.\n"
    assert registry("check", "bracket", "--holds", digest).exit_code == 0


def test_what_programs_read(filled: Any, folder: Path) -> None:
    (product,) = json.loads(filled("list", "--json").stdout)["products"]
    assert (product["product"], product["versions"], product["before"], product["shadow"]) == ("bracket", 2, None, None)
    assert product["live"]["version"] == 1
    assert Path(product["live"]["file"]).is_file()
    versions = json.loads(filled("list", "bracket", "--json").stdout)["versions"]
    assert [one["stage"] for one in versions] == ["live", "candidate"]
    assert versions[0]["model"]["calibration"]["images"] == 99
    entries = json.loads(filled("history", "bracket", "--json").stdout)["entries"]
    assert [entry["event"] for entry in entries] == ["added", "added", "promoted"]


def test_what_was_changed_is_found(filled: Any, folder: Path, models: list[Path]) -> None:
    assert filled("add", "screw", models[0]).exit_code == 0
    digest = open_registry(folder).product("bracket").hash
    log = folder / "products" / "bracket" / "log.jsonl"
    whole = log.read_bytes()
    log.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    cut = filled("check", "bracket", "--holds", digest)
    assert (cut.exit_code, cut.stdout) == (1, "")
    assert "No entry has the hash" in cut.stderr
    log.write_bytes(whole.replace(b'"to":"live"', b'"to":"LIVE"'))
    listed = filled("list")
    assert listed.exit_code == 1
    assert listed.stdout.splitlines()[1].startswith("screw")  # the others are shown
    assert "The log of bracket was changed: Line 3 of" in listed.stderr
    assert filled("check").exit_code == 1
    log.write_bytes(whole)
    next(folder.glob("models/*/model.onnx")).write_bytes(b"half")
    spoilt = filled("check")
    assert spoilt.exit_code == 1
    assert "bracket, version " in spoilt.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("list", "screw"), "has no product screw: it has bracket."),
        (("promote", "bracket", 9), "has no version 9: its versions are 1 to 2."),
        (("rollback", "bracket"), "No other version of bracket was live before"),
        (("rollback", "bracket", "--from", 2), "Version 2 of bracket is not live, version 1 is: nothing was changed."),
        (("promote", "bracket", 1, "--to", "shadow"), "Version 1 of bracket is live: promote another one"),
        (("check", "--holds", "a" * 64), "--holds goes with one PRODUCT"),
        (("check", "bracket", "--holds", "abc"), "--holds takes the hash of an entry"),
        (("add", "br/acket", "0.onnx"), "A product's name has up to 100 letters"),
        (("add", "bracket", "0.onnx"), "There is no model file 0.onnx"),
        (("promote", "bracket", 2, "--note", "x" * 501), "the note is no text of up to 500 characters"),
        (("list", "--registry", "nowhere"), "There is no registry in nowhere; `rstpm-edge registry add` makes one."),
    ],
)
def test_one_sentence(filled: Any, arguments: tuple[object, ...], sentence: str) -> None:
    result = filled(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1


def test_what_stations_refuse_is_told_with_its_option(filled: Any, models: list[Path], monkeypatch: Any) -> None:
    from rstpm_edge.errors import ModelError
    from rstpm_edge.registry import registry as module

    def refuse(*arguments: object) -> None:
        raise ModelError("It is of another product.")

    monkeypatch.setattr(module, "check_replacement", refuse)
    assert "--force makes it live all the same." in filled("promote", "bracket", 2).stderr
    assert filled("promote", "bracket", 2, "--force").exit_code == 0


@pytest.mark.extra
def test_keys(registry: Any, folder: Path, models: list[Path], tmp_path: Path) -> None:
    pair = make_pair(tmp_path)
    assert "is not signed" in registry("add", "bracket", models[0], "--public-key", pair.public).stderr
    sign_model(models[0], pair.key)
    assert ", signed, with a key that was not checked.\n" in registry("add", "screw", models[0]).stdout
    said = registry("add", "bracket", models[0], "--public-key", pair.public).stdout
    assert f", signed with the key {pair.key.public.hint[:16]}.\n" in said
    assert registry("promote", "bracket", 1, "--public-key", pair.public).exit_code == 0
    registry("add", "screw", models[1])
    assert registry("promote", "screw", 2).exit_code == 0
    checked = registry("check", "--public-key", pair.public)
    assert checked.exit_code == 1
    assert checked.stderr.startswith("Error: screw, version 2: The model ")


def test_files_are_judged_with_the_live_version(filled: Any, folder: Path, photos: Path) -> None:
    first = json.loads(command_line("infer", photos / "sub", "--product", "bracket", "--json").stdout)
    filled("promote", "bracket", 2)
    second = json.loads(command_line("infer", photos / "sub", "--product", "bracket", "--json").stdout)
    product = open_registry(folder).product("bracket")
    assert [first["model_sha256"], second["model_sha256"]] == [one.model.sha256 for one in product.versions]
    assert second["score"] == pytest.approx(2 * first["score"], rel=1e-4)


def test_files_in_shadow(filled: Any, folder: Path, photos: Path, tmp_path: Path) -> None:
    log, audit = tmp_path / "shadow.jsonl", tmp_path / "audit.jsonl"
    filled("promote", "bracket", 2, "--to", "shadow")
    options = ["--shadow", "--shadow-share", "100%", "--shadow-log", log, "--audit-log", audit]
    plain = command_line("infer", photos, "--product", "bracket", "--json")
    result = command_line("infer", photos, "--product", "bracket", *options)
    assert result.exit_code == plain.exit_code == 1
    assert "; shadow, version 2: 3 of 3 images compared, 0 failed; 0 verdicts differ (0.00%)" in result.stdout
    compared = [json.loads(line) for line in log.read_text().splitlines()]
    scores = [json.loads(line)["score"] for line in plain.stdout.splitlines()]
    assert [one["live"]["score"] for one in compared] == scores
    start, shadow, stop = (json.loads(line) for line in audit.read_text().splitlines())
    assert (start["product"], start["product_version"]) == ("bracket", 1)
    assert start["model"].startswith(str(folder))
    assert (shadow["event"], shadow["compared"], stop["event"]) == ("shadow", 3, "stop")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--product", "screw"), "has no product screw"),
        (("--product", "bracket", "--model", "model.onnx"), "Give --model, or --product of a --registry, not both."),
        (("--registry", "registry"), "--registry goes with --product NAME only."),
        (("--shadow",), "--shadow goes with --product NAME of a --registry only."),
        (("--product", "bracket", "--shadow-log", "x"), "--shadow-share and --shadow-log go with --shadow only."),
        (("--product", "bracket", "--shadow", "--shadow-share", "0"), "must be over 0 and up to 100%"),
        (("--product", "bracket", "--shadow", "--shadow-log", "1.png"), "--shadow-log does not write a picture"),
        (("--product", "bracket", "--shadow", "--shadow-log", "no/x"), "Cannot write no/x: No such file or directory."),
        (("--product", "bracket", "--reload"), "--reload is for cameras, streams and watched folders"),
    ],
)
def test_options_that_go_together(filled: Any, photos: Path, options: tuple[str, ...], sentence: str) -> None:
    result = command_line("infer", photos, *options)
    assert (result.exit_code, result.stdout) == (5 if sentence.startswith("Cannot write") else 2, "")
    assert sentence in result.stderr


def test_without_a_registry(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RSTPM_EDGE_REGISTRY", raising=False)
    assert "--product goes with --registry FOLDER" in command_line("infer", photos, "--product", "bracket").stderr


def test_a_damaged_live_version_is_not_judged_with(
    filled: Any, folder: Path, photos: Path, models: list[Path], tmp_path: Path
) -> None:
    audit, opened = tmp_path / "audit.jsonl", open_registry(folder)
    opened.model_file(opened.live("bracket").model).write_bytes(models[1].read_bytes())
    result = command_line("infer", photos, "--product", "bracket", "--audit-log", audit)
    assert result.exit_code == 2
    assert "is damaged, or was exchanged: its SHA-256 is" in result.stderr
    assert json.loads(audit.read_text())["event"] == "refused"


def test_promotions_are_followed(
    filled: Any, folder: Path, tmp_path: Path, bad: NDArray[np.uint8], photos: Path
) -> None:
    """While a folder is watched; and a log that was changed ends nothing."""
    incoming, audit = tmp_path / "incoming", tmp_path / "audit.jsonl"
    incoming.mkdir()
    errors, printed = tmp_path / "errors", tmp_path / "printed"
    hashes = [one.model.sha256 for one in open_registry(folder).product("bracket").versions]
    with (
        open(printed, "w") as output,
        open(errors, "w") as error,
        NotifySocket(tmp_path / "notify") as systemd,
        running(
            *("infer", incoming, "--watch", "--json", "--product", "bracket", "--audit-log", audit),
            stdout=output,
            stderr=error,
            env=systemd.environment,
        ) as process,
    ):
        assert systemd.receive() == "READY=1"

        def judge(name: str) -> Any:
            before = printed.read_text().count("\n")
            (tmp_path / "new").write_bytes(encoded(bad))
            (tmp_path / "new").rename(incoming / name)
            until(lambda: printed.read_text().count("\n") > before)
            return json.loads(printed.read_text().splitlines()[-1])

        assert judge("1.png")["model_sha256"] == hashes[0]
        filled("promote", "bracket", 2)
        until(lambda: "bracket, version 2, is live, and judges from now on" in errors.read_text())
        assert judge("2.png")["model_sha256"] == hashes[1]
        filled("rollback", "bracket", "--from", 2)
        until(lambda: "bracket, version 1, is live, and judges from now on" in errors.read_text())
        assert judge("3.png")["model_sha256"] == hashes[0]
        log = folder / "products" / "bracket" / "log.jsonl"
        log.write_bytes(log.read_bytes().replace(b'"to":"live"', b'"to":"LIVE"'))
        until(lambda: "The model before goes on judging." in errors.read_text())
        assert judge("4.png")["model_sha256"] == hashes[0]
        process.terminate()
        assert finish(process)[0] == 1
    entries = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [entry["event"] for entry in entries] == ["start", "swap", "swap", "swap refused", "stop"]
    assert [entry["product_version"] for entry in entries[:3]] == [1, 2, 1]
    assert "2 new models taken, 1 new model refused" in errors.read_text()


def test_an_evaluation_is_an_object(registry: Any, models: list[Path], tmp_path: Path) -> None:
    for text, sentence in (("[1]", "holds no object"), ("{", "is no JSON"), ('{"a": NaN}', "is no JSON")):
        (tmp_path / "figures.json").write_text(text)
        assert sentence in registry("add", "bracket", models[0], "--evaluation", tmp_path / "figures.json").stderr
    assert "No such file" in registry("add", "bracket", models[0], "--evaluation", tmp_path / "none").stderr


def test_the_documents_are_read(tmp_path: Path, folder: Path, filled: Any) -> None:
    assert document(folder / "registry.json") == {"schema_version": 1, "needs": "0.1.0"}
