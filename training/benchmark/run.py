"""Train, export and evaluate each category of a data set with several seeds; interrupted, it goes on where it was.

OUTPUT/settings.json                    what all results have in common: another preset or size is another benchmark
OUTPUT/results/CATEGORY/seed_N.json     one finished result each; nothing is trained twice
OUTPUT/runs/CATEGORY/seed_N             the training under way
OUTPUT/models/CATEGORY/seed_N.onnx      its model; both are deleted once the result is there, unless they are kept
OUTPUT/reports/CATEGORY/seed_N.html     a report of each result, where they are asked for
OUTPUT/benchmark.json, benchmark.md     the tables over all results

The test images decide nothing: students, statistics and threshold come from the training images alone.
"""

import contextlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rstpm_edge.atomic_files import drop_link, make_folder, write_bytes, write_json
from rstpm_edge.errors import DatasetError, ExportError, ImageError, ModelError, TrainingError, UsageError
from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.progress import Progress, Report

from ..data.datasets import Category, about_category
from ..data.run_files import identify
from ..evaluation.evaluate import evaluate_predictions
from ..evaluation.predict import predict
from ..export.export import export
from ..learning.checkpoint import load_checkpoint
from ..learning.machine import Machine, check_machine
from ..learning.options import TrainingOptions
from ..learning.run_config import load_config
from ..learning.run_summary import load_summary
from ..learning.train import resume, train
from ..learning.trained_model import is_finished
from ..report.html import write_report
from .plan import BenchmarkPlan, check_plan, claimed
from .results import RunResult, load_result, markdown, save_result, summary

TESTING = 0.1  # of what a training takes, about
# Of one category: a UsageError, too, where its photos are too many for `max_minutes`, or too few for `alpha`.
FAILURES = (DatasetError, ExportError, ImageError, ModelError, TrainingError, UsageError)


@dataclass(frozen=True)
class FailedTraining:
    """A training that came to no result; the others went on."""

    category: str
    seed: int
    reason: str


@dataclass(frozen=True)
class BenchmarkResults:
    """All results there are of a plan, by category, then seed, and the failures."""

    results: tuple[RunResult, ...]
    failures: tuple[FailedTraining, ...]


def run_benchmark(
    plan: BenchmarkPlan,
    categories: Sequence[Category],
    output: Path,
    machine: Machine | None = None,
    *,
    report: Report = lambda progress: None,
    say: Callable[[str], None] = lambda line: None,
) -> BenchmarkResults:
    """Bring the results of `plan` in `output` to completion, and write the tables there.

    `report` gets the progress of each training and test, `say` a line when one begins or fails. A category that cannot
    be read, does not suit the options, diverges, or cannot be exported is a FailedTraining, and the others go on.

    Raises UsageError for a plan that cannot work, a machine of several processes, or an `output` of other settings, or
    where another process writes; TrainingError when an older result is damaged; WeightsError; OutputError.
    """
    check_plan(plan)
    check_machine(machine or Machine())
    if machine is not None and machine.processes > 1:  # each runs the caller's script, and one folder is for one
        raise UsageError(f"A benchmark trains in one process, not in {machine.processes}: leave out `processes`.")
    with claimed(output, plan) as ours:
        return _complete(plan, categories, output, ours, machine, report, say)


def _complete(
    plan: BenchmarkPlan,
    categories: Sequence[Category],
    output: Path,
    ours: Mapping[str, Any],
    machine: Machine | None,
    report: Report,
    say: Callable[[str], None],
) -> BenchmarkResults:
    """`run_benchmark` in an `output` that is its own; `ours` are its settings."""
    pending = [(category, seed) for seed in plan.seeds for category in categories]
    known = {
        (category.name, seed): load_result(_result_path(output, category, seed), category.name, seed)
        for category, seed in pending
    }
    failures: list[FailedTraining] = []
    for sentence in dict.fromkeys(told for category in categories for told in about_category(category)):
        say(sentence)
    benchmark = _collect(plan, categories, known, failures)
    parts, part = sum(result is None for result in known.values()), 0
    for number, (category, seed) in enumerate(pending, 1):
        if known[category.name, seed] is not None:
            if plan.reports and not (page := _report_path(output, category, seed)).exists():
                result = _result_path(output, category, seed)
                say(f"{category.name}, seed {seed} was finished without {page}: remove {result} to have it done again.")
        else:
            say(f"{category.name}, seed {seed} ({number} of {len(pending)})")
            part += 1
            try:
                known[category.name, seed] = _run_one(
                    plan, category, seed, output, machine, _of_part(report, part, parts)
                )
            except FAILURES as error:
                failures.append(FailedTraining(category.name, seed, str(error)))
                say(f"{category.name}, seed {seed} failed: {error}")
            benchmark = _collect(plan, categories, known, failures)
            write_tables(output, ours, benchmark)
    write_tables(output, ours, benchmark)
    return benchmark


def write_tables(output: Path, settings: Mapping[str, Any], benchmark: BenchmarkResults) -> None:
    """Write all that is said about all results together, as JSON and as Markdown. Raises OutputError."""
    content = {
        "settings": settings,
        **summary(benchmark.results),
        "failures": [asdict(failure) for failure in benchmark.failures],
    }
    write_json(output / "benchmark.json", content, below=output)
    write_bytes(output / "benchmark.md", markdown(benchmark.results).encode(), below=output)


def chosen_images(files: Sequence[Path], most: int | None, seed: int) -> list[Path]:
    """`most` of `files`, or all of them, in their order. Of one seed, fewer are always some of more."""
    if most is None or most >= len(files):
        return list(files)
    order = np.random.default_rng((seed, 1)).permutation(len(files))
    return [files[i] for i in np.sort(order[:most])]


def train_model(
    files: Sequence[Path],
    options: TrainingOptions,
    machine: Machine | None,
    run: Path,
    model: Path,
    *,
    report: Report = lambda progress: None,
) -> None:
    """Train on just these images in the folder `run`, or go on with a run on them that is there, and export `model`.

    Raises what `train`, `resume` and `export` raise.
    """
    if not _is_run_on(run, files):
        shutil.rmtree(run, ignore_errors=True)
        train(files, options, machine, folder=run, report=report)
    elif not (run / "summary.json").exists():
        resume(run, machine, report=report)
    export(run, model)


def _of_part(report: Report, part: int, parts: int) -> Report:
    """`report` for one training of several, whose plan ends with the tests."""

    def tell(progress: Progress) -> None:
        plan = progress.plan
        if plan is not None:
            plan = {**plan, "testing": TESTING * sum(plan.values())}
        report(replace(progress, plan=plan, part=part, parts=parts))

    return tell


def _run_one(
    plan: BenchmarkPlan, category: Category, seed: int, output: Path, machine: Machine | None, report: Report
) -> RunResult:
    files = chosen_images(category.train, plan.max_images, seed)
    run = output / "runs" / category.name / f"seed_{seed}"
    model = make_folder(output / "models" / category.name, below=output) / f"seed_{seed}.onnx"
    drop_link(model)
    train_model(files, replace(plan.options, seed=seed), machine, run, model, report=report)
    predictions = predict(
        category.folder,
        model,
        InferenceOptions(
            allow_size_change=True,  # published sets are judged whole
            notify=lambda sentence: report(Progress("testing", 0, 0, warning=sentence)),
        ),
        images=category.test,
        report=lambda done, total: report(Progress("testing", done, total)),
    )
    evaluation = evaluate_predictions(predictions)
    if plan.reports:
        page = _report_path(output, category, seed)
        make_folder(page.parent, below=output)
        drop_link(page)
        write_report(page, predictions, evaluation)
    trained = load_summary(run)
    result = RunResult(
        category=category.name,
        seed=seed,
        split=category.split,
        images=len(files),
        test_images=len(category.test),
        epochs=trained.epochs,
        minutes=trained.minutes,
        evaluation=evaluation.to_json(),
    )
    save_result(_result_path(output, category, seed), result, below=output)
    if not plan.keep:
        shutil.rmtree(run, ignore_errors=True)
        model.unlink(missing_ok=True)
        for folder in (run.parent, run.parent.parent, model.parent, model.parent.parent):
            with contextlib.suppress(OSError):  # it holds another one's
                folder.rmdir()
    return result


def _is_run_on(run: Path, files: Sequence[Path]) -> bool:
    """Whether `run` can go on, or has finished, on just these images; otherwise it is trained from the start."""
    try:
        config, checkpoint = load_config(run), load_checkpoint(run)
        if (run / "summary.json").exists() and not is_finished(checkpoint, load_summary(run)):
            return False
    except TrainingError:  # there is none, or it is damaged
        return False
    folder, found = identify(files)
    recorded = (*config.train, *config.holdout, *config.aside)
    if any(file.crc32 is None for file in (*recorded, *found)):  # a run from before that, or a file that is not read
        recorded, found = (tuple(file._replace(crc32=None) for file in some) for some in (recorded, found))
    return Path(config.data) == folder and set(recorded) == set(found)


def _collect(
    plan: BenchmarkPlan,
    categories: Sequence[Category],
    known: dict[tuple[str, int], RunResult | None],
    failures: Sequence[FailedTraining],
) -> BenchmarkResults:
    found = (known[category.name, seed] for category in categories for seed in plan.seeds)
    return BenchmarkResults(tuple(result for result in found if result is not None), tuple(failures))


def _report_path(output: Path, category: Category, seed: int) -> Path:
    return output / "reports" / category.name / f"seed_{seed}.html"


def _result_path(output: Path, category: Category, seed: int) -> Path:
    return output / "results" / category.name / f"seed_{seed}.json"
