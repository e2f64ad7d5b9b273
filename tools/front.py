"""Accuracy against latency: several designs trained and tested, then their models timed in turns, as a Markdown table.

    python tools/front.py mvtec_anomaly_detection --dataset mvtec
    python tools/front.py photos --only default,size-224,size-320 --seeds 5 --provider openvino

Each design is the preset `edge` with another input size or other networks; --set here holds for all of them.
Interrupted, the same command goes on; the timing is done anew each time, of the first category's and seed's models,
networks only. A design is on the front when no other is both faster and better. FOLDER/front.md keeps the table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from bench_runtimes import measure
from comparison import Tool, compare

from rstpm_edge.atomic_files import write_bytes
from rstpm_edge.cli.benchmark import BenchmarkOptions, benchmark_options, plan_benchmark
from rstpm_edge.cli.parameter_types import FILE, NAMES, PROVIDER
from rstpm_edge.cli.terminal import say, say_table
from rstpm_edge.engine.providers import Provider
from rstpm_edge.engine.session import open_session
from rstpm_edge.errors import UsageError

DESIGNS: dict[str, tuple[int | None, dict[str, str]]] = {  # input size, None for --size, and fields of the preset
    "default": (None, {}),
    "size-192": (192, {}),
    "size-224": (224, {}),
    "size-320": (320, {}),
    "narrow-students": (None, {"student1_widths": "24,32,48,80", "student2_widths": "80,64,32"}),
    "wide-students": (None, {"student1_widths": "96,128,192,320", "student2_widths": "320,256,128"}),
    "teacher2-full-resolution": (None, {"teacher2_shrink": "1"}),
    "edge-small": (None, {"teacher1_shrink": "2"}),
    "two-lite0": (None, {"teacher2": "tf_efficientnet_lite0"}),
    "two-lite0-no-attention": (None, {"teacher2": "tf_efficientnet_lite0", "attention": "false"}),
}


@dataclass(frozen=True)
class Row:
    """One design: accuracies as (mean, text), and milliseconds of its network."""

    name: str
    figures: dict[str, tuple[float, str]]
    median_ms: float
    min_ms: float


def on_front(row: Row, rows: list[Row]) -> bool:
    """Whether no other design is at least as good by image AUROC and as fast by median, and better in one of them."""
    auroc = row.figures["image_auroc"][0]
    for other in rows:
        better = other.figures["image_auroc"][0]
        if better >= auroc and other.median_ms <= row.median_ms and (better, other.median_ms) != (auroc, row.median_ms):
            return False
    return True


def time_models(models: list[Path], provider: Provider, threads: int, rounds: int) -> list[tuple[float, float]]:
    """Median and minimum in milliseconds of each model's network, on noise; the models take turns."""
    sessions = [open_session(model, providers=[provider], threads=threads) for model in models]
    draw = np.random.default_rng(0)
    images = [
        draw.integers(0, 256, (1, session.bundle.height, session.bundle.width, 3), np.uint8) for session in sessions
    ]
    clocks = measure(sessions, images, rounds, calls=10)[..., 0]
    return [(float(np.median(clock)), float(clock.min())) for clock in clocks]


def table(rows: list[Row]) -> str:
    lines = [
        "| design | image AUROC | pixel AUROC | AUPRO | ms, median (minimum) | front |",
        "|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: row.median_ms):
        figures = " | ".join(text for _, text in row.figures.values())
        mark = "yes" if on_front(row, rows) else ""
        lines.append(f"| {row.name} | {figures} | {row.median_ms:.1f} ({row.min_ms:.1f}) | {mark} |")
    return "\n".join(lines)


@click.command(cls=Tool, help=__doc__.replace("\n\n", "\n\n\b\n"))
@benchmark_options
@click.option("--only", type=NAMES, metavar="A,B,…", help=f"Of {', '.join(DESIGNS)}.  [default: all]")
@click.option("--provider", type=PROVIDER, default="cpu", show_default=True, help="Times the networks, as for `bench`.")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=20, show_default=True, help="Of 10 calls each.")
@click.option("--output", type=FILE, default="front", show_default=True, metavar="FOLDER")
def main(
    only: tuple[str, ...] | None, provider: Provider, threads: int, rounds: int, output: Path, **options: Any
) -> None:
    from rstpm_edge.training.benchmark.plan import check_plan
    from rstpm_edge.training.benchmark.results import mean_over_categories
    from rstpm_edge.training.model.preset_overrides import override

    names = only or tuple(DESIGNS)
    unknown = [name for name in names if name not in DESIGNS]
    if unknown:
        raise UsageError(f"There is no design {', '.join(unknown)}; choose from {', '.join(DESIGNS)}.")
    plan, categories, machine = plan_benchmark(replace(BenchmarkOptions(**options), keep=True))
    plans = {}
    for name in names:
        size, fields = DESIGNS[name]
        preset = override(plan.options.preset, fields)
        chosen = replace(plan.options, preset=preset, size=plan.options.size if size is None else (size, size))
        plans[name] = replace(plan, options=chosen)
        check_plan(plans[name])  # all of them before the first training
    found = compare("design", plans, categories, output, machine)
    models = [output / name / "models" / categories[0].name / f"seed_{plan.seeds[0]}.onnx" for name in names]
    times = time_models(models, provider, threads, rounds)
    rows = []
    for name, (median_ms, min_ms) in zip(names, times, strict=True):
        figures = {}
        for metric in ("image_auroc", "pixel_auroc", "aupro_30"):
            spread = mean_over_categories(found[name].results, "both", metric)
            figures[metric] = (spread.mean, str(spread)) if spread else (float("nan"), "–")
        rows.append(Row(name, figures, median_ms, min_ms))
    text = table(rows)
    write_bytes(output / "front.md", f"{text}\n".encode())
    say("")
    say_table(text)


if __name__ == "__main__":
    main()
