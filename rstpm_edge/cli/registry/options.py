"""Options that several commands of `rstpm-edge registry` have."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rstpm_edge.cli.options import REGISTRY
from rstpm_edge.cli.parameter_types import FILE

if TYPE_CHECKING:
    from rstpm_edge.model.keys import PublicKey

folder_option = click.option(
    "--registry",
    "folder",
    type=FILE,
    envvar=REGISTRY,
    default="registry",
    show_default=True,
    show_envvar=True,
    metavar="FOLDER",
    help="The registry's folder.",
)
note_option = click.option("--note", metavar="TEXT", help="Why; it stays in the log.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def key_of(file: Path | None) -> "PublicKey | None":
    """What --public-key names. Raises UsageError."""
    from rstpm_edge.model.keys import load_public_key

    return None if file is None else load_public_key(file)
