"""`rstpm-edge info`: what a model file says about itself, and what this machine offers."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rstpm_edge.cli.common import one_model
from rstpm_edge.cli.options import model_option, provider_option, public_key_option
from rstpm_edge.cli.parameter_types import FILE
from rstpm_edge.cli.terminal import say_json, say_table
from rstpm_edge.errors import UsageError

if TYPE_CHECKING:
    from rstpm_edge.engine.providers import Provider


@click.command()
@click.argument("file", required=False, metavar="[MODEL]", type=FILE)
@model_option
@public_key_option
@provider_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--c-header", is_flag=True, help="Print a C header for rstpm_scorer_create (docs/embedding.md).")
@click.pass_context
def info(
    ctx: click.Context,
    file: Path | None,
    model: Path,
    public_key: Path | None,
    providers: "list[Provider] | None",
    as_json: bool,
    c_header: bool,
) -> None:
    """Show what a model was made from, how it decides, and what this machine can run it with.

    MODEL is the file; --model names it, too.

    \b
    Examples:
      rstpm-edge info bracket.onnx
      rstpm-edge info --provider openvino
      rstpm-edge info bracket.onnx --c-header > model.h
    """
    from rstpm_edge.cli.info.facts import facts_of
    from rstpm_edge.cli.info.table import facts_table
    from rstpm_edge.detector import Detector

    if as_json and c_header:
        raise UsageError("Give one of --json and --c-header.")
    model = one_model(ctx, file, model)
    # All of it, so that what `info` accepts also runs.
    detector = Detector(model, threads=1, providers=providers, public_key=public_key)
    if c_header:
        from rstpm_edge.model.c_header import c_header as header_of

        say_table(header_of(detector.info).rstrip("\n"))
        return
    facts = facts_of(detector, model)
    if as_json:
        say_json(facts)
    else:
        say_table(facts_table(model, facts))
