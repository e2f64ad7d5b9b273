"""The registry in a folder: what it keeps, and what it refuses."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from bundles import ModelFactory
from checkout import ROOT
from forked import in_child
from keys import make_pair
from limits import make_profile

from rstpm_edge.errors import ModelError, OutputError, SignatureError, UsageError
from rstpm_edge.model.keys import load_public_key
from rstpm_edge.model.signing import sign_model
from rstpm_edge.outputs.chain_check import check_chain
from rstpm_edge.registry.registry import MARKER, Registry, make_registry, open_registry


def lines(registry: Registry) -> list[bytes]:
    return registry.log_file("bracket").read_bytes().splitlines(keepends=True)


def test_a_version_is_what_was_added(registry: Registry, models: list[Path]) -> None:
    version, is_new = registry.add("bracket", models[0], evaluation={"both": {"image_auroc": 0.9}}, note="first light")
    assert is_new
    assert (version.number, version.note, version.model.signed_by) == (1, "first light", None)
    assert version.model.calibration.threshold == pytest.approx(0.99)
    assert registry.model_file(version.model).read_bytes() == models[0].read_bytes()
    assert registry.product("bracket").live is None
    again, is_new = registry.add("bracket", models[0])
    assert (again, is_new) == (version, False)
    noted, _ = registry.add("bracket", models[0], note="second look")
    assert (noted.number, noted.note, noted.evaluation) == (1, "second look", version.evaluation)
    assert len(lines(registry)) == 2


def test_stages(filled: Registry) -> None:
    before, after = filled.promote("bracket", 2, "live", note="better")
    assert (before.lives, after.lives) == ((1,), (1, 2))
    assert filled.live("bracket").number == 2
    filled.promote("bracket", 3, "shadow")
    before, after = filled.roll_back("bracket", number=2)
    assert (after.lives, after.shadow, after.hash) == ((1,), 3, filled.product("bracket").hash)
    with pytest.raises(UsageError, match="Version 2 of bracket is not live, version 1 is: nothing was changed"):
        filled.roll_back("bracket", number=2)  # as somebody who repeats the command
    same = filled.promote("bracket", 3, "shadow")
    assert same[0] == same[1]
    entries = [json.loads(line) for line in lines(filled)]
    assert [entry["event"] for entry in entries[3:]] == ["promoted", "promoted", "promoted", "rolled back"]
    assert entries[4]["note"] == "better"
    assert {"user", "host", "version", "time"} <= set(entries[4])


def test_products_apart(filled: Registry, models: list[Path]) -> None:
    filled.add("angle-40x30", models[0])
    assert filled.products() == ["angle-40x30", "bracket"]
    with pytest.raises(UsageError, match="No version of angle-40x30 is live: `rstpm-edge registry promote"):
        filled.live("angle-40x30")
    with pytest.raises(UsageError, match="has no product screw: it has angle-40x30, bracket"):
        filled.product("screw")
    assert len(list((filled.folder / "models").iterdir())) == 3  # one for both products


@pytest.mark.parametrize("name", ["", "..", ".x", "a/b", "a\\b", "a b", "ä", "x" * 101, "a\n"])
def test_names_that_are_refused(registry: Registry, models: list[Path], name: str) -> None:
    with pytest.raises(UsageError, match="A product's name has up to 100 letters"):
        registry.add(name, models[0])
    assert os.listdir(registry.folder) == [MARKER]


def test_a_folder_that_is_no_registry(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no registry in"):
        open_registry(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match="holds something else than a registry"):
        make_registry(tmp_path)
    (tmp_path / MARKER).write_text('{"schema_version": 2, "needs": "9.0"}')
    with pytest.raises(ModelError, match=r"it needs rstpm-edge ≥ 9\.0"):
        open_registry(tmp_path)
    (tmp_path / MARKER).write_text("{")
    with pytest.raises(ModelError, match="is none of ours"):
        open_registry(tmp_path)


def test_a_model_that_does_not_work_is_not_added(registry: Registry, models: list[Path]) -> None:
    models[0].write_bytes(models[0].read_bytes()[:-50])
    with pytest.raises(ModelError, match="damaged"):
        registry.add("bracket", models[0])
    assert registry.products() == []


@pytest.mark.extra
def test_signatures(tmp_path: Path, registry: Registry, models: list[Path]) -> None:
    pair, other = make_pair(tmp_path), make_pair(tmp_path, "other")
    key = load_public_key(pair.public)
    with pytest.raises(SignatureError, match="is not signed"):
        registry.add("bracket", models[0], key=key)
    unsigned, _ = registry.add("bracket", models[0])
    sign_model(models[0], pair.key)
    signed, is_new = registry.add("bracket", models[0], key=key)
    assert is_new  # the same model, but now stations with a key take it
    assert (signed.number, signed.model.signed_by, signed.model.sha256) == (2, key.hint, unsigned.model.sha256)
    with pytest.raises(SignatureError, match="is not signed"):
        registry.promote("bracket", 1, "live", key=key)
    registry.promote("bracket", 2, "live", key=key)
    with pytest.raises(SignatureError, match="another key"):
        registry.promote("bracket", 2, "live", key=load_public_key(other.public))


def test_a_model_of_other_photos_is_not_promoted(registry: Registry, model_factory: ModelFactory) -> None:
    wide = make_profile(sizes=((64, 128),))
    for i, profile in enumerate((make_profile(), wide)):
        registry.add("bracket", model_factory(f"{i}.onnx", profile=profile))
    registry.promote("bracket", 1, "live")
    with pytest.raises(UsageError, match=r"so it is of another product or camera.*Stations that run would refuse it"):
        registry.promote("bracket", 2, "live")
    assert registry.live("bracket").number == 1
    registry.promote("bracket", 2, "live", force=True)
    assert registry.live("bracket").number == 2


def test_a_missing_or_damaged_file(filled: Registry, models: list[Path]) -> None:
    second = filled.product("bracket").version(2)
    file = filled.model_file(second.model)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ModelError, match="damaged"):
        filled.promote("bracket", 2, "live")
    file.write_bytes(models[2].read_bytes())  # one that works, but is another
    with pytest.raises(ModelError, match=r"is damaged: its SHA-256 is .* add the same model again"):
        filled.promote("bracket", 2, "live")
    file.unlink()
    with pytest.raises(ModelError):
        filled.promote("bracket", 2, "live")
    assert filled.live("bracket").number == 1
    assert not filled.add("bracket", models[1])[1]  # mends it
    filled.promote("bracket", 2, "live")
    filled.model_file(filled.product("bracket").version(1).model).unlink()
    with pytest.raises(ModelError, match="lacks"):
        filled.roll_back("bracket")
    assert filled.live("bracket").number == 2
    filled.promote("bracket", 3, "live")


def test_a_line_that_a_crash_cut_off(filled: Registry, models: list[Path]) -> None:
    path = filled.log_file("bracket")
    whole = path.read_bytes()
    for cut in (1, 20, len(lines(filled)[-1]) - 1):
        path.write_bytes(whole[:-cut])
        product = filled.product("bracket")
        # A line that lacks its line break alone says all that it has to say.
        assert (product.entries, product.live is None) == ((4, False) if cut == 1 else (3, True))
        filled.promote("bracket", 2, "live")
        assert filled.live("bracket").number == 2
        assert check_chain(path).faults == []
    path.write_bytes(whole + b"\0" * 300)
    assert filled.product("bracket").entries == 4
    filled.promote("bracket", 3, "live")
    assert filled.product("bracket").lives == (1, 3)


@pytest.mark.parametrize("spoil", ["changed", "removed", "first", "exchanged", "foreign"])
def test_a_log_that_was_changed(filled: Registry, spoil: str) -> None:
    filled.promote("bracket", 2, "live")
    path, found = filled.log_file("bracket"), lines(filled)
    if spoil == "changed":
        found[1] = found[1].replace(b'"note"', b'"nota"').replace(b'"version":2', b'"version":3')
    elif spoil == "removed":
        del found[2]
    elif spoil == "first":
        del found[0]
    elif spoil == "exchanged":
        found[2], found[3] = found[3], found[2]
    else:
        found.append(b"and more\n")
    path.write_bytes(b"".join(found))
    content = path.read_bytes()
    for use in (
        lambda: filled.live("bracket"),
        lambda: filled.promote("bracket", 1, "live"),
        lambda: filled.roll_back("bracket"),
    ):
        with pytest.raises(ModelError, match=r"The log of bracket was changed: .*copy the log from a backup"):
            use()
    assert path.read_bytes() == content


def test_lines_that_are_missing_at_the_end(filled: Registry) -> None:
    kept = filled.product("bracket").hash
    assert filled.logged("bracket", kept).product.hash == kept
    filled.log_file("bracket").write_bytes(b"".join(lines(filled)[:-1]))
    assert filled.product("bracket").live is None
    with pytest.raises(ModelError, match="No entry has the hash"):
        filled.logged("bracket", kept)


def test_a_log_that_hangs_together_and_lies(filled: Registry) -> None:
    """Whoever can write the folder can make a whole chain; what it says is looked at all the same."""
    from rstpm_edge.outputs.hash_chain import FIRST, link

    path = filled.log_file("bracket")
    path.write_bytes(link(1, FIRST, {"event": "promoted", "version": 7, "to": "live"})[0])
    with pytest.raises(ModelError, match="is damaged, or newer than this rstpm-edge: entry 1 cannot follow"):
        filled.live("bracket")


def test_a_folder_that_may_only_be_read(filled: Registry, models: list[Path]) -> None:
    def work() -> None:
        os.setgid(65534)
        os.setuid(65534)
        assert filled.live("bracket").number == 1
        for use in (
            lambda: filled.promote("bracket", 2, "live"),
            lambda: filled.roll_back("bracket"),
            lambda: filled.add("bracket", models[0], note="again"),
            lambda: filled.add("screw", models[0]),
        ):
            with pytest.raises((OutputError, UsageError)) as error:
                use()
            assert "Cannot" in str(error.value) or "No other version" in str(error.value)

    if os.getuid() != 0:
        pytest.skip("only root can become somebody who may not write")
    for folder in (filled.folder, *filled.folder.parents):
        if folder.stat().st_uid == 0 and str(folder).startswith("/tmp/"):
            os.chmod(folder, os.stat(folder).st_mode | 0o055)
    before = lines(filled)
    assert in_child(work) == 0
    assert lines(filled) == before


def test_a_full_disk(filled: Registry) -> None:
    """As a limit of the size of files gives: half a line can be written."""
    size, before = filled.log_file("bracket").stat().st_size, lines(filled)

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, size + 40))
        with pytest.raises(OutputError, match=r"Cannot write .*: the disk is full"):
            filled.promote("bracket", 2, "live")
        assert filled.product("bracket").lives == (1,)

    assert in_child(work) == 0
    assert lines(filled) == before
    filled.promote("bracket", 2, "live")


def test_two_writers(filled: Registry) -> None:
    """Whatever they do at the same time, each entry is there once, and follows on the one before."""
    script = (
        "import sys; from pathlib import Path; from rstpm_edge.registry.registry import open_registry\n"
        "registry = open_registry(Path(sys.argv[1]))\n"
        "from rstpm_edge.registry.product_log import Change, write_log\n"
        "def decide(now):\n"
        "    to = 'live' if now.shadow else 'shadow'\n"
        "    number = now.shadow or next(v.number for v in now.versions if now.stage(v.number) == 'candidate')\n"
        "    return Change('promoted', {'version': number, 'to': to, 'pid2': sys.argv[2]}, now.promoted(number, to))\n"
        "for _ in range(60): write_log(registry.log_file('bracket'), 'bracket', decide)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(filled.folder), str(i)], env=environment) for i in range(2)
    ]
    seen: list[int] = []
    while any(writer.poll() is None for writer in writers):
        seen.append(filled.product("bracket").entries)  # a reader never finds it damaged
    assert [writer.returncode for writer in writers] == [0, 0]
    assert seen == sorted(seen)
    found = [json.loads(line) for line in lines(filled)]
    assert [entry["entry"] for entry in found] == list(range(1, 125))
    assert {entry.get("pid2") for entry in found} == {None, "0", "1"}
    assert filled.product("bracket").entries == 124


def test_two_threads_that_add_the_same(registry: Registry, models: list[Path]) -> None:
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(registry.add("bracket", models[0])[0].number)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1, 1, 1, 1]
    assert len(lines(registry)) == 1
