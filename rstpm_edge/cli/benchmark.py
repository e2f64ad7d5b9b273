"""`rstpm-edge benchmark`: how good it is on a whole data set, over several seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rstpm_edge.cli.common import training_packages
from rstpm_edge.cli.options import Command
from rstpm_edge.cli.parameter_types import FILE, NAMES, SEEDS
from rstpm_edge.cli.progress import show_progress
from rstpm_edge.cli.terminal import counted, say, say_table
from rstpm_edge.cli.training_options import SharedTrainingOptions, shared_training_options
from rstpm_edge.errors import TrainingError

if TYPE_CHECKING:
    from rstpm_edge.training.benchmark.plan import BenchmarkPlan
    from rstpm_edge.training.benchmark.run import FailedTraining
    from rstpm_edge.training.data.datasets import Category
    from rstpm_edge.training.learning.machine import Machine

DATASETS = ("mvtec", "visa", "btad", "mtd", "folder")


@dataclass(frozen=True)
class BenchmarkOptions(SharedTrainingOptions):
    """What was typed after `rstpm-edge benchmark`, but the folder for the results."""

    root: Path
    dataset: str
    categories: tuple[str, ...]  # empty for all
    seeds: tuple[int, ...]
    keep: bool
    reports: bool
    max_images: int | None


def benchmark_options(command: Command) -> Command:
    """ROOT and what may be chosen for all trainings on it, but the folder for the results."""
    for parameter in reversed(
        (
            click.argument("root", type=FILE),
            click.option(
                "--dataset",
                type=click.Choice(DATASETS),
                default="folder",
                show_default=True,
                help="MVTec AD, VisA, BTAD, magnetic tile defects, or a folder in MVTec AD layout or of such folders.",
            ),
            click.option("--categories", type=NAMES, default="", metavar="A,B,…", help="Only these.  [default: all]"),
            click.option(
                "--seeds", type=SEEDS, default="3", show_default=True, metavar="N|A,B,…", help="How many, or which."
            ),
            click.option("--max-images", type=int, help="Learn from so many images of each category, by the seed."),
            click.option("--keep", is_flag=True, help="Keep runs and model files, too, not only results."),
            click.option("--reports", is_flag=True, help="Write an HTML report of each result, as `evaluate` does."),
            shared_training_options,
        )
    ):
        command = parameter(command)
    return command


@click.command()
@benchmark_options
@click.option("--output", type=FILE, default="benchmark", show_default=True, metavar="FOLDER")
def benchmark(output: Path, **options: Any) -> None:
    """Train, export and evaluate each category of the data set in ROOT, with several seeds.

    Results are kept in FOLDER as they come. The same command goes on where it was interrupted, and with more seeds or
    categories it does only what is new. Tables are in FOLDER/benchmark.md and benchmark.json.

    \b
    Examples:
      rstpm-edge benchmark mvtec_anomaly_detection --dataset mvtec
      rstpm-edge benchmark VisA --dataset visa --categories candle,pcb1 --seeds 0,1,2,3,4
      rstpm-edge benchmark photos --max-images 30 --output few
      rstpm-edge benchmark mvtec_anomaly_detection --dataset mvtec --preset paper --size 256 \\
          --weights resnet18=resnet18.pth --weights resnet50=resnet50.pth
    """
    with training_packages():
        from rstpm_edge.training.benchmark import results, run
    plan, categories, machine = plan_benchmark(BenchmarkOptions(**options))
    with show_progress() as report:
        found = run.run_benchmark(plan, categories, output, machine, report=report, say=report.say)
    if found.results:
        say_table(results.text_table(found.results))
        say("")
        say(f"Tables and figures: {output / 'benchmark.md'}, {output / 'benchmark.json'}")
    refuse_failures(found.failures)


def plan_benchmark(options: BenchmarkOptions) -> "tuple[BenchmarkPlan, Sequence[Category], Machine]":
    """What is to be trained, on which categories, by what. Raises UsageError and DatasetError."""
    with training_packages():
        from rstpm_edge.training.benchmark.plan import BenchmarkPlan
        from rstpm_edge.training.data.datasets import load_categories
        from rstpm_edge.training.learning.machine import Machine
    plan = BenchmarkPlan(
        dataset=options.dataset,
        data=options.root,
        options=options.training_options(),
        seeds=options.seeds,
        max_images=options.max_images,
        keep=options.keep,
        reports=options.reports,
    )
    categories = load_categories(options.root, options.dataset, options.categories)
    return plan, categories, Machine(options.device, options.precision)


def refuse_failures(failures: "Sequence[FailedTraining]") -> None:
    """Raises TrainingError where a training came to no result."""
    if failures:
        first = failures[0]
        raise TrainingError(
            f"{counted(len(failures), 'training')} failed; {first.category}, seed {first.seed}: {first.reason}"
        )
