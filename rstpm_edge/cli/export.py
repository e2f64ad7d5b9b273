"""`rstpm-edge export`. It imports torch only when it runs."""

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from rstpm_edge.atomic_files import check_writable
from rstpm_edge.cli.common import check_no_picture, run_or_newest, training_packages
from rstpm_edge.cli.parameter_types import FILE, MARGIN
from rstpm_edge.cli.progress import show_progress
from rstpm_edge.cli.terminal import say, say_table
from rstpm_edge.cpu import advice
from rstpm_edge.errors import UsageError

if TYPE_CHECKING:
    from rstpm_edge.training.export.export import ExportReport
    from rstpm_edge.training.quantization.acceptance import PrecisionComparison
    from rstpm_edge.training.quantization.reduced_precision import ReducedModel


@click.command()
@click.argument("run", required=False, type=FILE)
@click.option("-o", "--output", type=FILE, default="model.onnx", show_default=True)
@click.option("--fused", is_flag=True, help="Also give anomaly_map and score in the graph, for other runtimes.")
@click.option(
    "--triton",
    type=FILE,
    metavar="FOLDER",
    help="In the place of --output, write the next version of a model there, as Triton, KServe and OpenVINO Model "
    "Server take it; with --fused.",
)
@click.option(
    "--triton-name", default="rstpm_edge", show_default=True, metavar="NAME", help="The model's name on that server."
)
@click.option(
    "--mask",
    type=FILE,
    metavar="FILE",
    help="Keep this mask in the model: anomalies where it is black do not count (not in the graph of --fused).",
)
@click.option(
    "--golden",
    "goldens",
    type=FILE,
    multiple=True,
    metavar="PHOTO",
    help="Keep this photo in the model, with the verdict on it, so that `verify` can tell whether another device gives "
    "the same. Repeat it for up to 8. Whoever has the model can see them.",
)
@click.option("--int8", is_flag=True, help="8-bit convolutions: a third of the file, and faster on most processors.")
@click.option("--fp16", is_flag=True, help="16-bit floats: half the file, for GPUs and some ARM processors.")
@click.option("--symmetric", is_flag=True, help="With --int8: as TensorRT takes it, and slow on a CPU.")
@click.option("--data", type=FILE, metavar="FOLDER", help="Where the run's photos are now.")
@click.option(
    "--margin",
    "margins",
    type=MARGIN,
    multiple=True,
    metavar="NAME=VALUE",
    help="What --int8 and --fp16 may change: auroc=0.005, false_rejects=0.02, verdict=0.25 unless given otherwise.",
)
@click.pass_context
def export(
    ctx: click.Context,
    run: Path | None,
    output: Path,
    fused: bool,
    triton: Path | None,
    triton_name: str,
    mask: Path | None,
    goldens: tuple[Path, ...],
    int8: bool,
    fp16: bool,
    symmetric: bool,
    data: Path | None,
    margins: tuple[tuple[str, str], ...],
) -> None:
    """Write a finished RUN (the newest in ./runs by default) as one ONNX file, and check it on real images.

    --int8 and --fp16 need the photos that the run was trained on. They compare the result with the float32 model on
    photos that were held out, also with synthetic defects in them, and refuse when it moved too far.

    \b
    Examples:
      rstpm-edge export
      rstpm-edge export runs/2026-01-31_12-00-00 -o bracket.onnx --fused
      rstpm-edge export --int8 -o bracket-int8.onnx
      rstpm-edge export --triton models --triton-name bracket
    """
    if int8 and fp16:
        raise UsageError("Give either --int8 or --fp16; each makes a file of its own.")
    if symmetric and not int8:
        raise UsageError("--symmetric goes with --int8 only.")
    if not (int8 or fp16) and (data is not None or margins):
        raise UsageError("--data and --margin go with --int8 or --fp16 only; a float32 export needs neither.")
    for name, goes_with in (("output", triton is None), ("triton_name", triton is not None)):
        if not goes_with and ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE:
            raise UsageError("Give either --output or --triton, with --triton-name for the latter.")
    if triton is None:
        check_no_picture("-o", output)
        check_writable(output)
    with training_packages():
        from rstpm_edge.training.export import export as export_module
        from rstpm_edge.training.export.triton import new_version
        from rstpm_edge.training.quantization import acceptance, reduced_precision
    reduction = reduced_precision.Reduction(
        precision="int8" if int8 else "fp16" if fp16 else "fp32",
        symmetric=symmetric,
        data=data,
        margins=acceptance.checked_margins(dict(margins)),
    )
    run = run_or_newest(run)
    with (
        show_progress(reduced_precision.PLANS.get(reduction.precision)) as report,
        contextlib.nullcontext() if triton is None else new_version(triton, triton_name) as version,
    ):
        found = export_module.export(
            run,
            output if version is None else version.model,
            fused=fused or triton is not None,
            mask=mask,
            goldens=goldens,
            reduction=reduction,
            report=report,
            compared=lambda comparison: say_table(_precision_table(comparison)),
        )
    say_export(found if version is None else replace(found, path=version.model))


def say_export(report: "ExportReport") -> None:
    """One line, and more where a backbone brought something that not every runtime takes."""
    small = report.reduced
    say(
        f"{report.path} ({report.path.stat().st_size / 1e6:.1f} MB{f', {report.precision}' if small else ''}): "
        f"{'in float32, it ' if small else ''}agrees with PyTorch on {report.images} images; "
        f"largest difference {report.map_difference:.1g} (maps), {report.score_difference:.1g} (score, relative)."
    )
    if small:
        _say_reduced(report.precision, small)
    if report.rare_operators:
        say(f"Not every TensorRT or OpenVINO takes these operators: {', '.join(report.rare_operators)}.")
    if report.obstacles:
        many = "" if len(report.obstacles) == 1 else f", for {len(report.obstacles)} reasons"
        say(f"TensorRT or OpenVINO may refuse this file{many}: {report.obstacles[0]}")


def _say_reduced(precision: str, small: "ReducedModel") -> None:
    """What the reduction did, and whether it pays on this machine: measured, and by what the processor has."""
    if small.share is not None:
        kept = f"{len(small.kept)} of {small.blocks} blocks stay in float"
        if small.kept:
            kept += f": {', '.join(small.kept)}"
        say(
            f"Activation ranges by {small.method}; {kept}. {small.share.operators:.0%} of the operators and "
            f"{small.share.multiplications:.0%} of the multiplications are integer."
        )
    before, after = small.milliseconds
    say(
        f"One image in ONNX Runtime here, at best: {before:.1f} ms in FP32, {after:.1f} ms in {precision.upper()}; "
        f"{'INT8 for TensorRT is slow on a CPU' if small.symmetric else advice(precision)}."
    )


def _precision_table(comparison: "PrecisionComparison") -> str:
    """What moved against float32, as people read it."""
    header = f"{comparison.good} held-out good photos, {comparison.spoiled} with a synthetic defect"
    lines = [f"{header:56}{'float32':>12}{'this file':>12}{'allowed':>10}"]
    for row in comparison.rows:
        verdict = "" if row.holds else "  too far"
        lines.append(f"{row.name:56}{row.before:>12}{row.after:>12}{row.allowed or '':>10}{verdict}")
    return "\n".join(lines)
