"""What `rstpm-edge infer` does: opens what was asked for, judges, and says how it went."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2

from rstpm_edge.atomic_files import make_folder
from rstpm_edge.cli.audited import facts_of, open_audit_log, telling_refusals
from rstpm_edge.cli.common import check_no_picture
from rstpm_edge.cli.drift_watch import watch_drift
from rstpm_edge.cli.followed import follow
from rstpm_edge.cli.infer_options import InferOptions, check_together
from rstpm_edge.cli.infer_source import InspectionPlan, plan_sources
from rstpm_edge.cli.inspection import Inspection, Output
from rstpm_edge.cli.journalling import open_journal
from rstpm_edge.cli.reactions import open_reactions
from rstpm_edge.cli.reload import Reload, model_state, open_reload
from rstpm_edge.cli.shadowing import open_shadow
from rstpm_edge.cli.signals import Interrupts
from rstpm_edge.cli.systemd import Service
from rstpm_edge.cli.terminal import counted, say, say_error, say_note
from rstpm_edge.detector import Detector
from rstpm_edge.errors import OutputError, RstpmEdgeError, SourceError, UsageError
from rstpm_edge.image.mask import load_mask
from rstpm_edge.model.keys import load_public_key
from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.registry.shadow import Shadow
from rstpm_edge.sources.file_state import Memory
from rstpm_edge.sources.frames import Failure, Source
from rstpm_edge.unexpected import raise_from_threads

SOMETHING_ANOMALOUS, SOMETHING_UNREADABLE, SOMETHING_INVALID, SIGNALLED = 1, 3, 4, 128
# Unlike wrong use, which a service manager need not try again: a full disk may have room in a minute.
SOMETHING_UNWRITTEN = 5


def run_infer(options: InferOptions) -> int:
    """The exit code. Raises what the command line turns into one sentence."""
    try:
        return _infer(options)
    except OutputError as error:
        say_error(error)
        return SOMETHING_UNWRITTEN


def _infer(options: InferOptions) -> int:

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
            options, followed = follow(options)
            model_before = model_state(options) if followed is None else followed.before
            station = InferenceOptions(
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
            detector = Detector(options.model, **vars(station))
            if followed is not None:
                followed.check(detector.sha256)
        reactions = open_reactions(options, plan, stack, audit_log)

        def facts() -> dict[str, Any]:
            of_product = {} if followed is None else followed.facts(detector.sha256)
            return facts_of(options, plan, detector, mask, key) | of_product

        if audit_log is not None:
            audit_log.start(facts())
        drift = watch_drift(options, plan, detector, stack, reactions.tell_drift)
        interrupts = stack.enter_context(Interrupts())
        shadow = open_shadow(options, followed, station, audit_log, stack)
        inspection = Inspection(
            detector,
            output,
            reactions.to_all,
            of_parts=reactions.to_parts,
            drift=drift.take if drift else None,
            journal=journal,
            shadow=shadow,
        )
        reload = open_reload(
            options,
            model_before,
            detector,
            stack,
            drift=drift,
            audit_log=audit_log,
            facts=facts,
            followed=followed,
            follow=followed is not None and not plan.has_end,
        )
        source = _run(
            inspection,
            plan,
            options.limit,
            interrupts,
            reactions.tell_source,
            journal,
            reload,
            shadow,
        )
        if audit_log is not None and interrupts.received:
            audit_log.ending = f"signal {interrupts.received}"
    if source is not None:
        summary = inspection.summary(
            source.summary(),
            *reactions.notes(),
            f"{counted(journal.lost, 'verdict')} not in the journal" if journal and journal.lost else "",
            *(one.note() for one in (drift, reload) if one),
            "" if shadow is None else shadow.summary(),
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
    inspection: Inspection,
    plan: InspectionPlan,
    limit: int | None,
    interrupts: Interrupts,
    tell_source: Callable[[bool], None],
    memory: Memory | None,
    reload: Reload | None,
    shadow: Shadow | None,
) -> Source | None:
    """Judge until the source ends, the limit is reached or a signal comes.

    `tell_source` is called with False when a live source is lost, and with True when it is back; `memory` knows which
    files of a watched folder were judged before.

    Gives the source, closed, for what it says of itself; None when it could not be opened, and that is all there is to
    say.
    """

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
            if shadow is not None:
                shadow.between_images()
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
