"""`rstpm-edge registry`: versions of models, in a folder that people and stations share."""

import click

from rstpm_edge.cli.registry.changing import add, promote, rollback
from rstpm_edge.cli.registry.reading import check, history, list_command


@click.group()
def registry() -> None:
    """Keep the models of many products in one folder, and say which of them judges.

    Each product has versions, numbered from 1. A version is a candidate, judges without effect (shadow), or is live.
    `infer --registry FOLDER --product NAME` judges with the live one, and follows promotions. Nothing is overwritten:
    models lie under their SHA-256, and what was said stands in a log a product, whose lines hang together by hashes.

    \b
    Example:
      rstpm-edge registry add bracket model.onnx --note 'new light'
      rstpm-edge registry promote bracket 1
      rstpm-edge infer camera:0 --registry registry --product bracket
    """


for command in (add, list_command, promote, rollback, history, check):
    registry.add_command(command)
