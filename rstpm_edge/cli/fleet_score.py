"""`rstpm-edge fleet score`: the verdicts on an archive of photos, by all processors or machines."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rstpm_edge.cli.options import (
    judged_part_options,
    model_option,
    provider_option,
    public_key_option,
    size_change_option,
)
from rstpm_edge.cli.parameter_types import FILE, RATE
from rstpm_edge.cli.progress import show_progress
from rstpm_edge.cli.signals import Interrupts
from rstpm_edge.cli.terminal import counted, say, say_json, say_note
from rstpm_edge.errors import UsageError

if TYPE_CHECKING:
    from rstpm_edge.fleet_score.score import Scored

SOMETHING_UNREADABLE, SIGNALLED = 3, 128


@click.command()
@click.argument("archive")
@model_option
@click.option("--out", type=FILE, required=True, metavar="FOLDER", help="Where the results are kept, as Parquet.")
@click.option("--column", metavar="NAME", help="The column of the images' bytes in Parquet.  [default: the only one]")
@click.option("--workers", type=click.IntRange(1, 100_000), metavar="N", help="Detectors.  [default: one a processor]")
@click.option("--address", metavar="ADDRESS", help="A Ray cluster that there is, as host:port or `auto`.")
@click.option("--batch", type=click.IntRange(1, 4096), default=32, show_default=True, help="Images of one task.")
@click.option("--alpha", type=RATE, metavar="RATE", help="The threshold for this rate of false rejects.")
@click.option("--threshold", type=float, help="The threshold itself.")
@judged_part_options
@size_change_option
@provider_option
@public_key_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def score(
    ctx: click.Context,
    /,
    archive: str,
    model: Path,
    out: Path,
    column: str | None,
    workers: int | None,
    address: str | None,
    batch: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Judge all photos of ARCHIVE and keep the verdicts in FOLDER, as Parquet.

    ARCHIVE is a folder, a glob in quotes, Parquet files with the photos' bytes, or one of these at an address that
    fsspec knows, such as s3://bucket/photos. Each photo gets one row, also one that cannot be read, or whose worker
    died; the same command goes on where it was, and judges only what is new or has changed. Needs the packages
    of the [fleet] extra: Ray shares out the work, on this machine or, with --address, on a cluster.

    \b
    Exit codes: 0 all have a verdict; 3 some could not be read or judged, and say why in `error`.
    \b
    Examples:
      rstpm-edge fleet score photos --model model.onnx --out scores
      rstpm-edge fleet score 's3://line4/2026-*/*.jpg' --out scores --address 10.0.0.5:6379
    """
    from rstpm_edge.ray_cluster import import_ray

    import_ray(address)  # what is missing is told before the work
    from rstpm_edge.cpu import usable_cores
    from rstpm_edge.fleet_score.score import ScorePlan, score_archive
    from rstpm_edge.pipeline import InferenceOptions

    if not str(archive).strip():
        raise UsageError("Name a folder, a glob, a Parquet file or an address.")
    plan = ScorePlan(archive, model, out, InferenceOptions(notify=_nobody, **options), column, address, workers, batch)
    with Interrupts() as interrupts, show_progress({"images": 1.0}) as report:
        scored = score_archive(plan, usable_cores(), report=report, stop=lambda: interrupts.received is not None)
    _say(scored, as_json)
    if interrupts.received and not scored.is_whole:
        say_note(f"Stopped; the same command goes on: {scored.images - sum(scored.counts.values())} images are left.")
        ctx.exit(SIGNALLED + interrupts.received)
    if scored.counts.get("failed"):
        ctx.exit(SOMETHING_UNREADABLE)


def _say(scored: "Scored", as_json: bool) -> None:
    if scored.note:
        say_note(scored.note)
    if as_json:
        say_json(
            {
                "images": scored.images,
                "done_before": scored.done_before,
                "counts": scored.counts,
                "seconds": round(scored.seconds, 3),
                "folder": os.fspath(scored.folder),
            }
        )
        return
    named = ", ".join(f"{number} {verdict}" for verdict, number in sorted(scored.counts.items())) or "none judged"
    before = f"; {scored.done_before} were done before" if scored.done_before else ""
    say(f"{counted(scored.images, 'image')}: {named}{before}.")
    say(f"Rows: {scored.folder}")


def _nobody(sentence: str) -> None:
    """Goldens and photos of the driver's own check say nothing of the archive."""
