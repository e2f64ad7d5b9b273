"""What each ingredient is worth: the same benchmark with one of them changed at a time, as a Markdown table.

    python tools/ablation.py mvtec_anomaly_detection --dataset mvtec
    python tools/ablation.py photos --only default,no-attention --seeds 0,1,2,3,4

Each variant is the preset `edge` with a few fields set, as `rstpm-edge train --set NAME=VALUE` takes them; --set here
holds for all of them. Another distance or fusion leaves out the head, too: compare those with no-head. Interrupted, the
same command goes on. Means over the categories, ± the sample standard deviation over the seeds; of both pairs, then of
either alone.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from comparison import Tool, compare

from rstpm_edge.cli.benchmark import BenchmarkOptions, benchmark_options, plan_benchmark
from rstpm_edge.cli.parameter_types import FILE, NAMES
from rstpm_edge.errors import UsageError

VARIANTS: dict[str, dict[str, str]] = {
    "default": {},
    "no-standardisation": {"standardize": "false"},
    "no-head": {"segmentation_head": "false"},
    "paper-distance": {"distance": "cosine"},
    "all-errors": {"mining_share": "1"},
    "no-shift-augmentation": {"shift_augmentation": "0"},
    "pairs-alike": {"reconstruction_weight": "1"},
    "paper-fusion": {"fusion": "paper", "smoothing_sigma": "0"},
    "paper-distance-and-fusion": {"distance": "cosine", "fusion": "paper", "smoothing_sigma": "0"},
    "no-smoothing": {"smoothing_sigma": "0"},
    "no-attention": {"attention": "false"},
    "same-teachers": {"teacher2": "tf_efficientnet_lite0"},
    "teachers-swapped": {"teacher1": "tf_efficientnet_lite1", "teacher2": "tf_efficientnet_lite0"},
    "teacher2-full-resolution": {"teacher2_shrink": "1"},
    "student1-from-image": {"shared_stem": "none", "student1_widths": "32,48,64,96,160"},
    "strides-4-8-16": {"strides": "4,8,16", "shared_stem": "none", "student1_widths": "32,48,64,96"},
    "narrow-students": {"student1_widths": "24,32,48,80", "student2_widths": "80,64,32"},
    "wide-students": {"student1_widths": "96,128,192,320", "student2_widths": "320,256,128"},
}


@click.command(cls=Tool, help=__doc__.replace("\n\n", "\n\n\b\n"))
@benchmark_options
@click.option("--only", type=NAMES, metavar="A,B,…", help=f"Of {', '.join(VARIANTS)}.  [default: all]")
@click.option("--output", type=FILE, default="ablation", show_default=True, metavar="FOLDER")
def main(only: tuple[str, ...] | None, output: Path, **options: Any) -> None:
    from rstpm_edge.training.model.preset_overrides import override

    names = only or tuple(VARIANTS)
    unknown = [name for name in names if name not in VARIANTS]
    if unknown:
        raise UsageError(f"There is no variant {', '.join(unknown)}; choose from {', '.join(VARIANTS)}.")
    plan, categories, machine = plan_benchmark(BenchmarkOptions(**options))
    presets = {name: override(plan.options.preset, VARIANTS[name]) for name in names}
    plans = {name: replace(plan, options=replace(plan.options, preset=preset)) for name, preset in presets.items()}
    compare("variant", plans, categories, output, machine)


if __name__ == "__main__":
    main()
