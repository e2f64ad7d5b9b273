"""`tools/faults.py` finds what it looks for, and a moment of it passes."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT
from fault_commands import Outcome, one_sentence
from fault_registry import check_registry
from fault_station import Station

from rstpm_edge.outputs.journal import Journal
from rstpm_edge.registry.registry import Registry, make_registry
from rstpm_edge.sources.file_state import FileState, WatchedFile


@pytest.fixture
def station(tmp_path: Path) -> Station:
    """Three files came, and each has its verdict."""
    station = Station(tmp_path / "station", random.Random(0))
    for _ in range(3):
        station.arrive(damaged=0)
    with Journal(station.journal, report=print) as journal, open(station.printed, "w") as printed:
        for name, size, changed in sorted(station.arrived):
            fields = {"path": f"incoming/{name}", "time": name, "is_anomalous": ".bad." in name}
            with journal.entry(WatchedFile(name, FileState(1, size, changed)), fields, "a" * 64):
                printed.write(json.dumps(fields) + "\n")
    station.table.write_text("path,verdict,score,p_value,threshold,regions,ms,error\n")
    return station


def found(station: Station) -> list[str]:
    outcome = Outcome("a fault", "everything")
    station.check_end(outcome)
    return [failure.partition(": ")[2] for failure in outcome.failures]


def test_where_all_is_well_nothing_is_found(station: Station) -> None:
    assert found(station) == []


def test_a_file_is_written_anew_only_where_it_was_judged(tmp_path: Path) -> None:
    """One that is written over before it was judged can have no verdict."""
    station = Station(tmp_path / "station", random.Random(0))
    name = _good(station)
    (identity,) = station.arrived
    _judge(station, identity)
    station.arrive(again=1)
    (written_anew,) = station.arrived - {identity}
    assert written_anew[0] == name
    station.arrive(again=1, damaged=0)
    (another,) = station.arrived - {identity, written_anew}
    assert another[0] != name
    _judge(station, written_anew)
    station.arrive(again=1)
    assert [one[0] for one in station.arrived].count(name) == 3


def _good(station: Station) -> str:
    """The name of a good part that comes, the only one."""
    while True:
        station.arrive(damaged=0, again=0)
        ((name, _, _),) = station.arrived
        if ".good." in name:
            return name
        station.arrived.clear()


def _judge(station: Station, identity: tuple[str, int, int]) -> None:
    name, size, changed = identity
    with (
        Journal(station.journal, report=print) as journal,
        journal.entry(WatchedFile(name, FileState(1, size, changed)), {"path": f"incoming/{name}"}, "a" * 64),
    ):
        pass


def _repeat_line(station: Station) -> None:
    with open(station.printed, "a") as printed:
        printed.write(station.printed.read_text().splitlines()[0] + "\n")


def _judge_twice(station: Station) -> None:
    name, size, changed = sorted(station.arrived)[0]
    fields = {"path": f"incoming/{name}", "time": "again", "is_anomalous": ".bad." in name}
    with (
        Journal(station.journal, report=print) as journal,
        journal.entry(WatchedFile(name, FileState(2, size, changed)), fields, "a" * 64),
    ):
        pass


def _wrong_verdict(station: Station) -> None:
    text = station.printed.read_text()
    station.printed.write_text(text.replace('"is_anomalous": false', '"is_anomalous": true', 1))
    assert text != station.printed.read_text()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_repeat_line, "a verdict was printed twice"),
        (_judge_twice, "the journal has a verdict twice"),
        (_wrong_verdict, "is wrong"),
        (lambda station: station.arrive(), "3 of 4 have a verdict"),
        (lambda station: station.printed.write_text(station.printed.read_text()[:-9]), "half a line was printed"),
        (lambda station: station.printed.write_text(""), "3 verdicts were not printed, and 0 are known as such"),
        (
            lambda station: station.table.write_text("path,verdict,score,p_value,threshold,regions,ms,error\nx,norm"),
            "half a row",
        ),
        (lambda station: station.log.write_text('{"entry":1}\n'), "the audit log does not hang together"),
        (lambda station: station.drift.write_text("{"), "half a drift state"),
    ],
)
def test_what_is_wrong_is_found(station: Station, spoil: Any, sentence: str) -> None:
    spoil(station)
    assert any(sentence in failure for failure in found(station))


def test_what_counts_as_one_sentence() -> None:
    assert one_sentence("Reading\nError: Cannot write x: No space left on device.\n")
    assert not one_sentence("Error: Cannot write x.\nError: Cannot write y.\n")
    assert not one_sentence("Traceback (most recent call last):\nError: Cannot write x.\n")


def test_a_moment_of_it(tmp_path: Path) -> None:
    command = [
        sys.executable,
        ROOT / "tools" / "faults.py",
        "--times",
        "3",
        "--files",
        "30",
        "--only",
        "watch,log,registry,two,device,clock",
        "--keep",
        tmp_path / "f",
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert run.returncode == 0, run.stderr
    rows = [line.split(" | ") for line in run.stdout.splitlines()[2:]]
    assert [(row[1], row[3]) for row in rows] == [("3", "0 |")] * 3 + [("1", "0 |")] * 3


def _forget_entries(registry: Registry, acknowledged: set[str]) -> None:
    log = registry.log_file("bracket")
    log.write_bytes(log.read_bytes().splitlines(keepends=True)[0])


def _spoil_model(registry: Registry, acknowledged: set[str]) -> None:
    next(registry.folder.glob("models/*/model.onnx")).write_bytes(b"half")


def _change_line(registry: Registry, acknowledged: set[str]) -> None:
    log = registry.log_file("bracket")
    log.write_bytes(log.read_bytes().replace(b'"to":"live"', b'"to":"Live"'))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (None, None),
        (_forget_entries, "1 entries that were acknowledged are missing"),
        (_spoil_model, "is damaged"),
        (_change_line, "was changed, or is none of this log"),
        (lambda registry, acknowledged: registry.log_file("bracket").unlink(), "the log is gone"),
        (lambda registry, acknowledged: shutil.rmtree(registry.folder), "the registry is gone"),
    ],
)
def test_what_is_wrong_with_a_registry_is_found(tmp_path: Path, model: Path, spoil: Any, sentence: str | None) -> None:
    registry = make_registry(tmp_path / "registry")
    registry.add("bracket", model)
    registry.promote("bracket", 1, "live")
    acknowledged = {registry.product("bracket").hash}
    if spoil is not None:
        spoil(registry, acknowledged)
    outcome = Outcome("a fault", "everything")
    check_registry(registry.folder, acknowledged, outcome)
    assert any(sentence in failure for failure in outcome.failures) if sentence else outcome.failures == []
