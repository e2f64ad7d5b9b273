"""What `rstpm-edge infer` does: opens what was asked for, judges, and says how it went."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2

from rstpm_edge.atomic_files import make_folder
from rstpm_edge.cli.infer.audit_log import facts_of, telling_refusals
from rstpm_edge.cli.infer.drift_watch import watch_drift
from rstpm_edge.cli.infer.followed import follow
from rstpm_edge.cli.infer.inspection import Inspection, Output
from rstpm_edge.cli.infer.options import InferOptions, check_together
from rstpm_edge.cli.infer.reload import Reload, model_state, open_reload
from rstpm_edge.cli.infer.shadow import open_shadow
from rstpm_edge.cli.line.audit_log import open_log
from rstpm_edge.cli.line.journal import open_journal
from rstpm_edge.cli.line.judging import judging_of
from rstpm_edge.cli.line.reactions import SOMETHING_UNWRITTEN, open_reactions
from rstpm_edge.cli.line.source import InspectionPlan, lies_in_missing, plan_sources
from rstpm_edge.cli.signals import Interrupts
from rstpm_edge.cli.systemd import Service
from rstpm_edge.cli.terminal import counted, say, say_error, say_note
from rstpm_edge.detector import Detector
from rstpm_edge.errors import OutputError, RstpmEdgeError, SourceError, UsageError
from rstpm_edge.registry.shadow import Shadow
from rstpm_edge.sources.file_state import Memory
from rstpm_edge.sources.frames import Failure, Source
from rstpm_edge.unexpected import raise_from_threads

SOMETHING_ANOMALOUS, SOMETHING_UNREADABLE, SOMETHING_INVALID, SIGNALLED = 1, 3, 4, 128


def run_infer(options: InferOptions) -> int:
    """The exit code. Raises what the command line turns into one sentence."""
    try:
        return _infer(options)
    except OutputError as error:
        say_error(error)
        return SOMETHING_UNWRITTEN


def _infer(options: InferOptions) -> int:
    check_together(options)
    folders = [folder for folder in (options.save_overlay, options.save_map) if folder]
    for folder in folders:
        if not lies_in_missing(folder, options.sources):
            make_folder(folder)
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
        # Before the model: one that is refused stands in it, too. Where there is no end, a line goes on without it.
        audit_log = open_log(options, None if plan.has_end else say_note, stack)
        with telling_refusals(audit_log, options, plan):
            judging = replace(judging_of(options), notify=lambda sentence: say_note(f"{inspection.judged}: {sentence}"))
            options, followed = follow(options)
            model_before = model_state(options) if followed is None else followed.before
            detector = Detector(options.model, **vars(judging))
            if followed is not None:
                followed.check(detector.sha256)
        reactions = open_reactions(options, plan, stack, audit_log)

        def facts() -> dict[str, Any]:
            of_product = {} if followed is None else followed.facts(detector.sha256)
            return facts_of(options, plan, detector, judging) | of_product

        if audit_log is not None:
            audit_log.start(facts())
        drift = watch_drift(options, plan, detector, stack, reactions.tell_drift)
        interrupts = stack.enter_context(Interrupts())
        shadow = open_shadow(options, followed, judging, audit_log, stack)
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
        if interrupts.received:
            reactions.stop()
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
