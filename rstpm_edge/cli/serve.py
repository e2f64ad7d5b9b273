"""`rstpm-edge serve`: a station that judges what a camera gives, and answers requests."""

import contextlib
import time
from typing import Any

import click
from click.core import ParameterSource

from rstpm_edge.cli.options import (
    judged_part_options,
    model_option,
    public_key_option,
    registry_option,
    session_options,
    size_change_option,
)
from rstpm_edge.cli.parameter_types import EVERY, FILE, RATE
from rstpm_edge.cli.reaction_options import reaction_options
from rstpm_edge.cli.serve_options import TOKENS, ServeOptions, access_of, check_together
from rstpm_edge.cli.signals import Interrupts
from rstpm_edge.cli.station_file import plan_station
from rstpm_edge.cli.systemd import Service
from rstpm_edge.cli.terminal import counted, say_note
from rstpm_edge.errors import UsageError
from rstpm_edge.unexpected import raise_from_threads

COMMANDLINE, DEFAULT = ParameterSource.COMMANDLINE, ParameterSource.DEFAULT
SOMETHING_UNWRITTEN = 5  # as of `infer`
STUCK = 60.0  # seconds without a sign of life of a line, after which systemd hears no more of us


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
@click.option(
    "--shadow",
    is_flag=True,
    help="With --registry: judge with the versions in shadow, too, and compare; they have no effect on verdicts.",
)
@click.option(
    "--shadow-share",
    type=RATE,
    metavar="RATE",
    help="Of the time, at most, that one thread of each product judges in shadow.  [default: 10%]",
)
@click.option("--shadow-log", type=FILE, metavar="FILE", help="Append a JSON line of each image that was compared.")
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
    "--max-body", type=click.IntRange(1, 4096), default=64, show_default=True, metavar="MB", help="Of a request."
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
@public_key_option
@click.option("--verify", is_flag=True, help="First judge the goldens of each model, and refuse it where they differ.")
@click.option("--explain", is_flag=True, help="Say where each score comes from.")
@click.option("--threshold", type=float, metavar="SCORE", help="Take this one, not the calibrated threshold.")
@click.option(
    "--alpha", type=RATE, metavar="RATE", help="Or the threshold at which so many good parts may be rejected, as 5%."
)
@judged_part_options
@size_change_option
@click.option("--every", type=EVERY, metavar="N|SECONDS", help="Of a camera, each N-th frame, or one each 0.5s.")
@click.option("--watch", is_flag=True, help="Judge what is written into the folder SOURCE from now on.")
@click.option(
    "--settle",
    type=click.FloatRange(0, 3600),
    metavar="SECONDS",
    help="With --watch: judge a file that nobody is known to write any more when it has not changed for so long.  "
    "[default: 0.2]",
)
@click.option(
    "--drift",
    type=RATE,
    metavar="RATE",
    help="Tell when the scene of the SOURCE changes, or more photos are anomalous. A false alarm in a run has at most "
    "this probability, as 1%.",
)
@click.option(
    "--drift-state",
    type=FILE,
    metavar="FILE",
    help="With --drift: keep what is known there, and go on with it after a restart.",
)
@click.option(
    "--journal",
    type=FILE,
    metavar="FILE",
    help="With --watch: keep each verdict there first, and after a restart judge each file that has none; "
    "`rstpm-edge journal` prints them.",
)
@click.option(
    "--journal-days",
    type=click.FloatRange(min=0, min_open=True, max=36_500),
    metavar="DAYS",
    help="Forget verdicts that are older; their files stay known.  [default: keep all]",
)
@click.option(
    "--audit-log",
    type=FILE,
    metavar="FILE",
    help="Append to this log which models judge, who steers the station, and how many of what it judged; "
    "`rstpm-edge audit-log` finds what is changed in it.",
)
@click.option(
    "--audit-log-size",
    type=click.IntRange(1, 10_000),
    metavar="MB",
    help="Set the log aside when it is so large, as FILE.000001 and so on.  [default: 10]",
)
@click.option(
    "--history",
    type=FILE,
    metavar="FOLDER",
    help="Keep verdicts, pictures, and what people say of them there; `rstpm-edge history` makes tables of it.",
)
@click.option(
    "--history-days",
    type=click.FloatRange(min=0, min_open=True, max=36_500),
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
    ctx.exit(_serve(ServeOptions(**options)))


def _serve(options: ServeOptions) -> int:
    """The exit code."""
    check_together(options)
    try:
        from rstpm_edge.cli.serve_audit import open_audit
        from rstpm_edge.cli.serve_history import is_masked, open_history
        from rstpm_edge.cli.serve_opcua import serve_opcua
        from rstpm_edge.cli.serve_parts import open_station, open_watched
        from rstpm_edge.station.app import make_app
        from rstpm_edge.station.routes.page import page_routers
        from rstpm_edge.station.routes.parts import parts_router
        from rstpm_edge.station.serve import Tls, listen, run_server
    except ImportError as error:
        raise UsageError(
            f"`rstpm-edge serve` needs the packages of its extra ({error.name or error} is missing): "
            "pip install '.[serve]' in the checkout, or pip install 'FILE.whl[serve]' with the wheel's name."
        ) from error
    access = access_of(options)
    plan = plan_station(options)
    with contextlib.ExitStack() as stack:
        listener = listen(options.host, options.port)  # before models are loaded: a port in use is told at once
        stack.callback(listener.close)
        interrupts = stack.enter_context(Interrupts())
        history = open_history(plan.options, lambda: station.products, stack)
        watched = open_watched(plan, stack)
        audit = open_audit(plan, access, stack)  # before models: one that is refused stands in it, too
        opened = open_station(plan, access, watched, audit, stack)
        station = opened.station
        serve_opcua(options, station, opened.parts, stack)
        if history is not None:
            station.feed.go_on_from(history.newest())
            station.feed.tap(history.add)
        if audit is not None:
            station.feed.tap(audit.add)
        routers = page_routers(station, history, masked=is_masked(plan))
        if opened.parts is not None:
            routers.append(parts_router(station, opened.parts))
        app = make_app(station, hosts=options.allowed_host, routers=routers)
        tls = None
        if options.tls_certificate is not None and options.tls_key is not None:
            tls = Tls(options.tls_certificate, options.tls_key)
        service = Service()

        def ready() -> None:
            address, port, *_ = listener.getsockname()
            shown = f"[{address}]" if ":" in address else address
            say_note(f"Serving on {'http' if tls is None else 'https'}://{shown}:{port}")
            service.ready()

        def tick() -> bool:
            raise_from_threads()
            now = time.monotonic()
            if all(now - line.state.beat < STUCK or line.state.condition == "ended" for line in station.lines):
                service.alive()
            return interrupts.received is not None

        station.start()
        try:
            run_server(station, app, listener, tls=tls, ready=ready, tick=tick)
        finally:
            service.stopping()
        if audit is not None and interrupts.received:
            audit.log.ending = f"signal {interrupts.received}"
    for note in () if watched is None else watched.notes():
        say_note(f"{note}.")
    if audit is not None and audit.log.lost:
        say_note(f"{counted(audit.log.lost, 'audit log entry')} not written.")
    unwritten = (
        (watched is not None and watched.unwritten)
        or (history is not None and history.lost)
        or (audit is not None and audit.log.lost)
    )
    return SOMETHING_UNWRITTEN if unwritten else 0
