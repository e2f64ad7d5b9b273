"""`rstpm-edge infer`: judge images, videos, cameras and streams."""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rstpm_edge.atomic_files import make_folder
from rstpm_edge.cli.common import (
    RATE,
    check_no_picture,
    chosen_mask,
    chosen_roi,
    model_option,
    session_options,
    size_change_option,
)
from rstpm_edge.cli.signals import Interrupts
from rstpm_edge.cli.systemd import Service
from rstpm_edge.cli.terminal import say, say_note
from rstpm_edge.errors import RstpmEdgeError, SourceError, UsageError
from rstpm_edge.unexpected import raise_from_threads

if TYPE_CHECKING:
    from rstpm_edge.cli.inspection import Inspection
    from rstpm_edge.cli.sources import InspectionPlan
    from rstpm_edge.outputs.command import OnAnomaly
    from rstpm_edge.outputs.csv_file import CsvFile
    from rstpm_edge.outputs.mqtt import Mqtt
    from rstpm_edge.sources.frames import Item

SOMETHING_ANOMALOUS, SOMETHING_UNWRITTEN, SOMETHING_UNREADABLE, SIGNALLED = 1, 2, 3, 128
FILE = click.Path(path_type=Path)


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@model_option
@click.option("--threshold", type=float, metavar="SCORE", help="Take this one, not the calibrated threshold.")
@click.option(
    "--alpha", type=RATE, metavar="RATE", help="Or the threshold at which so many good parts may be rejected, as 5%."
)
@click.option("--roi", metavar="X,Y,W,H", help="Judge this part (pixels), or `full`.  [default: what was trained on]")
@click.option(
    "--mask",
    metavar="FILE",
    help="A picture: anomalies where it is black do not count; or `full`.  [default: what was exported with the model]",
)
@size_change_option
@click.option("--every", metavar="N|SECONDS", help="Of a video or camera, each N-th frame, or one each 0.5s.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Stop after N images.")
@click.option("--watch", is_flag=True, help="Judge what is written into the folder SOURCE from now on.")
@click.option(
    "--settle",
    type=click.FloatRange(0, 3600),
    metavar="SECONDS",
    help="With --watch: judge a file that nobody is known to write any more when it has not changed for so long.  "
    "[default: 0.2]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, and nothing else.")
@click.option(
    "--csv", "csv_file", type=FILE, metavar="FILE", help="Append a row of each verdict to this table, as it comes."
)
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
@click.option("--rejects-only", is_flag=True, help="Write pictures and maps of anomalous images only.")
@click.option(
    "--on-anomaly",
    metavar="COMMAND",
    help="Run it for each anomalous image, with {path}, {score}, {p_value}, {threshold} and {json} replaced and the "
    "JSON on standard input; without a shell.",
)
@click.option(
    "--on-anomaly-timeout", type=click.FloatRange(min=0.1), default=10.0, show_default=True, metavar="SECONDS"
)
@click.option(
    "--on-anomaly-unjudged", is_flag=True, help="Run it for an image that cannot be judged, too; {json} has the error."
)
@click.option("--mqtt", metavar="URL", help="Publish verdicts: mqtt://user@host:1883/topic, or mqtts://… for TLS.")
@click.option("--mqtt-password-file", type=FILE, metavar="FILE", help="Or set the variable RSTPM_EDGE_MQTT_PASSWORD.")
@click.option("--mqtt-ca", type=FILE, metavar="FILE", help="Trust these certificates, not the system's.")
@session_options
@click.pass_context
def infer(ctx: click.Context, /, sources: tuple[str, ...], **options: Any) -> None:
    """Judge images, folders with everything below them, videos, a camera or a stream.

    A camera is camera:0 or /dev/video0 (with ,format=MJPG,size=1920x1080,fps=30 behind it as needed), a stream
    the address of one (rtsp://…), or a GStreamer pipeline ("… ! appsink"). Frames that a live source gives faster
    than they are judged are dropped and counted.

    Output files keep the places that their images have below the folder that all of them share.

    Exit code: 0 all normal; 1 something anomalous; 2 wrong use, or output that cannot be written; 3 an image
    or source that could not be read or judged (the others are judged all the same). A live source or watched folder
    goes on being judged where a picture or map cannot be written. SIGINT and SIGTERM end a live source as usual, and
    files with 130 and 143, since not all were judged. 70 is an error of rstpm-edge itself.

    \b
    Examples:
      rstpm-edge infer part.png
      rstpm-edge infer photos/ --model model.onnx --save-overlay overlays/
      rstpm-edge infer photos/ --json | jq -r 'select(.is_anomalous) | .path'
      rstpm-edge infer camera:0 --roi 100,50,640,480 --on-anomaly 'reject-part {p_value}'
      rstpm-edge infer incoming/ --watch --mqtt mqtt://line@broker/station4
    """
    from rstpm_edge.cli.inspection import Inspection, Output
    from rstpm_edge.cli.sources import plan_sources
    from rstpm_edge.detector import Detector

    _check_together(options)
    check_no_picture("--csv", options["csv_file"])
    folders = [make_folder(options[name]) for name in ("save_overlay", "save_map") if options[name]]
    plan = plan_sources(
        sources, every=options["every"], watch=options["watch"], settle=options["settle"], leave_out=folders
    )
    output = Output(
        options["as_json"],
        options["save_overlay"],
        options["save_map"],
        options["map_format"],
        options["rejects_only"],
        keep_going=not plan.has_end,
    )
    detector = Detector(
        options["model"],
        providers=options["providers"],
        threads=options["threads"],
        polite=options["polite"],
        engine_cache=options["engine_cache"],
        threshold=options["threshold"],
        alpha=options["alpha"],
        roi=chosen_roi(options["roi"]),
        mask=chosen_mask(options["mask"]),
        allow_size_change=options["allow_size_change"],
        notify=lambda sentence: say_note(f"{inspection.judged}: {sentence}"),
    )
    with contextlib.ExitStack() as stack:
        command = stack.enter_context(_command(options, plan)) if options["on_anomaly"] is not None else None
        mqtt = stack.enter_context(_mqtt(options)) if options["mqtt"] is not None else None
        table = stack.enter_context(_table(options, plan)) if options["csv_file"] is not None else None
        interrupts = stack.enter_context(Interrupts())
        inspection = Inspection(
            detector, output, [one.tell for one in (mqtt, table) if one], of_parts=[command.tell] if command else []
        )
        tell_source = mqtt.tell_source if mqtt else lambda there: None
        notes = _run(inspection, plan, folders, options["limit"], interrupts, tell_source)
    if notes is not None:
        if command:
            notes += [_count(command.failed, "failed command"), _count(command.dropped, "command", " not run")]
        if mqtt:
            notes.append(_count(mqtt.lost, "message", " lost"))
        if table:
            notes.append(_count(table.lost, "row", " not written"))
        notes.append(_count(inspection.unwritten, "image", " without pictures or maps"))
        if not output.as_json:
            say(inspection.summary(*notes))
        elif not plan.has_end:
            say_note(inspection.summary(*notes))
    if interrupts.received and plan.has_end:
        ctx.exit(SIGNALLED + interrupts.received)
    if inspection.unwritten or (table and table.lost):
        ctx.exit(SOMETHING_UNWRITTEN)
    if inspection.counts["failed"]:
        ctx.exit(SOMETHING_UNREADABLE)
    ctx.exit(SOMETHING_ANOMALOUS if inspection.counts["anomalous"] else 0)


def _run(
    inspection: "Inspection",
    plan: "InspectionPlan",
    outputs: Sequence[Path],
    limit: int | None,
    interrupts: Interrupts,
    tell_source: Callable[[bool], None],
) -> list[str] | None:
    """Judge until the source ends, the limit is reached or a signal comes.

    `tell_source` is called with False when a live source is lost, and with True when it is back.

    Gives notes for the summary; None when the source could not be opened, which then is all there is to say.
    """
    import cv2

    from rstpm_edge.sources.camera import Live
    from rstpm_edge.sources.frames import Failure
    from rstpm_edge.sources.watched_folder import SETTLED, LeftOut, watch

    def report(sentence: str, there: bool) -> None:
        say_note(sentence)
        tell_source(there)

    service, left_out = Service(), LeftOut(say_note)
    live = None
    notes: list[str] | None = None
    try:
        items: Iterable[Item]
        if plan.live:
            items = live = Live(*plan.live, every=plan.every, report=report, deep=True)
        elif plan.watched:
            settle = SETTLED if plan.settle is None else plan.settle
            items = watch(plan.watched, outputs, settle=settle, report=report, left_out=left_out)
        else:
            items = plan.read_files()
        notes = []
        service.ready()
        for item in items:
            service.alive()
            raise_from_threads()
            if item is not None:
                inspection.take(item)
            if interrupts.received or inspection.counts.total() == limit:
                break
    except SourceError as error:
        cause = error.__cause__
        if isinstance(cause, Exception) and not isinstance(cause, (OSError, cv2.error, RstpmEdgeError)):
            raise cause from error  # a fault of ours in the thread that grabs
        inspection.note_lost_source(Failure(plan.name, str(error)))
    finally:
        service.stopping()
        if live:
            live.close()
    if notes is not None:
        notes.append(left_out.summary())
    if live and notes is not None:
        damaged = f", {live.damaged} of them damaged" if live.damaged else ""
        notes += [_count(live.dropped, "frame", f" dropped{damaged}"), _count(live.reconnections, "reconnection")]
    return notes


def _check_together(options: Mapping[str, Any]) -> None:
    """Raises UsageError for an option that does nothing without another."""
    if options["rejects_only"] and not (options["save_overlay"] or options["save_map"]):
        raise UsageError("--rejects-only goes with --save-overlay or --save-map, whose files it leaves out.")
    if options["on_anomaly"] is None and options["on_anomaly_unjudged"]:
        raise UsageError("--on-anomaly-unjudged goes with --on-anomaly COMMAND only.")
    if options["mqtt"] is None and (options["mqtt_password_file"] or options["mqtt_ca"]):
        raise UsageError("--mqtt-password-file and --mqtt-ca go with --mqtt URL only.")


def _command(options: Mapping[str, Any], plan: "InspectionPlan") -> "OnAnomaly":
    from rstpm_edge.outputs.command import OnAnomaly

    # Files wait for us, a line does not.
    return OnAnomaly(
        options["on_anomaly"],
        timeout=options["on_anomaly_timeout"],
        unjudged=options["on_anomaly_unjudged"],
        wait=plan.has_end,
        report=say_note,
    )


def _table(options: Mapping[str, Any], plan: "InspectionPlan") -> "CsvFile":
    from rstpm_edge.outputs.csv_file import CsvFile

    return CsvFile(options["csv_file"], report=None if plan.has_end else say_note)


def _mqtt(options: Mapping[str, Any]) -> "Mqtt":
    from rstpm_edge.outputs.mqtt import Mqtt, parse_broker

    broker = parse_broker(options["mqtt"], password_file=options["mqtt_password_file"], ca=options["mqtt_ca"])
    return Mqtt(broker, report=say_note)


def _count(number: int, what: str, more: str = "") -> str:
    return f"{number} {what}{'' if number == 1 else 's'}{more}" if number else ""
