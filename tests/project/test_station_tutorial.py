"""docs/station-tutorial.md, run as it is written."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT
from waiting import until
from workplace import Workplace

PAGE = ROOT / "docs" / "station-tutorial.md"
pytestmark = pytest.mark.training


def blocks() -> list[str]:
    """What is typed, block by block; not what is shown of an answer, nor the installation."""
    found = re.findall(r"^```\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [block for block in found if not block.startswith(("id:", "pip "))]


class Shell:
    """A user's terminals in a folder: the port of the page is a free one here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port: int = server.getsockname()[1]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}

    def typed(self, text: str) -> str:
        assert "8080" in text or "curl" not in text
        return text.replace("8080", str(self.port))

    def run(self, text: str, code: int = 0) -> str:
        command = ["bash", "-euo", "pipefail", "-c", self.typed(text)]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=1500
        )
        assert done.returncode == code, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, text: str) -> subprocess.Popen[str]:
        log = open(self.folder / "station.log", "w")  # noqa: SIM115
        with log:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {self.typed(text)}"], cwd=self.folder, env=self.environment, stderr=log, text=True
            )
        until(lambda: "Serving on" in (self.folder / "station.log").read_text() or process.poll() is not None, 120)
        assert process.poll() is None, (self.folder / "station.log").read_text()
        return process


def follow(folder: Path, parts: Path, model: Path | None) -> dict[str, Any]:
    """Do what the page says, all but the training where there is a `model`; gives the state of the station."""
    train, serve, drop, events, send, shift = blocks()
    shutil.copytree(parts / "train" / "good", folder / "photos" / "good")
    (folder / "photos" / "new").mkdir()
    shutil.copy(next((parts / "test" / "good").iterdir()), folder / "photos" / "new" / "1.png")
    shell = Shell(folder)
    assert train.split("\n")[0].startswith("rstpm-edge train photos/good --max-minutes ")
    assert train.split("\n")[1] == "rstpm-edge export"
    if model is None:
        shell.run(train)
    else:
        shutil.copy(model, folder / "model.onnx")
    first, second = serve.strip().split("\n")
    shell.run(first)
    process = shell.start(second)
    try:
        shell.run(drop)
        until(lambda: "incoming/1.png" in (folder / "verdicts.csv").read_text())
        told = shell.run(events, code=28)  # curl's: the time is over
        (event,) = [json.loads(line[6:]) for line in told.splitlines() if line.startswith("data: ")]
        assert (event["path"], event["origin"], event["product"]) == ("incoming/1.png", "line", "model")
        assert event["verdict"] in ("normal", "anomalous", "invalid")
        assert f'event: verdict\ndata: {{"id": {event["id"]}, ' in told
        judged = json.loads(shell.run(send))
        assert (judged["verdict"], judged["score"]) == (event["verdict"], event["score"])
        assert (folder / "overlay.png").read_bytes().startswith(b"\x89PNG")
        decoder, state = json.JSONDecoder(), shell.run(shift)
        station, _ = decoder.raw_decode(state)
        assert [line["condition"] for line in station["lines"]] == ["running"]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        return dict(station)
    finally:
        process.kill()
        process.wait()


def test_all_but_the_training(tmp_path: Path, parts: Path, workplace: Workplace) -> None:
    station = follow(tmp_path, parts, workplace.model)
    assert sum(station["shift"]["counts"].values()) == 3  # the file, and the two that were sent


@pytest.mark.slow
def test_with_the_training(tmp_path: Path, parts: Path) -> None:
    follow(tmp_path, parts, None)
