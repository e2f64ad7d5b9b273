"""`rstpm-edge infer`: judge images, videos, cameras and streams."""

from typing import Any

import click
from click.core import ParameterSource

from rstpm_edge.cli.infer.options import InferOptions
from rstpm_edge.cli.line.option_groups import (
    reaction_options,
    record_options,
    shadow_options,
    source_options,
    trust_options,
    verdict_options,
)
from rstpm_edge.cli.options import model_option, registry_option, session_options
from rstpm_edge.cli.parameter_types import FILE
from rstpm_edge.errors import UsageError


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@model_option
@registry_option
@click.option(
    "--product",
    metavar="NAME",
    help="Judge with the live version of this product in the registry; cameras, streams and --watch follow promotions.",
)
@shadow_options(
    "Of the time, at most, that one thread judges in shadow; at 100% each image is, and waited for.  [default: 10%]"
)
@trust_options
@click.option(
    "--reload",
    is_flag=True,
    help="Take the model's file anew when it, or its signature, has changed, and on SIGHUP; one that is refused "
    "changes nothing. For cameras, streams and --watch.",
)
@verdict_options
@source_options
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Stop after N images.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, and nothing else.")
@click.option(
    "--save-overlay", type=FILE, metavar="FOLDER", help="Write a picture of each verdict there, as NAME.overlay.png."
)
@click.option(
    "--save-map",
    type=FILE,
    metavar="FOLDER",
    help="Write each anomaly map there, at the image's size, as NAME.map.png or NAME.map.npy.",
)
@click.option(
    "--map-format",
    type=click.Choice(["png", "npy"]),
    default="png",
    show_default=True,
    help="png: 16-bit grey; 0 is a typical good part, 4096 the threshold, linear between and up to 65535. "
    "npy: float32.",
)
@click.option("--rejects-only", is_flag=True, help="Write pictures and maps of anomalous and invalid images only.")
@reaction_options
@record_options(
    "Append to this log what judges (model, threshold, options), and how many of what; `rstpm-edge audit-log` finds "
    "what is changed in it."
)
@session_options
@click.pass_context
def infer(ctx: click.Context, /, **options: Any) -> None:
    """Judge images, folders with everything below them, videos, a camera or a stream.

    A camera is camera:0 or /dev/video0 (with ,format=MJPG,size=1920x1080,fps=30 behind it as needed), or
    aravis:NAME for GigE Vision and USB3 Vision (with ,format=Mono8,exposure=5000,gain=0,trigger=Line1 and more); a
    stream the address of one (rtsp://…), or a GStreamer pipeline ("… ! appsink"). Frames that a live source gives
    faster than they are judged are dropped and counted.

    Output files keep the places that their images have below the folder that all of them share.

    Exit code: 0 all normal; 1 something anomalous; 2 wrong use; 3 an image or source that could not be read or
    judged (the others are judged all the same); 4 an INVALID image, whose part counts as not good: badly exposed, out
    of focus, of the wrong size, colours or product; 5 output that cannot be written. A live source or watched folder
    goes on being judged where a picture or map cannot be written. SIGINT and SIGTERM end a live source as
    usual, and files with 130 and 143, since not all were judged. 70 is an error of rstpm-edge itself.

    \b
    Examples:
      rstpm-edge infer part.png
      rstpm-edge infer photos/ --model model.onnx --save-overlay overlays/
      rstpm-edge infer photos/ --json | jq -r 'select(.verdict != "normal") | .path'
      rstpm-edge infer camera:0 --roi 100,50,640,480 --on-anomaly 'reject-part {p_value}'
      rstpm-edge infer incoming/ --watch --mqtt mqtt://line@broker/station4
    """
    from rstpm_edge.cli.infer.run import run_infer

    if options["product"] is not None and ctx.get_parameter_source("model") == ParameterSource.COMMANDLINE:
        raise UsageError("Give --model, or --product of a --registry, not both.")
    if options["product"] is None and ctx.get_parameter_source("registry") == ParameterSource.COMMANDLINE:
        raise UsageError("--registry goes with --product NAME only.")
    ctx.exit(run_infer(InferOptions(**options)))
