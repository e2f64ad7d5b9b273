"""What several commands check and look up before their work."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from click.core import ParameterSource

from rstpm_edge.cli.terminal import say, say_note
from rstpm_edge.errors import UsageError


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


def images_of(paths: Sequence[Path]) -> list[Path]:
    """The files, and the images below the folders. Raises UsageError for a folder without any."""
    return [file for path in paths for file in (images_below(path) if path.is_dir() else [path])]


def evenly_spread(paths: Sequence[Path], most: int) -> list[Path]:
    """`most` of them, or all: neighbours are often photos of one part."""
    return [paths[i * len(paths) // most] for i in range(most)] if len(paths) > most else list(paths)


def one_model(context: click.Context, named: Path | None, model: Path) -> Path:
    """The model, which may be `named` without an option, or by --model. Raises UsageError for two of them."""
    if named is None:
        return model
    if context.get_parameter_source("model") == ParameterSource.COMMANDLINE and named != model:
        raise UsageError(f"Give one model: {named} or --model {model}.")
    return named


def real(path: Path) -> Path:
    """`path` without links, however they run: unlike Path.resolve, this raises for none that lead in a circle."""
    return Path(os.path.realpath(path))


def check_no_picture(option: str, file: Path | None) -> None:
    """Raises UsageError where what `option` writes would take the name, and the place, of a photo."""
    from rstpm_edge.image.listing import is_image_name

    if file is not None and is_image_name(file.name):
        raise UsageError(f"{option} does not write a picture: give it a name other than {file}.")


def run_or_newest(run: Path | None) -> Path:
    """`run`, or the newest that is finished below ./runs: then a line says which one that is.

    Raises UsageError where the packages for training are missing, and TrainingError where no run is finished.
    """
    if run is not None:
        return run
    with training_packages():
        from rstpm_edge.training.learning.run_folder import RUNS, newest_run
    newest = newest_run()
    finished = sum(1 for _ in RUNS.glob("*/summary.json"))
    say(
        f"Run: {newest}, the only one that is finished."
        if finished == 1
        else f"Run: {newest}, the newest of {finished} that are finished; name one to take another."
    )
    return newest


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
