"""The audit log of `rstpm-edge serve`."""

import contextlib
import os
from collections.abc import Mapping
from typing import Any

from rstpm_edge.cli.line.audit_log import open_log, recorded, shown
from rstpm_edge.cli.serve.options import ServeOptions
from rstpm_edge.cli.serve.station_file import Camera, StationPlan
from rstpm_edge.cli.terminal import say_note
from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.station.access import Access
from rstpm_edge.station.audit import Record, StationAudit, nobody


def open_audit(plan: StationPlan, access: Access, stack: contextlib.ExitStack) -> StationAudit | None:
    """The log that was asked for, until the end of `stack`, with its first entry. Raises UsageError and OutputError.

    A station goes on where it cannot be written.
    """
    log = open_log(plan.options, say_note, stack)
    if log is None:
        return None
    log.start(_facts(plan, access))
    return stack.enter_context(StationAudit(log))


def record_of(audit: StationAudit | None, judging: InferenceOptions, line: str | None = None) -> Record:
    """What models that judge by these options are recorded with; `line`, where it alone has them."""
    if audit is None:
        return nobody
    log = audit.log
    more = recorded(judging) if line is None else {"line": line, **recorded(judging)}

    def record(event: str, fields: Mapping[str, Any]) -> None:
        log.record(event, shown({**fields, **({} if event == "model refused" else more)}))

    return record


def _facts(plan: StationPlan, access: Access) -> dict[str, Any]:
    options = plan.options
    served = {name: getattr(options, name) for name in ("models", "registry") if getattr(options, name) is not None}
    places = served or {"model": options.model}
    typed = {
        "host": options.host,
        "port": options.port,
        "tokens": not access.is_open,
        "public_key": options.public_key is not None,
        "verify": options.verify,
        "providers": [str(provider) for provider in options.providers or ()],
        **_judged(options),
    }
    found: dict[str, Any] = shown(
        {
            **{name: os.path.abspath(place) for name, place in places.items()},
            "typed": typed,
            "lines": {camera.name: _line(camera) for camera in plan.cameras},
        }
    )
    return found


def _line(camera: Camera) -> dict[str, Any]:
    options = camera.options
    every = None if options.every is None else str(options.every)
    about = {"source": " ".join(options.sources), "product": options.product, "every": every, "drift": options.drift}
    return about | (_judged(options) if camera.own else {})


def _judged(options: ServeOptions) -> dict[str, Any]:
    return {
        "threshold": options.threshold,
        "alpha": options.alpha,
        "roi": options.roi,
        "mask": None if options.mask is None else str(options.mask),
        "allow_size_change": options.allow_size_change,
    }
