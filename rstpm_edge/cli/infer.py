"""`rstpm-edge infer`: judge images, videos, cameras and streams."""

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rstpm_edge.atomic_files import make_folder
from rstpm_edge.cli.common import check_no_picture
from rstpm_edge.cli.infer_options import InferOptions, check_together
from rstpm_edge.cli.options import (
    judged_part_options,
    model_option,
    public_key_option,
    session_options,
    size_change_option,
)
from rstpm_edge.cli.parameter_types import EVERY, FILE, RATE
from rstpm_edge.cli.signals import Interrupts
from rstpm_edge.cli.systemd import Service
from rstpm_edge.cli.terminal import counted, say, say_note
from rstpm_edge.errors import RstpmEdgeError, SourceError, UsageError
from rstpm_edge.unexpected import raise_from_threads

if TYPE_CHECKING:
    from rstpm_edge.cli.infer_source import InspectionPlan
    from rstpm_edge.cli.inspection import Inspection
    from rstpm_edge.cli.reload import Reload
    from rstpm_edge.sources.file_state import Memory
    from rstpm_edge.sources.frames import Source

SOMETHING_ANOMALOUS, SOMETHING_UNWRITTEN, SOMETHING_UNREADABLE, SOMETHING_INVALID, SIGNALLED = 1, 2, 3, 4, 128


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@model_option
@public_key_option
@click.option("--verify", is_flag=True, help="First judge the model's goldens, and refuse it where they differ here.")
@click.option(
    "--reload",
    is_flag=True,
    help="Take the model's file anew when it, or its signature, has changed, and on SIGHUP; one that is refused "
    "changes nothing. For cameras, streams and --watch.",
)
@click.option(
    "--explain",
    is_flag=True,
    help="Say where each score comes from: what each pair and scale adds, and which pair alone would have rejected.",
)
@click.option("--threshold", type=float, metavar="SCORE", help="Take this one, not the calibrated threshold.")
@click.option(
    "--alpha", type=RATE, metavar="RATE", help="Or the threshold at which so many good parts may be rejected, as 5%."
)
@judged_part_options
@size_change_option
@click.option(
    "--every", type=EVERY, metavar="N|SECONDS", help="Of a video or camera, each N-th frame, or one each 0.5s."
)
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
@click.option("--rejects-only", is_flag=True, help="Write pictures and maps of anomalous and invalid images only.")
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
    "--on-anomaly-unjudged", is_flag=True, help="Run it for an INVALID or failed image, too; {json} says why."
)
@click.option(
    "--journal",
    type=FILE,
    metavar="FILE",
    help="With --watch: keep each verdict there first, and after a restart judge each file that has none, those that "
    "came meanwhile, too; `rstpm-edge journal` prints them.",
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
    help="Append to this log what judges (model, threshold, options), and how many of what; `rstpm-edge audit-log` "
    "finds what is changed in it.",
)
@click.option(
    "--audit-log-size",
    type=click.IntRange(1, 10_000),
    metavar="MB",
    help="Set the log aside when it is so large, as FILE.000001 and so on.  [default: 10]",
)
@click.option(
    "--drift",
    type=RATE,
    metavar="RATE",
    help="Tell once when the scene changes, or more photos are anomalous. A false alarm in a run has at most this "
    "probability, as 1%. For one photo of each part.",
)
@click.option(
    "--drift-state",
    type=FILE,
    metavar="FILE",
    help="With --drift: keep what is known there, and go on with it after a restart.",
)
@click.option("--mqtt", metavar="URL", help="Publish verdicts: mqtt://user@host:1883/topic, or mqtts://… for TLS.")
@click.option("--mqtt-password-file", type=FILE, metavar="FILE", help="Or set the variable RSTPM_EDGE_MQTT_PASSWORD.")
@click.option("--mqtt-ca", type=FILE, metavar="FILE", help="Trust these certificates, not the system's.")
@session_options
@click.pass_context
def infer(ctx: click.Context, /, **options: Any) -> None:
    """Judge images, folders with everything below them, videos, a camera or a stream.

    A camera is camera:0 or /dev/video0 (with ,format=MJPG,size=1920x1080,fps=30 behind it as needed), a stream
    the address of one (rtsp://…), or a GStreamer pipeline ("… ! appsink"). Frames that a live source gives faster
    than they are judged are dropped and counted.

    Output files keep the places that their images have below the folder that all of them share.

    Exit code: 0 all normal; 1 something anomalous; 2 wrong use, or output that cannot be written; 3 an image
    or source that could not be read or judged (the others are judged all the same); 4 an INVALID image, whose part
    counts as not good: badly exposed, out of focus, of the wrong size, colours or product. A live source or watched
    folder goes on being judged where a picture or map cannot be written. SIGINT and SIGTERM end a live source as
    usual, and files with 130 and 143, since not all were judged. 70 is an error of rstpm-edge itself.

    \b
    Examples:
      rstpm-edge infer part.png
      rstpm-edge infer photos/ --model model.onnx --save-overlay overlays/
      rstpm-edge infer photos/ --json | jq -r 'select(.verdict != "normal") | .path'
      rstpm-edge infer camera:0 --roi 100,50,640,480 --on-anomaly 'reject-part {p_value}'
      rstpm-edge infer incoming/ --watch --mqtt mqtt://line@broker/station4
    """
    ctx.exit(_infer(InferOptions(**options)))


def _infer(options: InferOptions) -> int:
    """The exit code."""
    from rstpm_edge.cli.audited import facts_of, open_audit_log, telling_refusals
    from rstpm_edge.cli.drift_watch import watch_drift
    from rstpm_edge.cli.infer_source import plan_sources
    from rstpm_edge.cli.inspection import Inspection, Output
    from rstpm_edge.cli.journalling import open_journal
    from rstpm_edge.cli.reactions import open_reactions
    from rstpm_edge.cli.reload import model_state, open_reload
    from rstpm_edge.detector import Detector
    from rstpm_edge.image.mask import load_mask
    from rstpm_edge.model.keys import load_public_key

    check_together(options)
    check_no_picture("--csv", options.csv_file)
    check_no_picture("--audit-log", options.audit_log)
    check_no_picture("--drift-state", options.drift_state)
    folders = [make_folder(folder) for folder in (options.save_overlay, options.save_map) if folder]
    plan = plan_sources(
        options.sources, every=options.every, watch=options.watch, settle=options.settle, leave_out=folders
    )
    if options.reload and plan.has_end:
        raise UsageError("--reload is for cameras, streams and watched folders: files are judged by one model.")
    output = Output(
        options.as_json,
        options.save_overlay,
        options.save_map,
        options.map_format,
        options.rejects_only,
        keep_going=not plan.has_end,
    )
    with contextlib.ExitStack() as stack:
        journal = open_journal(options, plan, stack)
        audit_log = open_audit_log(options, plan, stack)  # before the model: one that is refused stands in it, too
        with telling_refusals(audit_log, options, plan):
            mask = load_mask(options.mask) if isinstance(options.mask, Path) else options.mask  # read once
            key = None if options.public_key is None else load_public_key(options.public_key)
            model_before = model_state(options)
            detector = Detector(
                options.model,
                providers=options.providers,
                threads=options.threads,
                polite=options.polite,
                engine_cache=options.engine_cache,
                threshold=options.threshold,
                alpha=options.alpha,
                roi=options.roi,
                mask=mask,
                allow_size_change=options.allow_size_change,
                notify=lambda sentence: say_note(f"{inspection.judged}: {sentence}"),
                public_key=key,
                verify=options.verify,
                explain=options.explain,
            )
        reactions = open_reactions(options, plan, stack, audit_log)
        facts = partial(facts_of, options, plan, detector, mask, key)
        if audit_log is not None:
            audit_log.start(facts())
        drift = watch_drift(options, plan, detector, stack, reactions.tell_drift)
        interrupts = stack.enter_context(Interrupts())
        inspection = Inspection(
            detector,
            output,
            reactions.to_all,
            of_parts=reactions.to_parts,
            drift=drift.take if drift else None,
            journal=journal,
        )
        reload = open_reload(options, model_before, detector, stack, drift=drift, audit_log=audit_log, facts=facts)
        source = _run(
            inspection,
            plan,
            options.limit,
            interrupts,
            reactions.tell_source,
            journal,
            reload,
        )
        if audit_log is not None and interrupts.received:
            audit_log.ending = f"signal {interrupts.received}"
    if source is not None:
        summary = inspection.summary(
            source.summary(),
            *reactions.notes(),
            f"{counted(journal.lost, 'verdict')} not in the journal" if journal and journal.lost else "",
            *(one.note() for one in (drift, reload) if one),
        )
        if not output.as_json:
            say(summary)
        elif not plan.has_end:
            say_note(summary)
    if interrupts.received and plan.has_end:
        return SIGNALLED + interrupts.received
    if inspection.unwritten or reactions.unwritten or (drift and drift.lost) or (journal and journal.lost):
        return SOMETHING_UNWRITTEN
    if inspection.counts["failed"]:
        return SOMETHING_UNREADABLE
    if inspection.counts["invalid"]:
        return SOMETHING_INVALID
    return SOMETHING_ANOMALOUS if inspection.counts["anomalous"] else 0


def _run(
    inspection: "Inspection",
    plan: "InspectionPlan",
    limit: int | None,
    interrupts: Interrupts,
    tell_source: Callable[[bool], None],
    memory: "Memory | None",
    reload: "Reload | None",
) -> "Source | None":
    """Judge until the source ends, the limit is reached or a signal comes.

    `tell_source` is called with False when a live source is lost, and with True when it is back; `memory` knows which
    files of a watched folder were judged before.

    Gives the source, closed, for what it says of itself; None when it could not be opened, and that is all there is to
    say.
    """
    import cv2

    from rstpm_edge.sources.frames import Failure

    def report(sentence: str, there: bool) -> None:
        say_note(sentence)
        tell_source(there)

    service = Service()
    source = None
    try:
        source = plan.open(report, say_note, memory)
        service.ready()
        for item in source:
            service.alive()
            raise_from_threads()
            if reload is not None:
                reload.between_images(service)
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
        if source is not None:
            source.close()
    return source
