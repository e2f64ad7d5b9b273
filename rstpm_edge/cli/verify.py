"""`rstpm-edge verify`. It imports torch only where a model is compared with the run that it came from."""

from pathlib import Path

import click

from rstpm_edge.cli.common import evenly_spread, images_of, one_model, training_packages
from rstpm_edge.cli.options import model_option, public_key_option, size_change_option
from rstpm_edge.cli.parameter_types import FILE
from rstpm_edge.cli.progress import show_progress
from rstpm_edge.cli.terminal import say
from rstpm_edge.errors import ExportError, UsageError


@click.command()
@click.argument("paths", nargs=-1, metavar="[MODEL] [IMAGE]...", type=FILE)
@model_option
@public_key_option
@click.option("--run", type=FILE, help="With IMAGEs: where it was exported from.  [default: newest in ./runs]")
@click.option(
    "--most", type=click.IntRange(min=1), default=50, show_default=True, help="With IMAGEs: so many, evenly spread."
)
@size_change_option
@click.pass_context
def verify(
    ctx: click.Context,
    paths: tuple[Path, ...],
    model: Path,
    public_key: Path | None,
    run: Path | None,
    most: int,
    allow_size_change: bool,
) -> None:
    """Check that a model file is what was released: its signature, and whether all implementations agree on it.

    MODEL is the file, whose name ends in .onnx; --model names it, too. With --public-key, it must be signed with the
    other half of that key. With IMAGEs, files or folders with everything below them, ONNX Runtime and the C++ kernels
    are compared with PyTorch and NumPy, which needs the packages for training and the run that it was exported from.

    \b
    Examples:
      rstpm-edge verify bracket.onnx --public-key release.pub
      rstpm-edge verify photos/good --model bracket.onnx --run runs/bracket
    """
    named = [path for path in paths if path.suffix == ".onnx"]
    if len(named) > 1:
        raise UsageError(f"Give one model, not {named[0]} and {named[1]}.")
    model = one_model(ctx, named[0] if named else None, model)
    rest = [path for path in paths if path not in named]
    if not rest and public_key is None:
        raise UsageError(f"There is nothing to verify {model} by: give --public-key, or images to compare on.")
    if public_key is not None:
        _check_signature(model, public_key)
    if rest:
        _compare(rest, model, public_key, run, most, allow_size_change)


def _check_signature(model: Path, public_key: Path) -> None:
    from rstpm_edge.model.keys import load_public_key
    from rstpm_edge.model.model_file import opened

    key = load_public_key(public_key)
    with opened(model, key) as found:
        sha256 = found.sha256
    say(f"{model}: signed with the key {key.hint[:16]} ({public_key}); SHA-256 {sha256}.")


def _compare(
    paths: list[Path], model: Path, public_key: Path | None, run: Path | None, most: int, allow_size_change: bool
) -> None:
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
            public_key=public_key,
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
