"""Options and output that several commands share."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from rstpm_edge.cli.terminal import say_note
from rstpm_edge.errors import UsageError

if TYPE_CHECKING:
    from rstpm_edge.engine.providers import Provider
    from rstpm_edge.image.roi import Roi

Command = TypeVar("Command", bound=Callable[..., Any])


class RateType(click.ParamType):  # type: ignore[type-arg]
    """A rate, typed as 0.05 or as 5%. Which ones are possible is told by those who take it."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip()
        try:
            return float(Decimal(text[:-1]) / 100) if text.endswith("%") else float(text)
        except (ValueError, ArithmeticError):
            self.fail(f"{text!r} is no rate; write it as 0.05 or as 5%.", param, ctx)


RATE = RateType()


def model_option(command: Command) -> Command:
    """--model, or RSTPM_EDGE_MODEL, or model.onnx in the working directory."""
    return click.option(
        "--model",
        type=click.Path(path_type=Path),
        envvar="RSTPM_EDGE_MODEL",
        default="model.onnx",
        show_default=True,
        show_envvar=True,
        help="The model file that `rstpm-edge export` wrote.",
    )(command)


def size_change_option(command: Command) -> Command:
    """--allow-size-change, as Detector takes it."""
    return click.option(
        "--allow-size-change",
        is_flag=True,
        help="Judge photos of another shape than was learned from, or that the model's ROI is not of, all the same.",
    )(command)


def session_options(command: Command) -> Command:
    """--provider, --engine-cache, --threads and --polite, as Detector takes them."""
    command = click.option(
        "--polite",
        is_flag=True,
        help="Let waiting threads sleep, not spin: a little slower, but kind to other programs on this box.",
    )(command)
    command = click.option(
        "--engine-cache",
        type=click.Path(path_type=Path),
        metavar="FOLDER",
        help="Keep what TensorRT or OpenVINO compiles there, so that the next start is quick.",
    )(command)
    command = provider_option(command)
    return click.option(
        "--threads",
        type=click.IntRange(1, 256),
        metavar="N",
        help="CPU threads.  [default: the physical cores]",
    )(command)


def provider_option(command: Command) -> Command:
    """--provider, as a list for Detector's `providers`, or None."""
    return click.option(
        "--provider",
        "providers",
        multiple=True,
        metavar="NAME[:OPTION=VALUE,...]",
        callback=lambda ctx, option, values: [parse_provider(value) for value in values] or None,
        help="Execution provider: cpu, cuda, tensorrt, openvino, …, with options, as in openvino:precision=bf16; "
        "repeat it for what the first one leaves to the next.  [default: cpu]",
    )(command)


def parse_provider(text: str) -> "Provider":
    """ "tensorrt:precision=f16,batch=4" -> ("tensorrt", {"precision": "f16", "batch": "4"}). Raises UsageError."""
    name, colon, listed = text.partition(":")
    if not colon:
        return name
    options = {}
    for pair in listed.split(","):
        key, equals, value = pair.partition("=")
        if not (name and key and equals):
            raise UsageError(f"--provider is NAME or NAME:OPTION=VALUE, such as tensorrt:precision=f16, not {text!r}.")
        options[key] = value
    return name, options


def chosen_roi(text: str | None) -> "Roi | Literal['model'] | None":
    """--roi as `Detector` takes it: the model's own, all of the photo for `full`, or a rectangle. Raises UsageError."""
    from rstpm_edge.image.roi import parse_roi

    if text is None:
        return "model"
    return None if text == "full" else parse_roi(text)


def chosen_mask(text: str | None) -> "Path | Literal['model'] | None":
    """--mask as `Detector` takes it: the model's own, none for `full`, or a file."""
    if text is None:
        return "model"
    return None if text in ("full", "none") else Path(text)


def images_below(folder: Path, leave_out: Sequence[Path] = ()) -> list[Path]:
    """The images in `folder` and below it, but for those in folders `leave_out` in it; tells what else is not taken.

    Raises UsageError for none.
    """
    from rstpm_edge.image.listing import list_folder

    # One that `folder` lies in is none of them: what is written there comes to lie beside `folder`, not in it.
    listing = list_folder(folder, leave_out=[path for path in leave_out if real(path).is_relative_to(real(folder))])
    if not listing.images:
        about = listing.about_left_out()
        raise UsageError(f"There are no images in the folder {folder}{f': {about}' if about else ''}.")
    if note := listing.note():
        say_note(note)
    return list(listing.images)


def real(path: Path) -> Path:
    """`path` without links, however they run: unlike Path.resolve, this raises for none that lead in a circle."""
    return Path(os.path.realpath(path))


def check_no_picture(option: str, file: Path | None) -> None:
    """Raises UsageError where what `option` writes would take the name, and the place, of a photo."""
    from rstpm_edge.image.listing import is_image_name

    if file is not None and is_image_name(file.name):
        raise UsageError(f"{option} does not write a picture: give it a name other than {file}.")


@contextlib.contextmanager
def training_packages() -> Iterator[None]:
    """Imports of rstpm_edge.training stand inside: raises UsageError where the packages that it needs are missing."""
    try:
        yield
    except ImportError as error:
        raise UsageError(
            f"This command needs packages for training ({error.name or error} is missing): "
            "pip install '.[train]' in the checkout, or pip install 'FILE.whl[train]' with the wheel's name"
        ) from error
