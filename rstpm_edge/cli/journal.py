"""`rstpm-edge journal`: the verdicts that `infer --watch --journal` keeps."""

from pathlib import Path

import click

from rstpm_edge.cli.parameter_types import FILE
from rstpm_edge.cli.terminal import say, say_json


@click.command()
@click.argument("file", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.option(
    "--untold", is_flag=True, help="Only verdicts that were kept just before the process died: perhaps nobody got them."
)
def journal(file: Path, as_json: bool, untold: bool) -> None:
    """Print the verdicts that `infer --watch --journal FILE` keeps, each exactly once, in the order of judging.

    `infer` may go on writing meanwhile. The JSON is that of `infer --json`, with when it was `judged` (UTC), whether it
    was `told` to all who were to know, and the `model_sha256`.

    \b
    Examples:
      rstpm-edge journal station4.journal --json | jq -r 'select(.verdict != "normal") | .path'
      rstpm-edge journal station4.journal --untold
    """
    from rstpm_edge.outputs.journal_database import read_entries
    from rstpm_edge.outputs.verdict_json import verdict_line

    for fields in read_entries(file, untold=untold):
        if as_json:
            say_json(fields)
        else:
            say(verdict_line(fields))
