"""`rstpm-edge infer FOLDER --watch`, as a user types it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
from notify_socket import NotifySocket
from numpy.typing import NDArray
from waiting import until
from watcher import encoded
from workplace import command_line, finish, running


def test_settling_is_of_watched_folders(model: Path, tmp_path: Path) -> None:
    result = command_line("infer", tmp_path, "--settle", 1, "--model", model)
    assert (result.exit_code, result.stderr) == (2, "Error: --settle goes with --watch only.\n")


def test_a_folder_that_is_not_there_yet_is_no_wrong_use(model: Path, tmp_path: Path) -> None:
    result = command_line("infer", tmp_path / "share", "--watch", "--model", model)
    assert result.exit_code == 3  # after which a service is started again
    assert result.stderr == f"Error: Cannot watch {tmp_path / 'share'}: it is not there.\n"


def test_a_folder_that_is_not_there_is_not_made_for_what_is_written_into_it(model: Path, tmp_path: Path) -> None:
    share = tmp_path / "share"
    for more in (["--watch"], []):
        result = command_line("infer", share, *more, "--model", model, "--save-overlay", share / "rejects")
        assert result.exit_code == 3
        assert not share.exists()


def test_an_empty_source_is_wrong_use(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (["", "--watch"], [""], [tmp_path, ""]):
        result = command_line("infer", *arguments, "--model", model, "--save-overlay", "out")
        assert result.exit_code == 2
        assert result.stderr == ("Error: The name of a source is empty: give a file, a folder, a camera or a stream.\n")
    assert not (tmp_path / "out").exists()


def test_watching(model: Path, tmp_path: Path, good: NDArray[np.uint8], bad: NDArray[np.uint8]) -> None:
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    (incoming / "old.png").write_bytes(encoded(bad))
    printed = tmp_path / "printed"
    arguments = [incoming, "--watch", "--json", "--model", model, "--save-overlay", incoming / "out"]
    with (
        open(printed, "w") as output,
        NotifySocket(tmp_path / "notify") as systemd,
        running("infer", *arguments, stdout=output, env=systemd.environment) as process,
    ):
        assert systemd.receive() == "READY=1"
        for name, image in (("1.png", good), ("2.png", bad)):
            (incoming / name).write_bytes(encoded(image))
            until(lambda name=name: name in printed.read_text())  # type: ignore[misc]
        process.send_signal(signal.SIGTERM)
        code, _, errors = finish(process, 60)
    assert code == 1
    lines = [json.loads(line) for line in printed.read_text().splitlines()]
    assert [(Path(line["path"]).name, line["is_anomalous"]) for line in lines] == [("1.png", False), ("2.png", True)]
    assert all("time" in line for line in lines)
    assert errors.startswith("2 images: 1 normal, 1 anomalous, 0 invalid, 0 failed; ")
    assert sorted(path.name for path in (incoming / "out").iterdir()) == ["1.png.overlay.png", "2.png.overlay.png"]


def test_a_picture_that_cannot_be_written_ends_no_watching(
    model: Path, tmp_path: Path, good: NDArray[np.uint8], bad: NDArray[np.uint8]
) -> None:
    incoming, out, printed = tmp_path / "incoming", tmp_path / "out", tmp_path / "printed"
    incoming.mkdir()
    arguments = [incoming, "--watch", "--json", "--model", model, "--save-overlay", out]
    with (
        open(printed, "w") as output,
        NotifySocket(tmp_path / "notify") as systemd,
        running("infer", *arguments, stdout=output, env=systemd.environment) as process,
    ):
        assert systemd.receive() == "READY=1"  # the folder is watched
        out.rmdir()
        out.write_text("no folder, as a disk that is full is none to write to")
        for name in ("1.png", "2.png"):
            (incoming / name).write_bytes(encoded(bad))
            until(lambda name=name: name in printed.read_text())  # type: ignore[misc]
        out.unlink()
        (incoming / "3.png").write_bytes(encoded(good))
        until(lambda: "3.png" in printed.read_text())
        process.send_signal(signal.SIGTERM)
        code, _, errors = finish(process, 60)
    assert code == 5
    assert [json.loads(line)["is_anomalous"] for line in printed.read_text().splitlines()] == [True, True, False]
    trouble, better, summary = errors.splitlines()  # said once, not for each
    assert trouble == f"Error: Cannot create the folder {out}: File exists. Judging goes on without."
    assert better == "Pictures and maps can be written again."
    assert summary.startswith("3 images: 1 normal, 2 anomalous, 0 invalid, 0 failed; ")
    assert summary.endswith("; 2 images without pictures or maps")
    assert [path.name for path in out.iterdir()] == ["3.png.overlay.png"]


def test_a_folder_that_pictures_are_written_into_is_not_watched(model: Path, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "there" / ".."):
        (tmp_path / "there").mkdir(exist_ok=True)
        result = command_line("infer", tmp_path, "--watch", "--model", model, "--save-overlay", folder)
        assert result.exit_code == 2
        assert result.stderr == (
            f"Error: Pictures and maps cannot be written into {tmp_path} itself, whose images are judged: "
            f"give another folder, such as {tmp_path / 'results'}.\n"
        )
