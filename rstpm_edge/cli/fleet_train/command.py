"""`rstpm-edge fleet train`. It imports torch and Ray only when it runs."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rstpm_edge.cli.common import training_packages
from rstpm_edge.cli.fleet_train.table import counts, show_fleet
from rstpm_edge.cli.parameter_types import FILE
from rstpm_edge.cli.signals import Interrupts
from rstpm_edge.cli.terminal import as_typed, counted, percent, say, say_json, say_note, say_table
from rstpm_edge.cli.training_options import ProductTrainingOptions, product_training_options
from rstpm_edge.printable import one_line

if TYPE_CHECKING:
    from rstpm_edge.training.fleet_train.product import Product
    from rstpm_edge.training.fleet_train.result import ProductResult

SOMETHING_FAILED, SIGNALLED = 3, 128


@click.command()
@click.argument("products", type=FILE)
@click.option(
    "--out", type=FILE, default="models", show_default=True, metavar="FOLDER", help="Where models and reports go."
)
@product_training_options
@click.option(
    "--threads", type=click.IntRange(1, 1024), default=1, show_default=True, metavar="N", help="Of each training."
)
@click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="Trainings at once on this machine.  [default: as many as its processors and memory allow]",
)
@click.option("--address", metavar="ADDRESS", help="A Ray cluster that there is, as host:port or `auto`.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def train(
    ctx: click.Context,
    /,
    products: Path,
    out: Path,
    threads: int,
    workers: int | None,
    address: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Train all PRODUCTS at once: audit, train, calibrate, export, and evaluate where there are labelled photos.

    PRODUCTS is a folder with a folder for each product, as `train` takes it; or a TOML file with a section for each,
    such as [product.bracket], of which `data` names the folder, and all else is an option of this command that
    concerns one product, so not --device, --precision, --threads or --workers. Models go to FOLDER/NAME.onnx, reports
    to FOLDER/fleet.html and fleet.json. A product that cannot be trained fails alone. The same command goes on where it
    was, and repeats nothing that is done: photos, options and version tell, not time.
    Needs the packages of the [fleet] and [train] extras: Ray shares out the work, on this machine or, with --address,
    on a cluster.

    \b
    Exit codes: 0 all products have a model; 3 some failed, and say why.
    \b
    Examples:
      rstpm-edge fleet train products --max-minutes 10
      rstpm-edge fleet train products.toml --out models --workers 2
    """
    from rstpm_edge.cpu import usable_cores
    from rstpm_edge.ray_cluster import import_ray

    import_ray(address)  # what is missing is told before the work
    with training_packages():
        from rstpm_edge.training.fleet_train.fleet import FleetPlan, train_fleet
        from rstpm_edge.training.learning.machine import Machine
    typed = ProductTrainingOptions(**options)
    found = _products(products, typed, out)
    plan = FleetPlan(found, out, Machine(typed.device, typed.precision), threads, workers, address)
    with Interrupts() as interrupts, show_fleet(len(found)) as show:
        results = train_fleet(
            plan, usable_cores(), report=show, stop=lambda: interrupts.received is not None, wording=as_typed
        )
    _say(results, len(found), out, as_json)
    if interrupts.received and len(results) < len(found):
        left = counted(len(found) - len(results), "product")
        say_note(f"Stopped; the same command goes on: {left} left.")
        ctx.exit(SIGNALLED + interrupts.received)
    if any(one.failure is not None for one in results):
        ctx.exit(SOMETHING_FAILED)


def _products(products: Path, typed: ProductTrainingOptions, out: Path) -> "tuple[Product, ...]":
    from rstpm_edge.training.fleet_train.product import products_below

    if products.suffix.lower() == ".toml":
        from rstpm_edge.cli.fleet_train.products_file import read_products_file

        return read_products_file(products, typed)
    return products_below(products, typed.product_options(), leave_out=out)


def _say(results: "Sequence[ProductResult]", products: int, out: Path, as_json: bool) -> None:
    from rstpm_edge.training.fleet_train.report import DOCUMENT, PAGE, to_json
    from rstpm_edge.training.fleet_train.result import worst_first

    ordered = worst_first(list(results))
    if as_json:
        say_json({**to_json(ordered, products - len(results)), "folder": os.fspath(out)})
        return
    if ordered:
        say_table(format_results(ordered))
        say("")
    say(f"{counts(results, (), products)}. Report: {out / PAGE}, {out / DOCUMENT}")


def format_results(ordered: "Sequence[ProductResult]") -> str:
    """What people read: a line for each product, worst first, and what it needs."""
    width = max(7, *(len(one.name) for one in ordered))
    lines = [f"{'product':{width}}{'defects found':>22}{'AUROC':>8}{'rejected':>10}{'photos':>8}{'minutes':>9}  needs"]
    for one in ordered:
        if one.failure is not None or one.trained is None:
            lines.append(f"{one.name:{width}}  failed: {one_line(one.failure)}")
            continue
        measured, found = one.measured, one.found
        share = "–" if found is None else f"{percent(found)}{'' if measured else ' (synthetic)'}"
        auroc, rejected = (
            ("–", "–") if measured is None else (f"{measured.image_auroc:.3f}", percent(measured.false_rejects))
        )
        needs = ", ".join(dict.fromkeys(need.kind for need in one.needs)) or "nothing"
        lines.append(
            f"{one.name:{width}}{share:>22}{auroc:>8}{rejected:>10}{one.trained.photos:>8}{one.trained.minutes:>9.1f}"
            f"  {needs}"
        )
    return "\n".join(lines)
