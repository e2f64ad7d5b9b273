"""`rstpm-edge infer --reload`: a new model while a folder is watched."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import swap_stress
from bundles import Fusion, make_bundle, make_model
from notify_socket import NotifySocket
from numpy.typing import NDArray
from waiting import until
from watcher import encoded
from workplace import command_line, finish, running

from rstpm_edge import Detector
from rstpm_edge.errors import ModelError
from rstpm_edge.image.mask import load_mask
from rstpm_edge.model_watch import POLL, SETTLED, ModelWatch, state_of
from rstpm_edge.outputs.chain_check import check_chain

TWICE = Fusion(weights=(2.0,) * 6)


def replace_file(path: Path, content: bytes) -> None:
    """Whole or not at all, as one should."""
    new = path.with_name("new")
    new.write_bytes(content)
    os.replace(new, path)


class Station:
    """A running `infer --watch --reload`, to which photos and models are given."""

    def __init__(self, folder: Path, systemd: NotifySocket, process: Any) -> None:
        self.systemd, self.process = systemd, process
        self._incoming, self._printed, self._errors = folder / "incoming", folder / "printed", folder / "errors"
        self._photos = 0

    def judge(self, image: NDArray[np.uint8]) -> dict[str, Any]:
        self._photos += 1
        (self._incoming / f"{self._photos}.png").write_bytes(encoded(image))
        until(lambda: len(self._printed.read_text().splitlines()) == self._photos)
        line: dict[str, Any] = json.loads(self._printed.read_text().splitlines()[-1])
        return line

    def said(self, sentence: str) -> None:
        """Wait until standard error says so."""
        until(lambda: sentence in self._errors.read_text())

    def hang_up(self) -> None:
        """As `systemctl reload` does; comes back when the station says that it is done."""
        self.process.send_signal(signal.SIGHUP)
        assert self.systemd.receive().startswith("RELOADING=1\nMONOTONIC_USEC=")
        assert self.systemd.receive() == "READY=1"

    def end(self) -> tuple[int, list[str]]:
        self.process.send_signal(signal.SIGTERM)
        code = finish(self.process)[0]
        return code, self._errors.read_text().splitlines()


@pytest.fixture
def station(model: Path, tmp_path: Path) -> Callable[..., Any]:
    @contextlib.contextmanager
    def start(*options: object) -> Iterator[Station]:
        (tmp_path / "incoming").mkdir()
        arguments = [tmp_path / "incoming", "--watch", "--json", "--reload", "--model", model, *options]
        with (
            open(tmp_path / "printed", "w") as output,
            open(tmp_path / "errors", "w") as errors,
            NotifySocket(tmp_path / "notify") as systemd,
            running("infer", *arguments, stdout=output, stderr=errors, env=systemd.environment) as process,
        ):
            assert systemd.receive() == "READY=1"
            yield Station(tmp_path, systemd, process)

    return start


def test_a_changed_file_and_a_signal(
    station: Any, model: Path, tmp_path: Path, good: NDArray[np.uint8], bad: NDArray[np.uint8]
) -> None:
    log, state = tmp_path / "log.jsonl", tmp_path / "drift.json"
    first = model.read_bytes()
    second = make_model(make_bundle(fusion=TWICE)).SerializeToString()
    masked = make_model(make_bundle(mask=load_mask(np.full((60, 80), True)).stored())).SerializeToString()
    hashes = [sha256(content).hexdigest() for content in (first, second)]
    with station("--audit-log", log, "--drift", "1%", "--drift-state", state) as running:
        before = running.judge(bad)
        replace_file(model, second)
        running.said("and judges from now on")  # noticed by itself
        after = running.judge(bad)
        assert [before["model_sha256"], after["model_sha256"]] == hashes
        assert after["score"] == pytest.approx(2 * before["score"])
        assert json.loads(state.read_text())["model_sha256"] == hashes[1]
        replace_file(model, first[:-100])
        running.hang_up()
        assert running.judge(good)["model_sha256"] == hashes[1]
        replace_file(model, masked)
        running.hang_up()
        replace_file(model, second)
        running.hang_up()
        code, errors = running.end()
    assert code == 1
    assert errors[0] == (
        f"The model {model} has changed, and judges from now on: SHA-256 {hashes[1][:12]}…, before {hashes[0][:12]}…."
    )
    assert errors[1] == "Drift: begins anew with the new model. With the one before, after 1 image: no drift."
    assert errors[2].startswith(f"Error: The model {model} is damaged, or not an ONNX file: ")
    assert errors[2].endswith(" The model before goes on judging.")
    assert errors[3].startswith("Error: --drift compares with held-out photos, which were judged without a mask ")
    assert errors[4] == f"The model {model} is the one that judges already."
    assert errors[5].endswith("; drift: stable; 1 new model taken, 2 new models refused")
    assert len(errors) == 6
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [entry["event"] for entry in entries] == ["start", "swap", "swap refused", "swap refused", "stop"]
    start, swap, refused, _, stop = entries
    assert (start["sha256"], swap["sha256"], refused["sha256"]) == (hashes[0], hashes[1], hashes[1])
    assert swap["changed"] == {"sha256": hashes}
    assert (swap["anomalous"], stop["anomalous"], stop["normal"]) == (1, 2, 1)
    assert "is damaged, or not an ONNX file" in refused["error"]
    assert check_chain(log, None).faults == check_chain(log, None).notes == []
    assert json.loads(state.read_text())["model_sha256"] == hashes[1]


def test_a_model_that_fails_on_a_photo_is_undone(
    station: Any, model: Path, tmp_path: Path, bad: NDArray[np.uint8]
) -> None:
    """It gives numbers for an empty image alone."""
    log, state = tmp_path / "log.jsonl", tmp_path / "drift.json"
    with station("--audit-log", log, "--drift", "1%", "--drift-state", state) as running:
        first = running.judge(bad)
        replace_file(model, swap_stress.changed(model.read_bytes(), note="", not_a_number=True))
        running.hang_up()
        second = running.judge(bad)
        _, errors = running.end()
    assert (second["score"], second["model_sha256"]) == (first["score"], first["model_sha256"])
    assert f"The model {model} cannot judge an image that the one before it can, which judges again: " in errors[2]
    assert errors[-1].endswith("; 1 new model taken, 1 new model rolled back")
    events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert events == ["start", "swap", "rolled back", "stop"]
    kept = json.loads(state.read_text())
    assert (kept["model_sha256"], sum(kept["counts"])) == (first["model_sha256"], 2)


def test_files_are_judged_by_one_model(model: Path, photos: Path) -> None:
    result = command_line("infer", photos, "--reload", "--model", model)
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: --reload is for cameras, streams and watched folders: files are judged by one model.\n"
    )


def test_a_threshold_set_by_hand_is_for_one_model(model: Path, photos: Path) -> None:
    """At the start, and not when the first new model is refused."""
    result = command_line("infer", photos, "--watch", "--reload", "--threshold", 3, "--model", model)
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: --reload does not go with --threshold: a score set by hand is for the model that runs, and scores of "
        "another one have another unit. Give --alpha RATE, of which each model has its own threshold.\n"
    )


def test_a_file_is_loaded_when_it_has_settled(tmp_path: Path, model: Path) -> None:
    """One that is written in pieces is not loaded before it is whole, and one that is gone is told of once."""
    detector, path, clock = Detector(model, threads=1), tmp_path / "served.onnx", [0.0]
    content = make_model(make_bundle(fusion=TWICE)).SerializeToString()
    loads: list[Any] = []

    def load() -> Any:
        loads.append(None)
        return detector.prepare(path)

    def outcome() -> Any:
        found: list[Any] = [None]

        def taken() -> bool:
            clock[0] += 0.1
            found[0] = watch.take()
            return found[0] is not None

        until(taken)
        return found[0]

    with ModelWatch(load, [path], state_of([path]), now=lambda: clock[0]) as watch:
        with open(path, "wb", buffering=0) as file:
            for piece in (content[:1000], content[1000:1500], content[1500:]):
                file.write(piece)
                time.sleep(2 * POLL)  # in which it is seen to have grown
                clock[0] += 0.7 * SETTLED
        assert loads == []
        assert outcome().sha256 == sha256(content).hexdigest()
        path.unlink()
        gone = outcome()
        assert isinstance(gone, ModelError)
        assert f"There is no model file {path}" in str(gone)
        clock[0] += 2 * SETTLED
        time.sleep(3 * POLL)
        assert watch.take() is None
    assert len(loads) == 2


def test_what_nobody_foresaw_ends_nothing(model: Path) -> None:
    def load() -> Any:
        raise MemoryError

    with ModelWatch(load, [model], state_of([model])) as watch:
        for _ in range(2):
            watch.ask()
            told: list[Any] = []
            until(lambda told=told: told.append(watch.take()) or told[-1] is not None)  # type: ignore[misc]
            assert "Memory or open files ran out" in str(told[-1])
