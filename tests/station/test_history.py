"""What a station keeps: through kills and full disks, for as long as it shall, and what people say of it."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import resource
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from checkout import ROOT
from confirmed import patterned
from judged import START, failed, inspect, inspect_all, rgb
from numpy.typing import NDArray
from waiting import until

from rstpm_edge import Detector
from rstpm_edge.errors import OutputError, UsageError
from rstpm_edge.outputs.journal import Journal
from rstpm_edge.station.history import history as history_module
from rstpm_edge.station.history import retention as retention_module
from rstpm_edge.station.history.corrections import Corrections
from rstpm_edge.station.history.database import HISTORY
from rstpm_edge.station.history.export import row_of
from rstpm_edge.station.history.history import History
from rstpm_edge.station.history.parts import PartReader
from rstpm_edge.station.history.pictures import MAP, MAP_THRESHOLD, PHOTO, SMALL, Pictures
from rstpm_edge.station.history.retention import DAY, MAKE_ROOM, Retention, Room

Image = NDArray[np.uint8]


def opened(folder: Path, **options: Any) -> History:
    return History(folder, rgb=rgb, **options)


def files(folder: Path) -> list[str]:
    # Not by rglob, which raises where a folder is removed meanwhile.
    return sorted(name for _, _, names in os.walk(folder / "pictures") for name in names)


def test_verdicts_and_pictures_come_back(tmp_path: Path, detector: Detector, good: Image, bad: Image) -> None:
    with opened(tmp_path / "kept") as history:
        for inspection in (inspect(detector, good, 0), inspect(detector, bad, 1), failed(2)):
            history.add(inspection)
        assert history.flush(30)
        third, second, first = history.parts.last()
        assert [one.verdict for one in (first, second, third)] == ["normal", "anomalous", "failed"]
        assert (first.id, first.judged, first.model_sha256) == (START, START, detector.sha256)
        assert (second.width, second.height, second.name) == (160, 120, "in/1.png")
        assert second.score == detector(bad).score
        assert second.fields["regions"][0]["box"] == list(detector(bad).regions[0].box)
        assert [one.has_pictures for one in (first, second, third)] == [True, True, False]
        assert third.fields["error"] == "Cannot read in/2.png."
        photo = cv2.imdecode(np.frombuffer(history.pictures.read(second.id, PHOTO) or b"", np.uint8), cv2.IMREAD_COLOR)
        assert photo is not None
        assert np.abs(photo.astype(int) - bad).mean() < 2
        heat = cv2.imdecode(np.frombuffer(history.pictures.read(second.id, MAP) or b"", np.uint8), 0)
        assert heat is not None
        assert heat.shape == (120, 160)
        assert heat[45, 100] > MAP_THRESHOLD > 2 * heat[100, 20]
        small = cv2.imdecode(np.frombuffer(history.pictures.read(second.id, SMALL) or b"", np.uint8), 1)
        assert small is not None
        assert small.shape == (120, 160, 3)
        assert [one.id for one in history.parts.last(verdict="anomalous")] == [second.id]
        assert [one.id for one in history.parts.last(1, before=second.id)] == [first.id]
        assert history.parts.last(origin="another") == []
    with PartReader(tmp_path / "kept") as reader:
        assert [one.id for one in reader.all()] == [first.id, second.id, third.id]


def test_one_process_keeps_it_and_another_database_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path / "kept"), pytest.raises(UsageError, match="Another process keeps the history"):
        opened(tmp_path / "kept")
    (tmp_path / "other").mkdir()
    with Journal(tmp_path / "other" / "history.sqlite", report=print):
        pass
    with pytest.raises(UsageError, match="holds something else than the history of a station"):
        opened(tmp_path / "other")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        opened(tmp_path / "file")
    with pytest.raises(UsageError, match="There is no history"):
        PartReader(tmp_path / "nothing")


KEEP = """
import sys
from checkout import ROOT
from confirmed import patterned
from judged import inspect, rgb
from pathlib import Path
from rstpm_edge import Detector
from rstpm_edge.station.history.history import History

folder, model, start = sys.argv[1:]
detector = Detector(model, threads=1)
history = History(Path(folder), rgb=rgb)
for number in range(100_000):
    history.add(inspect(detector, patterned(3, number), int(start) + number))
    if number % 4 == 3:
        history.flush(30)
        print(history.parts.last(1)[0].id, flush=True)
"""


def test_kills_leave_what_was_written_and_nothing_half(tmp_path: Path, model: Path) -> None:
    """A process that is killed at some moment, and started again."""
    folder, told = tmp_path / "kept", set[int]()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "helpers")])}
    for turn in range(4):
        command = [sys.executable, "-c", KEEP, str(folder), str(model), str(100_000 * turn)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            for _ in range(turn + 1):
                told.add(int(process.stdout.readline()))
            time.sleep(0.007 * turn)  # into what follows
            process.kill()
        with opened(folder) as history:
            kept = {one.id: one for one in history.parts.all()}
            assert told <= set(kept)  # whoever was told of it finds it
            there = set(history.pictures.parts())
            assert there == {part for part, one in kept.items() if one.has_pictures}
            for part in there:
                assert all(history.pictures.read(part, ending) for ending in (PHOTO, SMALL, MAP))


def test_the_oldest_pictures_go_first_and_verdicts_never(tmp_path: Path, detector: Detector) -> None:
    photos = [patterned(3, seed) for seed in range(120)]
    with opened(tmp_path / "kept", retention=Retention(bytes=200_000)) as history:
        for inspection in inspect_all(detector, photos):
            history.add(inspection)
            history.flush(30)
        kept = list(history.parts.all())
        assert len(kept) == 120
        assert [one.has_pictures for one in kept] == sorted(one.has_pictures for one in kept)
        assert not kept[0].has_pictures
        assert kept[-1].has_pictures
        assert (
            sum(path.stat().st_size for path in (tmp_path / "kept" / "pictures").rglob("*") if path.is_file()) < 210_000
        )


def test_what_is_older_than_the_days_goes(
    tmp_path: Path, detector: Detector, good: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention_module, "STEADY", 0.0)
    clock = [START / 1000]
    with opened(tmp_path / "kept", retention=Retention(days=2)) as history:
        history.add(inspect(detector, good, 0))
        assert history.flush(30)
    clock[0] += 3 * 86400
    with opened(tmp_path / "kept", retention=Retention(days=2), clock=lambda: clock[0]) as history:
        history.add(inspect(detector, good, 3 * 86_400_000))
        assert history.flush(30)
        assert [one.id for one in history.parts.all()] == [START + 3 * 86_400_000]
    assert len(files(tmp_path / "kept")) == 3


class Ageing:
    """A history that keeps 90 days, and looks for what is older; its clock may be set to anything."""

    def __init__(self, folder: Path, parts: dict[int, int]) -> None:
        """parts: when each was judged, by its id; both in ms since 1970."""
        with opened(folder) as history:
            for part, judged in parts.items():
                history.add(dataclasses.replace(failed(0), id=part, time=judged / 1000))
            assert history.flush(30)
        self.clock, self.time = START / 1000, 500.0  # the latter is that of the machine, which nobody sets
        self._database = HISTORY.open(folder / "history.sqlite")
        self._room = Room(
            self._database,
            threading.Lock(),
            Pictures(folder / "pictures"),
            Retention(days=90),
            lambda: self.clock,
            lambda: self.time,
        )

    def run(self, hours: float) -> list[int]:
        """Ids that are kept after so many hours, with a look each minute."""
        for _ in range(round(hours * 60)):
            self.clock += 60
            self.time += 60
            self._room.forget()
        return [part for (part,) in self._database.execute("SELECT id FROM part ORDER BY id")]

    def close(self) -> None:
        self._database.close()


def test_a_clock_that_jumps_costs_no_verdict(tmp_path: Path) -> None:
    with contextlib.closing(Ageing(tmp_path / "kept", {START: START, START + DAY: START + DAY})) as ageing:
        kept = ageing.run(0.5)
        ageing.clock += 365 * DAY / 1000
        assert ageing.run(0.5) == kept
        ageing.clock -= 365 * DAY / 1000
        assert ageing.run(2) == kept
        ageing.clock += 90.5 * DAY / 1000  # and it was right
        assert ageing.run(0.9) == kept
        assert ageing.run(0.2) == kept[1:]


def test_a_start_with_a_wrong_clock_costs_no_verdict(tmp_path: Path) -> None:
    with contextlib.closing(Ageing(tmp_path / "kept", {START: START})) as ageing:
        ageing.clock += 365 * DAY / 1000
        assert ageing.run(0.9) == [START]
        ageing.clock -= 365 * DAY / 1000
        assert ageing.run(2) == [START]


def test_parts_of_a_clock_that_was_not_set_are_as_old_as_those_beside_them(tmp_path: Path) -> None:
    first, later = 100_000, START + 50 * DAY  # the clock began in 1970, at first and after a restart
    with contextlib.closing(
        Ageing(tmp_path / "kept", {first: first, START: START, START + 1: 200_000, later: later})
    ) as ageing:
        assert ageing.run(2) == [first, START, START + 1, later]
        ageing.clock += 90 * DAY / 1000
        assert ageing.run(2) == [later]


def test_parts_after_a_clock_that_was_ahead_go_by_when_they_were_judged(tmp_path: Path) -> None:
    ahead = START + 3650 * DAY  # one part's clock; ids only grow from there
    times = {ahead: ahead, ahead + 1: START, ahead + 2: 200_000, ahead + 3: START + 50 * DAY}
    with contextlib.closing(Ageing(tmp_path / "kept", times)) as ageing:
        ageing.clock += 90.5 * DAY / 1000
        assert ageing.run(2) == [ahead, ahead + 2, ahead + 3]


def test_a_full_disk_takes_old_pictures_for_new_ones(
    tmp_path: Path, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that has room for the pictures of 40 parts."""
    write = Pictures.write

    def full(self: Pictures, part: int, *arguments: Any) -> int:
        if len(set(self.parts())) >= 40:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, part, *arguments)

    monkeypatch.setattr(Pictures, "write", full)
    said: list[str] = []
    with opened(tmp_path / "kept", report=said.append) as history:
        for inspection in inspect_all(detector, [patterned(3, seed) for seed in range(100)]):
            history.add(inspection)
            history.flush(30)
        kept = list(history.parts.all())
    assert said == []
    assert len(kept) == 100
    with_pictures = [one.id - START for one in kept if one.has_pictures]
    assert with_pictures == list(range(100 - len(with_pictures), 100))
    assert 40 - MAKE_ROOM <= len(with_pictures) <= 40


def test_verdicts_wait_while_the_database_cannot_be_written(tmp_path: Path, detector: Detector) -> None:
    said: list[str] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with opened(tmp_path / "kept", report=said.append) as history:
        history.add(failed(0))
        assert history.flush(30)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "kept" / "history.sqlite-wal").stat().st_size, hard))
            for number in (1, 2):
                history.add(failed(number))
            until(lambda: bool(said))
            assert not history.flush(0)
            assert said[0].startswith("Cannot write the history")
            assert said[0].endswith("Judging goes on.")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        history.add(inspect(detector, patterned(3, 0), 3))
        assert history.flush(30)
        assert said[1:] == [f"The history {tmp_path / 'kept'} can be written again."]
        assert [one.id - START for one in history.parts.all()] == [0, 1, 2, 3]
        assert history.lost == 0


def test_a_database_that_another_program_holds_costs_no_picture(tmp_path: Path, detector: Detector) -> None:
    said: list[str] = []
    with opened(tmp_path / "kept", report=said.append) as history:
        for inspection in inspect_all(detector, [patterned(3, seed) for seed in range(4)]):
            history.add(inspection)
        assert history.flush(30)
        before = files(tmp_path / "kept")
        with contextlib.closing(sqlite3.connect(tmp_path / "kept" / "history.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            history.add(inspect(detector, patterned(3, 4), 4))
            until(lambda: bool(said))
            assert said[0].startswith("Cannot write the history")
            assert set(before) <= set(files(tmp_path / "kept"))
            other.execute("ROLLBACK")
        assert history.flush(30)
        assert [one.has_pictures for one in history.parts.all()] == [True] * 5  # also of the one that had to wait
        assert history.pictures.read(START + 4, PHOTO) is not None


def test_a_damaged_database_costs_no_picture(tmp_path: Path, detector: Detector) -> None:
    said: list[str] = []
    with opened(tmp_path / "kept") as history:
        for inspection in inspect_all(detector, [patterned(3, seed) for seed in range(4)]):
            history.add(inspection)
        assert history.flush(30)
        (size,) = history._database.execute("PRAGMA page_size").fetchone()
        (page,) = history._database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'judged'").fetchone()
        before = files(tmp_path / "kept")
    with open(tmp_path / "kept" / "history.sqlite", "r+b") as file:
        file.seek((page - 1) * size)
        file.write(bytes([255]) * size)
    with opened(tmp_path / "kept", report=said.append) as history:
        history.add(inspect(detector, patterned(3, 4), 4))
        until(lambda: bool(said))
        assert not history.flush(1)  # tried again meanwhile
        assert set(before) <= set(files(tmp_path / "kept"))


def test_a_full_database_takes_the_room_of_old_pictures(tmp_path: Path, detector: Detector) -> None:
    with opened(tmp_path / "kept", report=lambda said: None) as history:
        for inspection in inspect_all(detector, [patterned(3, seed) for seed in range(4)]):
            history.add(inspection)
        assert history.flush(30)
        history._database.execute("PRAGMA max_page_count = 1")  # it stays as large as it is
        for number in range(100):
            history.add(failed(10 + number))
        until(lambda: files(tmp_path / "kept") == [])
        history._database.execute("PRAGMA max_page_count = 100000")
        assert history.flush(30)


def test_a_name_that_is_no_text_is_kept_as_it_may_be_printed(tmp_path: Path, detector: Detector, good: Image) -> None:
    name = os.fsdecode(b"in/\xff.png")
    with opened(tmp_path / "kept") as history:
        assert history.newest() == 0
        history.add(inspect(detector, good, 0, path=name))
        history.add(dataclasses.replace(failed(1), fields={**failed(1).fields, "error": f"Cannot read {name}."}))
        assert history.flush(30)
        first, second = history.parts.all()
        assert (first.name, first.fields["path"]) == ("in/\\xff.png", name)
        assert row_of(second)["reason"] == "Cannot read in/\\xff.png."
        assert history.newest() == START + 1


def test_photos_of_verdicts_that_were_lost_leave_room_for_others(
    tmp_path: Path, detector: Detector, good: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "WAITING", 3)
    monkeypatch.setattr(history_module, "AT_ONCE", 1)
    with opened(tmp_path / "kept", report=lambda said: None) as history:
        with history._writing:  # as a disk that takes nothing
            for number in range(60):
                history.add(inspect(detector, good, number))
            assert history.lost > 50
        assert history.flush(30)
        history.add(inspect(detector, good, 90))
        assert history.flush(30)
        part = history.parts.get(START + 90)
        assert part is not None
        assert part.has_pictures


def test_notes_and_what_holds(tmp_path: Path, detector: Detector, good: Image, bad: Image) -> None:
    with opened(tmp_path / "kept") as history:
        history.add(inspect(detector, good, 0))
        history.add(inspect(detector, bad, 1))
        passed, reject = START, START + 1
        history.note(reject, "acknowledged", person="Ada")
        history.note(reject, "comment", comment="a scratch")
        part = history.parts.get(reject)
        assert part is not None
        assert (part.standing, part.notes[0].person, part.notes[1].comment) == ("acknowledged", "Ada", "a scratch")
        history.note(reject, "withdrawn")
        part = history.parts.get(reject)
        assert part is not None
        assert part.standing is None
        for number, kind, said in (
            (passed, "acknowledged", "not rejected"),
            (passed, "good", "not rejected"),
            (reject, "defect", "not passed as good"),
            (reject, "comment", "empty"),
            (reject, "nonsense", "A note is one of"),
            (START + 9, "good", "no part"),
        ):
            with pytest.raises(UsageError, match=said):
                history.note(number, kind)
        with pytest.raises(UsageError, match="at most 2000"):
            history.note(reject, "comment", comment="a" * 2001)


def test_what_was_wrong_is_kept_for_the_next_training(
    tmp_path: Path, detector: Detector, good: Image, bad: Image
) -> None:
    file = tmp_path / "in" / "part.png"
    file.parent.mkdir()
    cv2.imwrite(str(file), bad)
    with opened(tmp_path / "kept") as history:
        corrections = Corrections(history)
        history.add(inspect(detector, bad, 0, path=str(file), taken=file.stat().st_mtime))
        history.add(inspect(detector, good, 1))
        assert corrections.keep(history.note(START, "good", person="Ada", comment="=1+1"))
        assert corrections.keep(history.note(START + 1, "defect", comment="a hair"))
        kept = corrections.folder
        assert (kept / "good" / f"{START}.png").read_bytes() == file.read_bytes()  # the file itself: nothing is lost
        assert (kept / "defective" / f"{START + 1}.jpg").exists()  # of a camera's frame, what was kept
        rows = (kept / "comments.csv").read_text().splitlines()
        assert rows[1].startswith(f"good/{START}.png,good,{START},")
        assert rows[1].endswith(",'=1+1")  # no formula
        assert not corrections.keep(history.note(START, "acknowledged"))
        assert list((kept / "good").iterdir()) == []
        file.write_bytes(b"another part now")
        assert corrections.keep(history.note(START, "good"))
        assert [path.name for path in (kept / "good").iterdir()] == [f"{START}.jpg"]
