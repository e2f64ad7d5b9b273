"""What the tools that compare benchmarks share: how they run several, and how they say what is wrong."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rstpm_edge.cli.benchmark import refuse_failures
from rstpm_edge.cli.progress import show_progress
from rstpm_edge.cli.terminal import say_error, say_table
from rstpm_edge.errors import RstpmEdgeError

if TYPE_CHECKING:
    from rstpm_edge.training.benchmark.plan import BenchmarkPlan
    from rstpm_edge.training.benchmark.run import BenchmarkResults
    from rstpm_edge.training.data.datasets import Category
    from rstpm_edge.training.learning.machine import Machine


class Tool(click.Command):
    """Ends with one line, and exit code 1, for whatever this package raises on purpose."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except RstpmEdgeError as error:
            say_error(error)
            sys.exit(1)


def compare(
    title: str, plans: Mapping[str, BenchmarkPlan], categories: Sequence[Category], output: Path, machine: Machine
) -> Mapping[str, BenchmarkResults]:
    """Run several plans and print the table over them. Raises TrainingError where one of them is not complete."""
    from rstpm_edge.training.benchmark.run import run_comparison

    with show_progress() as report:
        found = run_comparison(title, plans, categories, output, machine, report=report, say=report.say)
    say_table((output / "comparison.md").read_text().rstrip())
    refuse_failures([failure for one in found.values() for failure in one.failures])
    return found
