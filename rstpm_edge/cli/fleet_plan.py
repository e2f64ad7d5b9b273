"""`rstpm-edge fleet plan`. It imports torch only when it runs."""

import contextlib
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rstpm_edge.cli.common import training_packages
from rstpm_edge.cli.parameter_types import FILE, FRAME_SIZE, NumberRange
from rstpm_edge.cli.progress import show_progress
from rstpm_edge.cli.terminal import counted, say_json, say_table
from rstpm_edge.cli.training_options import SharedTrainingOptions, shared_training_options
from rstpm_edge.errors import UsageError

if TYPE_CHECKING:
    from rstpm_edge.training.fleet_plan.plan import Plan, Workload
    from rstpm_edge.training.fleet_plan.rates import Rates
    from rstpm_edge.training.learning.options import TrainingOptions

RENDERED = 16  # photos of a part, where no folder is given


@click.command()
@click.argument("folders", nargs=-1, metavar="[PRODUCT]...", type=FILE)
@click.option(
    "--products", type=click.IntRange(1, 10**9), metavar="N", help="Plan for so many, like those that are given."
)
@click.option("--photos", type=click.IntRange(0, 10**15), default=0, metavar="M", help="Photos to score.")
@click.option(
    "--photos-each",
    type=click.IntRange(5, 10**7),
    default=300,
    show_default=True,
    metavar="N",
    help="Good photos of a product, without PRODUCTs.",
)
@click.option(
    "--photo-size",
    type=FRAME_SIZE,
    default="1024x1024",
    show_default=True,
    metavar="WxH",
    help="Pixels of a photo, without PRODUCTs.",
)
@click.option("--model", type=FILE, metavar="FILE", help="Score with this model.  [default: one of the preset]")
@click.option(
    "--within", type=NumberRange(min=0, min_open=True), default=24.0, show_default=True, metavar="HOURS",
    help="How soon all is to be done, which says how many machines it takes.",
)  # fmt: skip
@shared_training_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def plan(
    folders: tuple[Path, ...],
    products: int | None,
    photos: int,
    photos_each: int,
    photo_size: Any,
    model: Path | None,
    within: float,
    as_json: bool,
    **shared: Any,
) -> None:
    """Say what training products and scoring photos takes in hours and machines, by what this machine does in a minute.

    PRODUCTs are folders as `train` takes them. Each is counted, and photos of the first one are measured with; time
    grows with the pixels of the input. Without folders, photos of a rendered part are. Training and scoring are
    measured as they run: a few photos go through each stage, and all cores judge for some seconds.

    \b
    Examples:
      rstpm-edge fleet plan products/*
      rstpm-edge fleet plan --products 1000 --photos 100000000 --within 168
    """
    load = os.getloadavg()[0]
    with training_packages():
        from rstpm_edge.training.fleet_plan.plan import plan_fleet
        from rstpm_edge.training.fleet_plan.rates import measure
        from rstpm_edge.training.learning.machine import Machine
    typed = SharedTrainingOptions(**shared)
    options = typed.training_options()
    with contextlib.ExitStack() as stack:
        report = stack.enter_context(show_progress())
        if folders:
            files, loads = _given(folders, options, products)
        else:
            if products is None and not photos:
                raise UsageError("Give product folders, or --products N, or --photos M.")
            files = _rendered(Path(stack.enter_context(tempfile.TemporaryDirectory())), photo_size)
            loads = [_load(files, options, products or 0, photos_each)]
        rates = measure(
            files,
            loads[0].size,
            options,
            Machine(typed.device, typed.precision),
            load=load,
            model_file=model,
            report=report,
        )
    found = plan_fleet(loads, photos, rates, options, within=within)
    if as_json:
        say_json({"plan": found.to_json(), "rates": asdict(rates), "loads": [asdict(one) for one in loads]})
    else:
        say_table(_table(found, rates, loads))


def _given(
    folders: tuple[Path, ...], options: "TrainingOptions", products: int | None
) -> "tuple[list[Path], list[Workload]]":
    """Photos of the first product, and what each of them is; `products` are as those that are given, on average."""
    from dataclasses import replace

    from rstpm_edge.training.data.images import good_images

    each = [good_images(folder) for folder in folders]
    loads = [_load(files, options, 1, len(files)) for files in each]
    if products is not None:
        share, more = divmod(products, len(loads))
        loads = [replace(one, products=share + (i < more)) for i, one in enumerate(loads)]
    return list(each[0]), loads


def _load(files: list[Path], options: "TrainingOptions", products: int, photos: int) -> "Workload":
    from rstpm_edge.training.data.input_size import MOST, choose_size, sampled_sizes
    from rstpm_edge.training.fleet_plan.plan import Workload
    from rstpm_edge.training.learning.options import check_options, size_unit

    check_options(options)
    size = options.size or choose_size(sampled_sizes(files, options.roi), size_unit(options.preset), MOST)
    return Workload(products, photos, size)


def _rendered(folder: Path, size: tuple[int, int]) -> list[Path]:
    """Photos of a part of this (height, width)."""
    import cv2

    from rstpm_edge.training.demo.part import render_part

    if min(size) < 128 or max(size) > 8192:
        raise UsageError(f"--photo-size has sides from 128 to 8192 pixels, not {size[1]}x{size[0]}.")
    files = []
    for number in range(RENDERED):
        files.append(folder / f"{number}.jpg")
        # Rendering large ones takes long, and what they show decides no time.
        image, _ = render_part(number, size=(256, 256))
        cv2.imwrite(str(files[-1]), cv2.resize(image, size[::-1], interpolation=cv2.INTER_CUBIC))
    return files


def _table(found: "Plan", rates: "Rates", loads: "list[Workload]") -> str:
    sizes = sorted({one.size for one in loads})
    shown = ", ".join(f"{height}x{width}" for height, width in sizes[:4]) + (", …" if len(sizes) > 4 else "")
    stages = rates.stages
    training = (
        f"{found.training_hours:.4g} hours of a machine ({found.photos_to_learn:,} good photos, input {shown}); "
        f"the longest one {60 * found.longest_hours:.3g} minutes"
    )
    rows = [
        ("training", f"{counted(found.products, 'product')}: {training}"),
        ("export", f"{found.export_hours:.4g} hours; {found.model_gigabytes:.3g} GB of models"),
        ("scoring", f"{found.photos_to_score:,} photos: {found.scoring_hours:.4g} hours of a machine"),
        ("all", f"{found.hours:.4g} hours of one machine such as this; {_machines(found)}"),
        (
            "measured",
            f"at {rates.size[0]}x{rates.size[1]}: reading {1000 * rates.read:.3g} ms a photo, teachers "
            f"{1000 * stages.teachers:.3g} ms an image, students {1000 * stages.step:.3g} ms a photo and epoch, export "
            f"{rates.export:.3g} s, scoring {rates.photos_per_second:.4g} photos a second on "
            f"{counted(rates.cores, 'core')}",
        ),
        ("load", f"{rates.load:.1f} before it was measured; where that is not near 0, all is slower than it need be"),
    ]
    return "\n".join(f"{name:10}{text}" for name, text in rows)


def _machines(found: "Plan") -> str:
    return f"{counted(found.machines, 'machine')} for {found.within:g} hours"
