"""What many products cost, by rates that were measured."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from traced import traced_already
from workplace import Workplace, command_line

from rstpm_edge.errors import UsageError
from rstpm_edge.training.data.holdout import wanted_count
from rstpm_edge.training.fleet_plan.plan import Plan, Workload, plan_fleet, training_seconds
from rstpm_edge.training.fleet_plan.rates import Rates
from rstpm_edge.training.learning.augmentation import versions
from rstpm_edge.training.learning.options import TrainingOptions
from rstpm_edge.training.learning.stage_times import StageRates
from rstpm_edge.training.learning.synthetic_scores import synthetic_count
from rstpm_edge.training.model.presets import EDGE

STAGES = StageRates(teachers=0.01, step=0.005, look=0.002, painted=0.0, head_step=0.0)
RATES = Rates(
    size=(256, 256),
    stages=STAGES,
    read=0.02,
    export=36.0,
    photos_per_second=100.0,
    model_bytes=25_000_000,
    cores=2,
    load=0.0,
)
PLAIN = dataclasses.replace(EDGE, segmentation_head=False)
OPTIONS = TrainingOptions(preset=PLAIN, epochs=10)
HUNDRED = Workload(1, 100, (256, 256))


def planned(*loads: Workload, photos: int = 0, within: float = 24.0, options: TrainingOptions = OPTIONS) -> Plan:
    return plan_fleet(loads, photos, RATES, options, within=within)


def test_a_training_is_the_sum_of_its_stages() -> None:
    held_out = wanted_count(100, OPTIONS.holdout)
    learned = 100 - held_out
    assert (held_out, learned) == (20, 80)
    stages = 80 * versions(PLAIN, 80) * 0.01 + 10 * 80 * 0.005 + 2 * 80 * 0.002
    calibration = (2 * 20 + 1.25 * synthetic_count(20)) * 0.012
    assert training_seconds(HUNDRED, RATES, OPTIONS) == pytest.approx(100 * 0.02 + stages + calibration)


def test_time_grows_with_pixels_and_ends_with_the_limit() -> None:
    reading = 100 * RATES.read
    small = training_seconds(HUNDRED, RATES, OPTIONS) - reading
    large = training_seconds(dataclasses.replace(HUNDRED, size=(512, 256)), RATES, OPTIONS) - reading
    assert large == pytest.approx(2 * small)
    limited = dataclasses.replace(OPTIONS, max_minutes=0.05)
    assert training_seconds(HUNDRED, RATES, limited) == 3.0


def test_hours_and_machines() -> None:
    each = training_seconds(HUNDRED, RATES, OPTIONS)
    found = planned(dataclasses.replace(HUNDRED, products=1000), photos=100_000_000, within=168)
    assert found.training_hours == pytest.approx(1000 * each / 3600)
    assert found.export_hours == pytest.approx(10)
    assert found.scoring_hours == pytest.approx(1e8 / 100 / 3600)
    assert found.hours == pytest.approx(found.training_hours + 10 + 1e6 / 3600)
    assert found.machines == -(-found.hours // 168) == 2
    assert (found.products, found.photos_to_learn, found.model_gigabytes) == (1000, 100_000, 25.0)
    assert found.longest_hours == pytest.approx(each / 3600)
    assert planned(HUNDRED).machines == 1
    assert planned(dataclasses.replace(HUNDRED, products=0), photos=360_000, within=1).machines == 1
    assert planned(dataclasses.replace(HUNDRED, products=0), photos=361_000, within=1).machines == 2


def test_what_cannot_be_planned() -> None:
    with pytest.raises(UsageError, match="There is nothing to plan"):
        planned(dataclasses.replace(HUNDRED, products=0))
    with pytest.raises(UsageError, match="One training alone takes"):
        planned(HUNDRED, within=1e-4)
    with pytest.raises(UsageError, match="a positive number"):
        planned(HUNDRED, within=0.0)


@pytest.fixture
def quick(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`fleet plan` at a small size, which judges for a moment, and traces no model: a trained one has its size."""
    from rstpm_edge.training.fleet_plan import rates

    monkeypatch.setattr(rates, "to_onnx", traced_already(workplace.model))
    monkeypatch.setattr(rates, "SCORING", 0.2)
    return lambda *arguments: command_line("fleet", "plan", "--size", "64x96", *arguments)


def test_a_plan_of_this_machine(quick: Any, parts: Path, workplace: Workplace) -> None:
    """The rates are those of real stages, so what is planned for the products is of the size that a training takes."""
    said = quick(parts, parts, "--photos", "1000", "--epochs", "2", "--model", workplace.model, "--json")
    assert said.exit_code == 0, said.stderr
    found = json.loads(said.stdout)
    assert [one["photos"] for one in found["loads"]] == [12, 12]
    assert (found["plan"]["products"], found["plan"]["photos_to_score"]) == (2, 1000)
    rates = found["rates"]
    assert rates["photos_per_second"] > 1
    assert min(rates["read"], rates["export"], *rates["stages"].values()) > 0
    assert found["plan"]["scoring_hours"] == pytest.approx(1000 / rates["photos_per_second"] / 3600)
    assert 0 < found["plan"]["longest_hours"] < 1


def test_a_plan_without_photos_of_ones_own(quick: Any) -> None:
    said = quick("--products", "1000", "--photos-each", "50", "--photo-size", "160x128", "--within", "1000000")
    assert said.exit_code == 0, said.stderr
    lines = said.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["training", "export", "scoring", "all", "measured", "load"]
    assert "1000 products: " in lines[0]
    assert "(50,000 good photos, input 64x96)" in lines[0]
    assert "1 machine for 1e+06 hours" in lines[3]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "Give product folders, or --products N, or --photos M."),
        (("nowhere",), "nowhere is missing; give a folder of images."),
        (("--products", "1", "--photo-size", "64x64"), "--photo-size has sides from 128 to 8192 pixels, not 64x64."),
        (("--products", "1", "--epochs", "0"), "--epochs must be at least 1, not 0."),
    ],
)
def test_one_sentence(quick: Any, arguments: tuple[str, ...], sentence: str) -> None:
    result = quick(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr
