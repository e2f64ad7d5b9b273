"""Standard output and error that break, and a reader that goes away: of a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from checkout import ROOT


def start(model: Path, *arguments: object, **keywords: Any) -> subprocess.Popen[bytes]:
    code = "from rstpm_edge.cli.main import main; main(prog_name='rstpm-edge')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RSTPM_EDGE_MODEL": str(model)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, **{"stderr": subprocess.PIPE, **keywords})


def test_a_reader_that_goes_away(model: Path, photos: Path) -> None:
    process = start(model, "infer", *[photos] * 20, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    process.stdout.close()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 141
    assert errors == b""


def test_standard_output_on_a_full_disk(model: Path, photos: Path) -> None:
    with open("/dev/full", "wb") as full:
        process = start(model, "infer", photos, "--json", stdout=full)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 5
    assert errors == b"Error: Cannot write to standard output: No space left on device.\n"


def test_standard_error_on_a_full_disk(model: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "a.png").write_bytes(b"no image")
    arguments = ["--json", "--on-anomaly", f"sh -c 'echo x >> {tmp_path}/ran; exit 7'"]
    with open("/dev/full", "wb") as full, open(tmp_path / "verdicts", "wb") as verdicts:
        process = start(model, "infer", photos, photos, *arguments, stdout=verdicts, stderr=full)
        assert process.wait(60) == 3
    lines = [json.loads(line) for line in (tmp_path / "verdicts").read_text().splitlines()]
    assert ["error" in line for line in lines].count(True) == 2
    rejects = sum(line.get("is_anomalous", False) for line in lines)
    assert rejects == (tmp_path / "ran").read_text().count("x") > 0


@pytest.mark.parametrize("arguments", [["--help"], ["infer", "--help"]])
def test_help_that_nobody_reads(model: Path, arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = start(model, *arguments, stdout=writer)
    os.close(writer)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (141, b"")


def test_wrong_use_that_nobody_can_be_told(model: Path) -> None:
    with open("/dev/full", "wb") as full:
        assert start(model, "infer", "--none", stdout=full, stderr=full).wait(60) == 2


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["infer", "--help"]])
def test_help_onto_a_full_disk(model: Path, arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        process = start(model, *arguments, stdout=full)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors == b"Error: Cannot go on: No space left on device.\n"


def test_an_interrupt(model: Path, photos: Path) -> None:
    process = start(model, "infer", *[photos] * 2000, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == b""


def test_a_damaged_image_gets_one_line_and_odd_names_survive(model: Path, tmp_path: Path) -> None:
    content = bytearray(cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (64, 64)))[1].tobytes())
    folder = os.fsencode(tmp_path) + b"/photos"
    os.mkdir(folder)
    with open(folder + b"/\xff\xfe.png", "wb") as file:
        file.write(cv2.imencode(".png", np.full((9, 9), 127, np.uint8))[1].tobytes())
    with open(folder + b"/broken\xff.jpg", "wb") as file:
        file.write(content[: len(content) // 2] + content[-2:])
    out = tmp_path / "out"
    process = start(model, "infer", tmp_path / "photos", "--json", "--save-overlay", out, stdout=subprocess.PIPE)
    output, errors = process.communicate(timeout=60)
    assert process.returncode in (0, 1, 3)
    assert errors.count(b"\n") <= 1
    assert b"Traceback" not in errors
    assert len(output.splitlines()) == 2
    process = start(model, "infer", tmp_path / "photos", stdout=subprocess.PIPE)
    output, errors = process.communicate(timeout=60)
    assert b"Traceback" not in errors
    assert b"2 images" in output
