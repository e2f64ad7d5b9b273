"""How long training is worth while: accuracy over the minutes of training, as a Markdown table.

    python tools/learning_curve.py photos
    python tools/learning_curve.py photos --minutes 1,3,10 --seeds 5

Each number of minutes is a training of its own, whose schedule ends with it. Interrupted, the same command goes on.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from comparison import Tool, compare

from rstpm_edge.cli.benchmark import BenchmarkOptions, benchmark_options, plan_benchmark
from rstpm_edge.cli.parameter_types import FILE
from rstpm_edge.errors import UsageError

EPOCHS = 100_000  # more than there is time for, unless --epochs says otherwise


@click.command(cls=Tool, help=__doc__.replace("\n\n", "\n\n\b\n"))
@benchmark_options
@click.option("--minutes", default="0.5,1,2,4,8", show_default=True, help="Minutes of training.")
@click.option("--output", type=FILE, default="learning-curve", show_default=True, metavar="FOLDER")
def main(minutes: str, output: Path, **options: Any) -> None:
    plan, categories, machine = plan_benchmark(BenchmarkOptions(**options))
    plan = replace(plan, options=replace(plan.options, epochs=plan.options.epochs or EPOCHS))
    try:
        limits = [float(part) for part in minutes.split(",")]
    except ValueError:
        raise UsageError(f"--minutes are numbers with commas between, not {minutes!r}.") from None
    plans = {f"{limit:g}": replace(plan, options=replace(plan.options, max_minutes=limit)) for limit in limits}
    compare("minutes", plans, categories, output, machine)


if __name__ == "__main__":
    main()
