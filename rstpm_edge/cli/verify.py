"""`rstpm-edge verify`. It imports torch only where a model is compared with the run that it came from."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from rstpm_edge.cli.common import evenly_spread, images_of, one_model, run_or_newest, training_packages
from rstpm_edge.cli.options import model_option, public_key_option, session_options, size_change_option
from rstpm_edge.cli.parameter_types import FILE
from rstpm_edge.cli.progress import show_progress
from rstpm_edge.cli.terminal import counted, say, say_error
from rstpm_edge.errors import ExportError, UsageError

if TYPE_CHECKING:
    from rstpm_edge.engine.session import Session

SOMETHING_DIFFERENT = 1


@click.command()
@click.argument("paths", nargs=-1, metavar="[MODEL] [IMAGE]...", type=FILE)
@model_option
@public_key_option
@click.option("--run", type=FILE, help="With IMAGEs: where it was exported from.  [default: newest in ./runs]")
@click.option(
    "--most", type=click.IntRange(min=1), default=50, show_default=True, help="With IMAGEs: so many, evenly spread."
)
@size_change_option
@session_options
@click.pass_context
def verify(
    ctx: click.Context,
    /,
    paths: tuple[Path, ...],
    model: Path,
    public_key: Path | None,
    run: Path | None,
    most: int,
    allow_size_change: bool,
    **running: Any,
) -> None:
    """Check that a model file is what was released, and that this device judges with it as it should.

    MODEL is the file, whose name ends in .onnx; --model names it, too. With --public-key, it must be signed with the
    other half of that key. Its goldens, the photos that `export --golden` put into it, are judged once more, with the
    provider that is named here: verdicts must be the same, and scores and maps differ by no more than rounding does.

    With IMAGEs, files or folders with everything below them, ONNX Runtime and the C++ kernels are compared with PyTorch
    and NumPy instead, which needs the packages for training and the run that it was exported from.

    Exit code: 0 it is; 1 a golden comes out otherwise; 2 the model cannot be used, or wrong use.

    \b
    Examples:
      rstpm-edge verify bracket.onnx --public-key release.pub
      rstpm-edge verify bracket.onnx --provider openvino:precision=bf16
      rstpm-edge verify photos/good --model bracket.onnx --run runs/bracket
    """
    for path in paths:
        if path.name.lower().endswith(".onnx.sig"):
            raise UsageError(f"{path} is a signature, which is found beside its model: give {path.with_suffix('')}.")
    named = [path for path in paths if path.suffix.lower() == ".onnx"]
    if len(named) > 1:
        raise UsageError(f"Give one model, not {named[0]} and {named[1]}.")
    model = one_model(ctx, named[0] if named else None, model)
    rest = [path for path in paths if path not in named]
    if rest:
        if any(running.values()):
            raise UsageError("--provider, --engine-cache, --threads and --polite are for goldens: leave them out here.")
        _compare(rest, model, public_key, run, most, allow_size_change)
    else:
        for name in ("run", "most", "allow_size_change"):
            if ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE:
                raise UsageError(f"--{name.replace('_', '-')} goes with IMAGEs only, and here are none.")
        ctx.exit(_verify(model, public_key, running))


def _verify(model: Path, public_key: Path | None, running: dict[str, Any]) -> int:
    """The exit code."""
    from rstpm_edge.engine.session import open_session
    from rstpm_edge.model.keys import load_public_key

    session = open_session(model, public_key=public_key, with_goldens=True, **running)
    if public_key is None and session.goldens is None:
        raise UsageError(
            f"There is nothing to verify {model} by: it holds no goldens (`rstpm-edge export --golden PHOTO`); give "
            "images to compare on, or a key: `rstpm-edge verify --public-key KEY`."
        )
    if public_key is not None:
        key = load_public_key(public_key).hint[:16]
        say(f"{model}: signed with the key {key} ({public_key}); SHA-256 {session.sha256}.")
    return 0 if session.goldens is None else _replay(model, session)


def _replay(model: Path, session: "Session") -> int:
    from rstpm_edge.engine.providers import short
    from rstpm_edge.golden_check import replay

    found = replay(session)
    how = short(session.providers[0]) + (f" in {session.precision}" if session.precision else "")
    say(
        f"{model}: {counted(len(found.results), 'golden')} with {how}; largest difference of the score "
        f"{found.score_difference:.2g}, of a map {found.map_difference:.2g} ({found.tolerance:g} is allowed); smallest "
        f"margin to the threshold {found.margin:.2g}; all as shares of the way from a typical score to the threshold."
    )
    problem = found.problem()
    if problem is None:
        return 0
    say_error(f"The model {model} is not what it was: {problem}.")
    return SOMETHING_DIFFERENT


def _compare(
    paths: list[Path], model: Path, public_key: Path | None, run: Path | None, most: int, allow_size_change: bool
) -> None:
    with training_packages():
        from rstpm_edge.training.export import verify as verify_module
    images = images_of(paths)
    run = run_or_newest(run)
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
