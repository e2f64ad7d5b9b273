"""How far many trainings are: the table of a terminal, and the lines of a log."""

from __future__ import annotations

import io
from collections.abc import Sequence

from fleet_results import result, without_model
from rich.console import Console
from simulated_time import SimulatedTime

from rstpm_edge.cli.fleet_train.table import EVERY, FleetLog, counts, table
from rstpm_edge.training.fleet_train.result import ProductResult
from rstpm_edge.training.fleet_train.status import ProductStatus

AT_WORK = ProductStatus(
    "nut", "students", share=0.43, seconds_left=80.0, epoch=12, epochs=47, loss=(3.658, 4.51), process=99, tries=2
)


def shown(results: list[ProductResult], statuses: list[ProductStatus], products: int) -> list[str]:
    written = io.StringIO()
    Console(file=written, width=120, color_system=None).print(table(results, statuses, products))
    return [line.rstrip() for line in written.getvalue().splitlines()]


def test_a_row_for_what_is_at_work_and_what_failed() -> None:
    results = [result("lid"), without_model("pin", "it holds 3 images\x1b[2J")]
    lines = shown(results, [AT_WORK], 8)
    assert lines[0] == "1 of 8 products have a model, 1 failed, 1 at work, 5 waiting"
    assert lines[1].split() == ["product", "stage", "%", "epoch", "loss", "left"]
    assert " ".join(lines[2].split()) == "nut students 43 12 of 47 3.658 4.510 1 min 20 s worker 2, the one before died"
    assert " ".join(lines[3].split()) == r"pin failed it holds 3 images\x1b[2J"
    assert len(lines) == 4


def test_hundreds_of_products_fit_a_terminal() -> None:
    failed = [without_model(f"p{number}", "bad [red]photos[/red]") for number in range(300)]
    lines = shown(failed, [AT_WORK], 400)
    assert len(lines) < 15
    assert "bad [red]photos[/red]" in lines[-1]


def test_what_is_counted() -> None:
    assert counts([], (), 2) == "0 of 2 products have a model, 2 waiting"
    assert counts([result("a"), result("b")], (), 2) == "2 of 2 products have a model"


def test_a_log_says_what_changes_and_a_line_a_minute() -> None:
    lines: list[str] = []
    time = SimulatedTime()
    log = FleetLog(3, lines.append, time.monotonic)

    def told(results: Sequence[ProductResult], statuses: Sequence[ProductStatus]) -> list[str]:
        before = len(lines)
        log(results, statuses)
        return [line.split(" ", 2)[2] for line in lines[before:]]  # without date and time

    first = ProductStatus("nut", "audit", 0.01, tries=1)
    assert told([], []) == []
    assert told([], [first]) == ["nut: begun"]
    assert told([], [first]) == []
    assert told([], [AT_WORK]) == ["nut: begun by worker 2: the one before died"]
    time.sleep(EVERY)
    assert told([], [AT_WORK]) == [
        "0 of 3 products have a model, 1 at work, 2 waiting. nut: students, 43 %, epoch 12 of 47, 1 min 20 s left"
    ]
    assert told([], [AT_WORK]) == []
    done = [result("nut"), result("lid", done_before=True), without_model("pin", "no photos\n.")]
    assert told(done, []) == [
        "nut: done in 3 min 0 s; 2 of 3 products have a model, 1 failed",
        "lid: was done before; 2 of 3 products have a model, 1 failed",
        r"pin: failed: no photos\n; 2 of 3 products have a model, 1 failed",
    ]
    assert told(done, []) == []
    time.sleep(EVERY)
    assert told(done, []) == ["2 of 3 products have a model, 1 failed"]
