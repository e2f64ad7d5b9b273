"""`rstpm-edge serve`: a station that judges what a camera gives, and answers requests."""

from typing import Any

import click
from click.core import ParameterSource

from rstpm_edge.cli.line.option_groups import (
    reaction_options,
    record_options,
    shadow_options,
    source_options,
    trust_options,
    verdict_options,
)
from rstpm_edge.cli.options import model_option, registry_option, session_options
from rstpm_edge.cli.parameter_types import FILE, NumberRange
from rstpm_edge.cli.serve.options import TOKENS, ServeOptions, check_together
from rstpm_edge.errors import UsageError

COMMANDLINE, DEFAULT = ParameterSource.COMMANDLINE, ParameterSource.DEFAULT


@click.command()
@click.argument("sources", nargs=-1, metavar="[SOURCE]")
@model_option
@click.option(
    "--models",
    type=FILE,
    metavar="FOLDER",
    help="Serve each NAME.onnx and NAME/VERSION.onnx in this folder, in the place of --model.",
)
@registry_option
@click.option("--product", metavar="NAME", help="Which product of --models or --registry the SOURCE shows at first.")
@shadow_options("Of the time, at most, that one thread of each product judges in shadow.  [default: 10%]")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Listen on this address.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one.")
@click.option(
    "--allowed-host", multiple=True, metavar="NAME", help="Answer to this name, too; by default to addresses and this "
    "machine's name. Repeat it for more."
)  # fmt: skip
@click.option(
    "--tokens",
    type=FILE,
    metavar="FILE",
    help=f"Answer those alone who send a token of this file: a line each, `inspect TOKEN` or `manage TOKEN`. Or set "
    f"the variable {TOKENS}. Needed where other machines reach the station.",
)
@click.option("--tls-certificate", type=FILE, metavar="FILE", help="Speak TLS with this certificate (PEM) …")
@click.option("--tls-key", type=FILE, metavar="FILE", help="… and this key.")
@click.option(
    "--max-memory",
    type=click.IntRange(1, 1_000_000),
    metavar="MB",
    help="Of models: where they take more, let go of what nobody used for longest.  [default: no limit]",
)
@click.option(
    "--max-body",
    type=click.IntRange(1, 4096),
    default=64,
    show_default=True,
    metavar="MB",
    help="Of a request that brings images.",
)
@click.option(
    "--max-pixels", type=click.IntRange(1, 268), default=100, show_default=True, metavar="MEGAPIXELS",
    help="Of an image that is sent."
)  # fmt: skip
@click.option(
    "--keep-photos", type=click.IntRange(0, 1_000_000), default=128, show_default=True, metavar="MB",
    help="Of the last verdicts, for the page: photos and maps stay in memory up to this size; the last one in any case."
)  # fmt: skip
@click.option(
    "--workers", type=click.IntRange(1, 64), metavar="N", help="Judge so many requests at once.  [default: 2]"
)
@click.option(
    "--waiting", type=click.IntRange(0, 10_000), default=16, show_default=True, metavar="N",
    help="Let so many more wait; further ones get 503 at once."
)  # fmt: skip
@click.option(
    "--opcua",
    metavar="URL",
    help="Be an OPC UA server for a PLC, too: opc.tcp://127.0.0.1:4840. Needs the packages of the extra [opcua]; where "
    "other machines reach it, tokens (as passwords) and a certificate.",
)
@click.option("--opcua-certificate", type=FILE, metavar="FILE", help="Its own certificate (PEM or DER) …")
@click.option("--opcua-key", type=FILE, metavar="FILE", help="… and this key.")
@trust_options
@verdict_options
@source_options
@record_options(
    "Append to this log which models judge, who steers the station, and how many of what it judged; "
    "`rstpm-edge audit-log` finds what is changed in it."
)
@click.option(
    "--history",
    type=FILE,
    metavar="FOLDER",
    help="Keep verdicts, pictures, and what people say of them there; `rstpm-edge history` makes tables of it.",
)
@click.option(
    "--history-days",
    type=NumberRange(min=0, min_open=True, max=36_500),
    metavar="DAYS",
    help="Forget what is older.  [default: keep all verdicts]",
)
@click.option(
    "--history-size",
    type=click.IntRange(1, 100_000_000),
    metavar="MB",
    help="Of pictures: the oldest ones go first. Verdicts stay.  [default: 10000]",
)
@reaction_options
@session_options
@click.pass_context
def serve(ctx: click.Context, /, **options: Any) -> None:
    """Serve an HTTP API: images in, verdicts out; and judge what SOURCE gives: a camera, stream or folder, as `infer`.

    SOURCE may also be a file STATION.toml with a section for each of several cameras (docs/plant.md).

    Needs the packages of the extra [serve]. Nobody but this machine reaches it, unless you give --host and --tokens.
    SIGTERM and SIGINT end it with 0, once what is under way is answered.

    Exit code: 0 stopped; 2 wrong use, such as a port that another program has; 5 the table, journal, history or audit
    log could not be written; 70 an error of rstpm-edge itself.

    \b
    Examples:
      rstpm-edge serve
      curl --data-binary @part.png http://127.0.0.1:8080/v1/inspect
      rstpm-edge serve camera:0 --models models/ --product bracket --drift 1%
      rstpm-edge serve --host 0.0.0.0 --tokens tokens.txt --tls-certificate c.pem --tls-key k.pem
    """
    given = [name for name in ("model", "models", "registry") if ctx.get_parameter_source(name) == COMMANDLINE]
    if len(given) > 1:
        raise UsageError(f"Give one of --model, --models and --registry, not --{' and --'.join(given)}.")
    if given != ["registry"] and (given or ctx.get_parameter_source("model") != DEFAULT):
        options["registry"] = None  # of the environment
    typed = ServeOptions(**options)
    check_together(typed)
    try:
        from rstpm_edge.cli.serve.run import run_serve
    except ImportError as error:
        raise UsageError(
            f"`rstpm-edge serve` needs the packages of its extra ({error.name or error} is missing): "
            "pip install '.[serve]' in the checkout, or pip install 'FILE.whl[serve]' with the wheel's name."
        ) from error
    ctx.exit(run_serve(typed))
