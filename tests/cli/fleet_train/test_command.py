"""`rstpm-edge fleet train`: what it says, its exit codes, and what it refuses before the work."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fleet_results import result, without_model
from waiting import until
from workplace import command_line, finish, start

from rstpm_edge.cpu import usable_cores
from rstpm_edge.training.fleet_train import fleet as fleet_module
from rstpm_edge.training.fleet_train.fleet import FleetPlan
from rstpm_edge.training.fleet_train.result import ProductResult
from rstpm_edge.training.learning.checkpoint import load_checkpoint
from rstpm_edge.training.learning.run_summary import load_summary

pytestmark = pytest.mark.extra


@pytest.fixture
def products(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("bolt", "nut", "pin"):
        (tmp_path / "products" / name).mkdir(parents=True)
    return Path("products")


def answers(monkeypatch: pytest.MonkeyPatch, results: Sequence[ProductResult], interrupt: bool = False) -> None:
    def train_fleet(plan: FleetPlan, processors: int, *, report: Any, stop: Any, wording: Any) -> list[ProductResult]:
        report(results, [])
        if interrupt:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop()
        return [one if one.failure is None else replace(one, failure=wording(one.failure)) for one in results]

    monkeypatch.setattr(fleet_module, "train_fleet", train_fleet)


def test_a_table_worst_first(products: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(
        monkeypatch,
        [
            result("bolt"),
            result("nut", measured=None, needs=()),
            without_model("pin", "mend or give `skip_unreadable`."),
        ],
    )
    said = command_line("fleet", "train", products)
    assert said.exit_code == 3
    lines = said.stdout.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["product", "pin", "nut", "bolt"]
    assert lines[1].endswith("failed: mend or give --skip-unreadable.")
    assert lines[2].split() == ["nut", "80%", "(synthetic)", "–", "–", "120", "3.0", "nothing"]
    assert lines[3].split() == ["bolt", "90%", "0.970", "5%", "120", "3.0", "audit"]
    assert lines[-1] == "2 of 3 products have a model, 1 failed. Report: models/fleet.html, models/fleet.json"


def test_all_is_well(products: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, [result("bolt"), result("nut"), result("pin")])
    said = command_line("fleet", "train", products, "--json", "--out", "kept")
    assert said.exit_code == 0
    found = json.loads(said.stdout)
    assert [one["name"] for one in found["products"]] == ["bolt", "nut", "pin"]
    assert (found["waiting"], found["folder"]) == (0, "kept")


def test_an_interrupt_says_what_is_left(products: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, [result("bolt")], interrupt=True)
    said = command_line("fleet", "train", products)
    assert said.exit_code == 128 + signal.SIGINT
    assert said.stderr.splitlines()[-1] == "Stopped; the same command goes on: 2 products left."


def refused(*arguments: object) -> str:
    said = command_line("fleet", "train", *arguments)
    assert said.exit_code == 2
    assert len(said.stderr.splitlines()) == 1
    return said.stderr.strip()


def test_what_is_refused_before_the_work(products: Path) -> None:
    assert refused("gone") == "Error: gone is missing: give a folder of products."
    assert refused("products/bolt") == (
        "Error: There is no product in products/bolt: it holds a folder of photos for each."
    )
    assert refused(products, "--epochs", 0) == "Error: bolt: --epochs must be at least 1, not 0."
    assert refused(products, "--address", "1.2.3.4:5", "--workers", 2) == (
        "Error: --workers is for this machine: a cluster says itself how many processors it has."
    )
    assert refused(products, "--address", "nowhere") == (
        "Error: --address is host:port of a Ray cluster, or auto, not 'nowhere'."
    )
    assert refused(products, "--threads", 1000) == (
        f"Error: This machine has {usable_cores()} processors, fewer than --threads 1000."
    )
    Path("taken").write_text("a file")
    assert refused(products, "--out", "taken").startswith("Error: Cannot create the folder taken: ")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_command_goes_on(number: signal.Signals, parts: Path, tmp_path: Path) -> None:
    """Its workers die with it; the next one trains no epoch twice but the one that was under way."""
    for name in ("bolt", "nut"):
        shutil.copytree(parts, tmp_path / "products" / name)
    options = ["--size", 64, "--epochs", 60, "--set", "segmentation_head=false", "--device", "cpu"]
    command = ["fleet", "train", "products", *options]
    process = start(*command, cwd=tmp_path)
    models = tmp_path / "models"
    try:
        until(lambda: process.poll() is not None or len(list(models.glob("*/run-*/checkpoint.safetensors"))) == 2, 600)
        assert process.poll() is None, process.communicate()
        process.send_signal(number)
    finally:
        code, _, errors = finish(process)
    if number == signal.SIGTERM:
        assert code == 128 + number
        assert errors.splitlines()[-1] == "Stopped; the same command goes on: 2 products left."
    before = {run: load_checkpoint(run) for run in models.glob("*/run-*")}
    code, output, errors = finish(start(*command, cwd=tmp_path), timeout=1200)
    assert code == 0, errors
    assert "2 of 2 products have a model" in output
    for run, checkpoint in before.items():
        assert checkpoint is not None
        assert load_summary(run).losses[: checkpoint.epoch] == checkpoint.losses
        of_the_second = (run / "train.log").read_text().rpartition("Reading: done")[2]
        first = re.search(r"Students: .*epoch (\d+) of 60", of_the_second)
        assert first is not None
        assert int(first[1]) > checkpoint.epoch  # a worker may outlive the command by some seconds


@pytest.mark.parametrize("missing", ["ray", "torch"])
def test_packages_that_are_missing(products: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    for name in [one for one in sys.modules if one.startswith("rstpm_edge.training.fleet_train")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    said = refused(products)
    if missing == "ray":
        assert said.startswith("Error: This command needs Ray (ray is missing): pip install '.[fleet]'")
    else:
        assert "pip install '.[train]'" in said
    assert not Path("models").exists()


def test_a_disk_without_room(products: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(".")._replace(free=1000)
    monkeypatch.setattr(fleet_module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(
        fleet_module.OutputError, match=r"^3 products need about 0\.4 GB in .*, where 0\.0 GB are free: "
    ):
        fleet_module.check_room(Path("models"), 3)
