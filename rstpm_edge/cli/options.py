"""Options that several commands have."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import click

from rstpm_edge.cli.parameter_types import FILE, MASK_OR_FULL, PROVIDER, ROI_OR_FULL
from rstpm_edge.errors import UsageError

if TYPE_CHECKING:
    from rstpm_edge.image.roi import Roi

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator: TypeAlias = Callable[[Command], Command]
# As `Detector` takes them: the model's own, None for all of the photo, or others.
JudgedRoi: TypeAlias = "Roi | Literal['model'] | None"
JudgedMask: TypeAlias = "Path | Literal['model'] | None"
PUBLIC_KEY = "RSTPM_EDGE_PUBLIC_KEY"
REGISTRY = "RSTPM_EDGE_REGISTRY"


def option_group(*options: Decorator[Any]) -> Decorator[Any]:
    """Several options as one decorator; they stand in `--help` in this order."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _not_switched_off(context: click.Context, parameter: click.Parameter, key: Path | None) -> Path | None:
    """Raises UsageError for a variable that is set, but empty: to click that is one that is not set."""
    if key is None and os.environ.get(PUBLIC_KEY) == "":
        raise UsageError(f"The variable {PUBLIC_KEY} is empty: name a key there, or unset it to take any model.")
    return key


def _of_detector(context: click.Context, option: click.Parameter, value: Any) -> Any:
    return "model" if value is None else None if value == "full" else value


# --model, or RSTPM_EDGE_MODEL, or model.onnx in the working directory.
model_option = click.option(
    "--model",
    type=FILE,
    envvar="RSTPM_EDGE_MODEL",
    default="model.onnx",
    show_default=True,
    show_envvar=True,
    help="The model file that `rstpm-edge export` wrote.",
)

# --registry, or RSTPM_EDGE_REGISTRY, for commands that can do without one.
registry_option = click.option(
    "--registry",
    type=FILE,
    envvar=REGISTRY,
    show_envvar=True,
    metavar="FOLDER",
    help="The folder of `rstpm-edge registry`.",
)

# --public-key, as Detector takes it.
public_key_option = click.option(
    "--public-key",
    type=FILE,
    envvar=PUBLIC_KEY,
    show_envvar=True,
    metavar="FILE",
    callback=_not_switched_off,
    help="Take no model but one that `rstpm-edge sign` signed with the other half of this key.",
)

# --allow-size-change, as Detector takes it.
size_change_option = click.option(
    "--allow-size-change",
    is_flag=True,
    help="Judge photos of another shape than was learned from, or that the model's ROI is not of, all the same.",
)

# --sessions: which photos were taken together.
photo_sessions_option = click.option(
    "--sessions",
    metavar="folder|REGEX",
    help="Which photos were taken together, of a day, a roll, an item: `folder`, those in a folder below; or a "
    "regular expression that is found in each name, and whose first group names the session.",
)

# --provider, as a list for Detector's `providers`, or None.
provider_option = click.option(
    "--provider",
    "providers",
    multiple=True,
    metavar="NAME[:OPTION=VALUE,...]",
    type=PROVIDER,
    callback=lambda context, option, values: list(values) or None,
    help="Execution provider: cpu, cuda, tensorrt, openvino, …, with options, as in openvino:precision=bf16; "
    "repeat it for what the first one leaves to the next.  [default: cpu]",
)

# --threads, --provider, --engine-cache and --polite, as Detector takes them.
session_options = option_group(
    click.option(
        "--threads",
        type=click.IntRange(1, 256),
        metavar="N",
        help="CPU threads.  [default: the physical cores]",
    ),
    provider_option,
    click.option(
        "--engine-cache",
        type=FILE,
        metavar="FOLDER",
        help="Keep what TensorRT or OpenVINO compiles there, so that the next start is quick.",
    ),
    click.option(
        "--polite",
        is_flag=True,
        help="Let waiting threads sleep, not spin: a little slower, but kind to other programs on this box.",
    ),
)

# --roi and --mask, as Detector takes them.
judged_part_options = option_group(
    click.option(
        "--roi",
        type=ROI_OR_FULL,
        callback=_of_detector,
        metavar="X,Y,W,H",
        help="Judge this part (pixels), or `full`.  [default: what was trained on]",
    ),
    click.option(
        "--mask",
        type=MASK_OR_FULL,
        callback=_of_detector,
        metavar="FILE",
        help="A picture: anomalies where it is black do not count; or `full`.  "
        "[default: what was exported with the model]",
    ),
)
