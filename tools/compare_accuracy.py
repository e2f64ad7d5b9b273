"""Our detector next to anomalib's STFPM, PaDiM and PatchCore with the same teacher: accuracy, in one command.

    python tools/compare_accuracy.py DATA                             # trains all of them; hours on two cores
    python tools/compare_accuracy.py DATA --model model.onnx --method padim --method patchcore
    python tools/compare_accuracy.py DATA --check-metrics             # and our metrics against anomalib's own

DATA has the MVTec AD layout. All see the same images, brought to the model's input by our resize, and all start from
the same weights of teacher 1 (checked: both sides must give the same features). The others learn from all good
training images, ours from those that it does not hold out for its threshold. None sees the test images before the
end. Each gives its raw maps and scores of them, and our metrics measure all alike, at the images' own sizes.

Everything is kept in --output; what is there already is not computed again, so that an interrupted run can go on.
anomalib lives in an environment of its own (--venv), which is made where it is missing.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import click
from anomalib_venv import ensure_anomalib, venv_option
from bench_peers import WORKER as TIMER
from bench_peers import Contestant, measure, write_image
from compare_accuracy_metrics import (
    TOLERANCE,
    Accuracy,
    Difference,
    RawMaps,
    TestSet,
    accuracy,
    check_metrics,
    format_differences,
    raw_maps_of_ours,
    read_test_set,
)
from compare_accuracy_peers import METHODS, fit, is_done, job_of, lineup, write_inputs

SIZE = (256, 256)  # of the input, where no model says otherwise


@dataclass(frozen=True)
class Settings:
    """The command line's options, under the same names."""

    data: Path
    model: Path | None
    output: Path
    venv: Path
    methods: tuple[str, ...]
    teacher: str
    epochs: int
    coreset: float
    seed: int
    threads: int
    rounds: int
    calls: int
    check: bool


@dataclass(frozen=True)
class Row:
    """One line of the table; None stands for what was not measured."""

    title: str
    accuracy: Accuracy
    minutes: float | None = None  # of training, by the clock
    core_minutes: float | None = None  # and of processor time, whatever else the machine did
    median_ms: float | None = None  # one image
    min_ms: float | None = None


def compare(settings: Settings) -> tuple[list[Row], list[Difference]]:
    """The table's rows, ours first, and with `check` how our metrics and anomalib's differ.

    Raises RstpmEdgeError and ClickException.
    """
    import numpy as np

    from rstpm_edge.engine.session import open_session

    size = SIZE
    if settings.model is not None:
        bundle = open_session(settings.model).bundle
        if bundle.resize != "stretch" or bundle.roi is not None:
            raise click.ClickException("The others see whole images, stretched; give a model that does, too.")
        size = (bundle.height, bundle.width)
    tests = read_test_set(settings.data, size)
    if settings.check and not tests.masks:
        raise click.ClickException(f"--check-metrics needs masks, and {settings.data} has none.")
    python = ensure_anomalib(settings.venv)
    common = write_inputs(settings.output / "inputs", settings.data, tests.inputs, settings.teacher)
    common["seed"] = settings.seed
    if settings.model is not None:
        ours, minutes, core_minutes = settings.model, bundle.training.get("minutes"), None
    else:
        ours, minutes, core_minutes = train_ours(settings, common)
    both, pair = accuracy_of_ours(settings.data, ours, tests)
    first, alone = Row("RSTPM", both, minutes, core_minutes), Row("RSTPM, its STPM pair alone", pair)
    rows, raw = [], {}
    for contender in lineup(settings.methods):
        job = job_of(contender, common, settings.epochs, settings.coreset)
        outcome = fit(contender, python, settings.output, job, settings.threads)
        folder = settings.output / contender.name
        raw[contender.name] = RawMaps(np.load(folder / "maps.npy"), np.load(folder / "scores.npy"))
        found = accuracy(tests, raw[contender.name])
        rows.append(Row(contender.title, found, outcome["minutes"], outcome["core_minutes"]))
    if settings.rounds:
        first, *rows = with_latency(first, ours, rows, settings)
    differences = []
    if settings.check:
        differences = check_metrics(python, tests, {"rstpm": raw_maps_of_ours(settings.data, ours), **raw})
    return [first, alone, *rows], differences


def train_ours(settings: Settings, common: Mapping[str, Any]) -> tuple[Path, float, float]:
    """Train and export with the default options, unless an earlier run has; the model, minutes and core-minutes."""
    from rstpm_edge.cli.progress import show_progress
    from rstpm_edge.training.export.export import export
    from rstpm_edge.training.learning.options import TrainingOptions
    from rstpm_edge.training.learning.train import train

    folder = settings.output / "rstpm"
    model, result = folder / "model.onnx", folder / "result.json"
    job = {"inputs": common["inputs"], "seed": settings.seed}
    if not is_done(result, job):
        click.echo("RSTPM …", err=True)
        shutil.rmtree(folder, ignore_errors=True)
        wall, cores = time.monotonic(), time.process_time()
        options = TrainingOptions(seed=settings.seed, size=SIZE)
        with show_progress() as report:
            run = train(settings.data, options, folder=folder / "run", report=report)
        minutes, core_minutes = (time.monotonic() - wall) / 60, (time.process_time() - cores) / 60
        export(run, model)
        result.write_text(json.dumps({"job": job, "minutes": minutes, "core_minutes": core_minutes}))
    outcome = json.loads(result.read_text())
    return model, outcome["minutes"], outcome["core_minutes"]


def accuracy_of_ours(data: Path, model: Path, tests: TestSet) -> tuple[Accuracy, Accuracy]:
    """Both pairs together, and the STPM pair alone, as `rstpm-edge evaluate` has them."""
    from rstpm_edge.training.evaluation.evaluate import evaluate

    found = evaluate(data, model)
    peak = accuracy(replace(tests, masks=[]), raw_maps_of_ours(data, model)).peak_auroc
    both, alone = (
        Accuracy(m.image_auroc, m.image_ap, highest, m.pixel_auroc, m.aupro_30)
        for m, highest in ((found.both, peak), (found.stpm, None))
    )
    return both, alone


def with_latency(ours: Row, model: Path, rows: Sequence[Row], settings: Settings) -> list[Row]:
    """The rows with the time of one image, taken in turns: our whole detector, and the others' networks alone.

    All in ONNX Runtime, on the same threads.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        image = Path(folder) / "image.npy"
        write_image(None, image)

        def contestant(title: str, kind: str, file: Path) -> Contestant:
            serve = ["serve", kind, str(file.resolve()), str(settings.threads), str(image)]
            return stack.enter_context(Contestant(title, [sys.executable, str(TIMER), *serve]))

        contestants = [contestant(ours.title, "detector", model)]
        for row, contender in zip(rows, lineup(settings.methods), strict=True):
            contestants.append(contestant(row.title, "onnx", settings.output / contender.name / "model.onnx"))
        for each in contestants:
            each.wait_until_ready()
        measure(contestants, settings.rounds, settings.calls)
    return [
        replace(row, median_ms=median(each.times), min_ms=min(each.times))
        for row, each in zip([ours, *rows], contestants, strict=True)
    ]


def format_table(rows: Sequence[Row]) -> str:
    """Markdown, as docs/accuracy.md has it."""

    def share(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    def pair(value: float | None, other: float | None) -> str:
        return "–" if value is None else f"{value:.1f}" + ("" if other is None else f" ({other:.1f})")

    lines = [
        "| | image AUROC | image AP | AUROC of the map's maximum | pixel AUROC | AUPRO (0.3) "
        "| training, min (core-min) | one image, ms: median (min) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        found = row.accuracy
        figures = (found.image_auroc, found.image_ap, found.peak_auroc, found.pixel_auroc, found.aupro_30)
        times = (pair(row.minutes, row.core_minutes), pair(row.median_ms, row.min_ms))
        lines.append(f"| {' | '.join([row.title, *map(share, figures), *times])} |")
    return "\n".join(lines)


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n"))
@click.argument("data", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--model", type=click.Path(path_type=Path, exists=True), help="Ours.  [default: train one]")
@click.option("--output", type=click.Path(path_type=Path), default="compare", show_default=True, metavar="FOLDER")
@venv_option
@click.option("--method", "methods", multiple=True, type=click.Choice(list(METHODS)), help="Only this; repeatable.")
@click.option("--teacher", default="tf_efficientnet_lite0", show_default=True, help="Of the others.")
@click.option("--epochs", type=click.IntRange(min=1), default=100, show_default=True, help="Of STFPM: its paper's.")
@click.option(
    "--coreset",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.1,
    show_default=True,
    help="Share of the patches that PatchCore keeps: anomalib's.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--rounds", type=click.IntRange(min=0), default=5, show_default=True, help="Of timing; 0 leaves it out.")
@click.option("--calls", type=click.IntRange(min=1), default=10, show_default=True, help="Timed calls of each turn.")
@click.option("--check-metrics", "check", is_flag=True, help="Also hold our metrics to anomalib's, on the same maps.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object and nothing else.")
def main(output: Path, methods: tuple[str, ...], as_json: bool, **options: Any) -> None:
    from rstpm_edge.errors import RstpmEdgeError

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, at which the worker is ended, too
    settings = Settings(output=output.resolve(), methods=methods or tuple(METHODS), **options)
    try:
        rows, differences = compare(settings)
    except RstpmEdgeError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"Cannot write {error.filename or output}: {error.strerror or error}.") from error
    if as_json:
        print(json.dumps({"rows": [asdict(row) for row in rows], "metrics": [asdict(each) for each in differences]}))
    else:
        print(format_table(rows) + (f"\n\n{format_differences(differences)}" if differences else ""))
    if any(not each.size < TOLERANCE for each in differences):
        raise click.ClickException(f"A metric differs from anomalib's by {TOLERANCE:g} or more.")


if __name__ == "__main__":
    main()
