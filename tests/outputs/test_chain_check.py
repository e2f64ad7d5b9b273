"""The check of an audit log: nobody changes, removes or inserts a line unseen, and a crash is told apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from audit_logs import entries, write_runs

from rstpm_edge.errors import UsageError
from rstpm_edge.outputs.chain_check import check_chain
from rstpm_edge.outputs.hash_chain import Link


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log of six entries."""
    path = tmp_path / "log.jsonl"
    write_runs(path)
    return path


def test_anybody_can_check_it_by_hand(path: Path) -> None:
    """As the reference says: the hash is that of the line without it."""
    before = "0" * 64
    for line in path.read_text().splitlines():
        body, found = line[:-1].rsplit(',"hash":"', 1)
        assert json.loads(line)["previous"] == before
        assert sha256(f"{body}}}".encode()).hexdigest() == found.strip('"')
        before = found.strip('"')


def test_a_log_as_it_was_written(path: Path) -> None:
    found = check_chain(path)
    assert (found.files, found.entries, found.first, found.last) == (1, 6, 1, 6)
    assert found.faults == found.notes == []
    assert found.last_hash == entries(path)[-1]["hash"]


@pytest.mark.parametrize("number", range(1, 7))
def test_any_changed_line_is_named(number: int, path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    lines[number - 1] = lines[number - 1].replace('"event":"st', '"event":"St')
    path.write_text("".join(lines))
    assert check_chain(path).faults == [f"Line {number} of {path} was changed, or is none of this log."]


def test_every_changed_byte_is_noticed(path: Path) -> None:
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert check_chain(path).faults != [], place


@pytest.mark.parametrize("number", range(2, 6))
def test_a_line_that_was_written_anew_is_named(number: int, path: Path) -> None:
    """Its own hash fits; that of the one before, in the next line, does not."""
    lines = path.read_text().splitlines(keepends=True)
    body = lines[number - 1].rsplit(',"hash":"', 1)[0].replace('"run":', '"Run":').replace('"normal":1', '"normal":9')
    lines[number - 1] = f'{body},"hash":"{sha256(f"{body}}}".encode()).hexdigest()}"}}\n'
    path.write_text("".join(lines))
    (fault,) = check_chain(path).faults
    assert fault.startswith(
        f"Line {number + 1} of {path}, entry {number + 1}, does not follow on entry {number}: one of"
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda lines: lines[:2] + lines[3:], "Line 3 of .*, entry 4, does not follow on entry 2: entry 3 is missing."),
        (lambda lines: lines[:1] + lines[4:], "Line 2 of .*, entry 5, .* on entry 1: 3 entries are missing."),
        (lambda lines: [*lines[:2], lines[1], *lines[2:]], "Line 3 of .*, entry 2, does not follow on entry 2: one of"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "Line 2 of .*, entry 1, does not follow on entry 2: one of"),
        (lambda lines: [*lines[:3], "some words\n", *lines[3:]], "Line 4 of .* was changed, or is none of this log."),
        (lambda lines: [*lines, "some words\n"], "Line 7 of .* was changed, or is none of this log."),
        (lambda lines: [*lines[:3], "\n", *lines[3:]], "Line 4 of .* was changed, or is none of this log."),
        (lambda lines: [*lines[:3], lines[3][:40] + "\n", *lines[4:]], "Line 4 of .* was changed, or is none"),
    ],
)
def test_lines_that_were_removed_or_inserted(change: Callable[[list[str]], list[str]], says: str, path: Path) -> None:
    import re

    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))
    assert re.match(says, check_chain(path).faults[0])


def test_what_is_missing_at_either_end(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    last = json.loads(lines[-1])["hash"]
    assert check_chain(path, last).faults == []
    path.write_text("".join(lines[2:]))
    found = check_chain(path, last)
    assert (found.faults, found.notes) == ([], ["The log begins with entry 3: what came before is not here."])
    path.write_text("".join(lines[:-1]))
    assert check_chain(path).faults == []  # nothing in the file itself says that there was more
    assert check_chain(path, last).faults == [
        f"No entry has the hash {last}: entries at the end were removed, or the log was written anew."
    ]


def test_a_line_that_was_cut_off_is_told_from_a_changed_one(path: Path) -> None:
    content = path.read_bytes()
    whole = content[: content.rindex(b"\n", 0, -1) + 1]
    for length in (1, 5, 9, 40, len(content) - len(whole) - 2):
        path.write_bytes(content[: len(whole) + length])
        found = check_chain(path)
        assert (found.faults, found.entries) == ([], 5)
        assert found.notes == [f"Line 6 of {path}, the last one, was cut off, as by a crash or a full disk."]
    write_runs(path, 1)  # goes on, and says so
    found = check_chain(path)
    assert found.faults == []
    assert [note.partition(" of ")[0] for note in found.notes] == ["Line 6"]
    assert [entry["event"] for entry in entries_but(path, 6)][-3:] == ["torn", "start", "stop"]
    write_runs(path, 1)
    assert check_chain(path).faults == []


def test_a_line_that_lacks_its_break_alone_is_whole(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])
    for runs in (0, 1):
        write_runs(path, runs)
        found = check_chain(path)
        assert (found.faults, found.notes, found.last) == ([], [], 6 + 2 * runs)


def entries_but(path: Path, torn: int) -> list[dict[str, Any]]:
    lines = path.read_text().splitlines()
    return [json.loads(line) for number, line in enumerate(lines, 1) if number != torn]


def test_the_very_first_line_may_be_cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])
    write_runs(path, 1)
    found = check_chain(path)
    assert (found.faults, found.first, found.last) == ([], 1, 3)


def test_zeros_that_a_power_cut_leaves(path: Path) -> None:
    path.write_bytes(path.read_bytes() + bytes(500))
    write_runs(path, 1)
    assert check_chain(path).faults == []


def test_no_log(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no audit log .*none; `rstpm-edge infer --audit-log FILE` writes"):
        check_chain(tmp_path / "none")
    with pytest.raises(UsageError, match="There is no audit log"):
        check_chain(tmp_path)
    (tmp_path / "empty").touch()
    with pytest.raises(UsageError, match="There is nothing in the audit log"):
        check_chain(tmp_path / "empty")


def test_a_hostile_log_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 1_000_000 + b"\n" + b"[" * 90_000 + b"\n\xff\xfe\n")
    found = check_chain(path)
    assert found.entries == 0
    assert 0 < len(found.faults) <= 100


def test_a_line_that_is_written_while_it_is_read(path: Path) -> None:
    """The first half of it is there when the file is read, and all of it a moment later."""
    whole = path.read_bytes()
    cut = len(whole) - 30
    path.write_bytes(whole[:cut])

    def on_it_goes(link: Link) -> None:
        if link.number == 1:
            with open(path, "ab") as file:
                file.write(whole[cut:])

    checked = check_chain(path, each=on_it_goes)
    assert (checked.entries, checked.faults) == (5, [])
    assert "was cut off" in checked.notes[-1]
    assert check_chain(path).entries == 6
