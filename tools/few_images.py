"""How good a few photos are: accuracy over the number of good images learned from, as a Markdown table.

    python tools/few_images.py mvtec_anomaly_detection --dataset mvtec
    python tools/few_images.py photos --counts 10,20,40,80 --seeds 5

Each seed picks its own images, and those of a smaller number are among those of a larger one; a fifth of them is held
out for the threshold (--holdout). The test images are always the same. Interrupted, the same command goes on.
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


@click.command(cls=Tool, help=__doc__.replace("\n\n", "\n\n\b\n"))
@benchmark_options
@click.option("--counts", default="10,30,100,300", show_default=True, help="Numbers of images; at most all.")
@click.option("--output", type=FILE, default="few-images", show_default=True, metavar="FOLDER")
def main(counts: str, output: Path, **options: Any) -> None:
    if not all(part.strip().isdecimal() for part in counts.split(",")):
        raise UsageError(f"--counts are numbers of images with commas between, not {counts!r}.")
    plan, categories, machine = plan_benchmark(BenchmarkOptions(**options))
    most = max(len(category.train) for category in categories)
    numbers = [min(int(part), most) for part in counts.split(",")]
    plans = {str(number): replace(plan, max_images=number) for number in numbers}
    compare("images", plans, categories, output, machine)


if __name__ == "__main__":
    main()
