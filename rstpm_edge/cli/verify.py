"""`rstpm-edge verify`. It imports torch only when it runs."""

from pathlib import Path

import click

from rstpm_edge.cli.common import evenly_spread, images_of, training_packages
from rstpm_edge.cli.options import model_option, size_change_option
from rstpm_edge.cli.parameter_types import FILE
from rstpm_edge.cli.progress import show_progress
from rstpm_edge.cli.terminal import say
from rstpm_edge.errors import ExportError


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=FILE)
@model_option
@click.option("--run", type=FILE, help="Where it was exported from.  [default: newest in ./runs]")
@click.option("--most", type=click.IntRange(min=1), default=50, show_default=True, help="Images, evenly spread.")
@size_change_option
def verify(paths: tuple[Path, ...], model: Path, run: Path | None, most: int, allow_size_change: bool) -> None:
    """Compare a model file in ONNX Runtime and in the C++ kernels with PyTorch and NumPy, on images.

    \b
    Example:
      rstpm-edge verify photos/good
    """
    with training_packages():
        from rstpm_edge.training.export import verify as verify_module
        from rstpm_edge.training.learning import run_folder
    images = images_of(paths)
    run = run or run_folder.newest_run()
    with show_progress() as display:
        result = verify_module.verify(
            run,
            model,
            evenly_spread(images, most),
            allow_size_change=allow_size_change,
            notify=display.say,
            report=display,
        )
    say(
        f"{result.images} images; largest difference of a map {result.map_onnxruntime:.1e} (ONNX Runtime and PyTorch), "
        f"of the fused map {result.fused_extension:.1e} (extension and NumPy, relative), "
        f"of the score {result.score:.1e} (relative)."
    )
    if not result.agree:
        raise ExportError(f"{model} does not agree with {run}: was it exported from another run?")
