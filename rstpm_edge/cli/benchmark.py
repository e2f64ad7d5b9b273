"""`rstpm-edge benchmark`: how good it is on a whole data set, over several seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import click

from rstpm_edge.cli.common import RATE, Command, training_packages
from rstpm_edge.cli.progress import parse_overrides, parse_size, parse_weights, show_progress
from rstpm_edge.cli.terminal import say, say_table
from rstpm_edge.errors import TrainingError, UsageError

DATASETS = ("mvtec", "visa", "btad", "mtd", "folder")


def benchmark_options(command: Command) -> Command:
    """ROOT and what may be chosen for all trainings on it, but the folder for the results."""
    for parameter in reversed(
        (
            click.argument("root", type=click.Path(path_type=Path)),
            click.option(
                "--dataset",
                type=click.Choice(DATASETS),
                default="folder",
                show_default=True,
                help="MVTec AD, VisA, BTAD, magnetic tile defects, or a folder in MVTec AD layout or of such folders.",
            ),
            click.option("--categories", metavar="A,B,…", help="Only these.  [default: all]"),
            click.option("--seeds", default="3", show_default=True, metavar="N|A,B,…", help="How many, or which."),
            click.option("--keep", is_flag=True, help="Keep runs and model files, too, not only results."),
            click.option("--reports", is_flag=True, help="Write an HTML report of each result, as `evaluate` does."),
            click.option(
                "--preset", default="edge", show_default=True, help="edge, edge-small, or paper (ResNet-18 and -50)."
            ),
            click.option(
                "--set", "overrides", multiple=True, metavar="NAME=VALUE", help="Another value for a preset's field."
            ),
            click.option("--weights", multiple=True, metavar="NAME=FILE", help="A teacher's weights, or NAME=random."),
            click.option("--epochs", type=int, help="Passes over the images.  [default: the preset's]"),
            click.option("--max-minutes", type=float, help="Finish each training within this time."),
            click.option("--max-images", type=int, help="Learn from so many images of each category, by the seed."),
            click.option("--size", default="256", show_default=True, metavar="HxW", help="Input size."),
            click.option("--resize", type=click.Choice(["stretch", "letterbox"]), default="stretch", show_default=True),
            click.option(
                "--holdout", type=RATE, default=0.2, show_default=True, help="Share of the images for calibration."
            ),
            click.option("--device", default="auto", show_default=True, help="cpu, cuda or auto."),
            click.option("--precision", default="auto", show_default=True, help="As for train."),
        )
    ):
        command = parameter(command)
    return command


@click.command()
@benchmark_options
@click.option("--output", type=click.Path(path_type=Path), default="benchmark", show_default=True, metavar="FOLDER")
def benchmark(output: Path, **options: Any) -> None:
    """Train, export and evaluate each category of the data set in ROOT, with several seeds.

    Results are kept in FOLDER as they come. The same command goes on where it was interrupted, and with more seeds or
    categories it does only what is new. Tables are in FOLDER/benchmark.md and benchmark.json.

    \b
    Examples:
      rstpm-edge benchmark mvtec_anomaly_detection --dataset mvtec
      rstpm-edge benchmark VisA --dataset visa --categories candle,pcb1 --seeds 0,1,2,3,4
      rstpm-edge benchmark photos --max-images 30 --output few
      rstpm-edge benchmark mvtec_anomaly_detection --dataset mvtec --preset paper \\
          --weights resnet18=resnet18.pth --weights resnet50=resnet50.pth
    """
    with training_packages():
        from rstpm_edge.training.benchmark import results, run
    plan, categories, machine = parse_benchmark(options)
    with show_progress() as report:
        found = run.run_benchmark(plan, categories, output, machine, report=report, say=report.say)
    if found.results:
        say_table(results.text_table(found.results))
        say("")
        say(f"Tables and figures: {output / 'benchmark.md'}, {output / 'benchmark.json'}")
    refuse_failures(found.failures)


def parse_benchmark(options: dict[str, Any]) -> tuple[Any, Any, Any]:
    """What `benchmark_options` gave as a Plan, its categories and a Machine. Raises UsageError, DatasetError."""
    with training_packages():
        from rstpm_edge.training.benchmark import plan as plan_module
        from rstpm_edge.training.data import datasets
        from rstpm_edge.training.learning import machine as machine_module
        from rstpm_edge.training.learning import options as options_module
        from rstpm_edge.training.model import preset_overrides, presets
    preset = presets.preset_with_teachers(options["preset"], None, None)
    plan = plan_module.BenchmarkPlan(
        dataset=options["dataset"],
        data=options["root"],
        options=options_module.TrainingOptions(
            preset=preset_overrides.override(preset, parse_overrides(options["overrides"])),
            size=parse_size(options["size"]),
            weights=parse_weights(options["weights"]),
            **{name: options[name] for name in ("epochs", "max_minutes", "resize", "holdout")},
        ),
        seeds=parse_seeds(options["seeds"]),
        max_images=options["max_images"],
        keep=options["keep"],
        reports=options["reports"],
    )
    chosen = [name.strip() for name in (options["categories"] or "").split(",") if name.strip()]
    categories = datasets.load_categories(options["root"], options["dataset"], chosen)
    return plan, categories, machine_module.Machine(options["device"], options["precision"])


def compare(
    title: str, plans: Mapping[str, Any], categories: Sequence[Any], output: Path, machine: Any
) -> Mapping[str, Any]:
    """Run several plans and print the table over them: what the tools for ablations and curves share.

    Returns the BenchmarkResults of each. Raises TrainingError where one of them is not complete.
    """
    with training_packages():
        from rstpm_edge.training.benchmark import run
    with show_progress() as report:
        found = run.run_comparison(title, plans, categories, output, machine, report=report, say=report.say)
    say_table((output / "comparison.md").read_text().rstrip())
    refuse_failures([failure for one in found.values() for failure in one.failures])
    return cast(Mapping[str, Any], found)


def refuse_failures(failures: Sequence[Any]) -> None:
    """Raises TrainingError where a training came to no result."""
    if failures:
        first = failures[0]
        raise TrainingError(
            f"{len(failures)} training{'s' if len(failures) > 1 else ''} failed; {first.category}, seed {first.seed}: "
            f"{first.reason}"
        )


def parse_seeds(text: str) -> tuple[int, ...]:
    """`3` is 0, 1, 2; `3,` is 3 alone; `0,4` are two. Raises UsageError."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > 1 and not parts[-1]:
        parts = parts[:-1]
    if not all(part.isdecimal() and part.isascii() for part in parts):
        raise UsageError(f"--seeds is a number of seeds, or the seeds with commas between them, not {text!r}.")
    numbers = tuple(int(part) for part in parts)
    if "," in text:
        return numbers
    if not 1 <= numbers[0] <= 1000:
        raise UsageError(f"--seeds must be from 1 to 1000, not {text}; a seed alone is written {text},")
    return tuple(range(numbers[0]))
