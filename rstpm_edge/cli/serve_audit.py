"""The audit log of `rstpm-edge serve`."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rstpm_edge.cli.common import check_no_picture
from rstpm_edge.cli.serve_options import ServeOptions
from rstpm_edge.cli.station_file import Camera, StationPlan
from rstpm_edge.cli.terminal import as_typed, say_note
from rstpm_edge.image.mask import Mask
from rstpm_edge.model.keys import PublicKey
from rstpm_edge.outputs.audit_log import LARGEST, AuditLog
from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.printable import one_line, without_passwords
from rstpm_edge.station.access import Access
from rstpm_edge.station.audit import Record, StationAudit, nobody

SHOWN = 2000  # characters of a text


def open_audit(plan: StationPlan, access: Access, stack: contextlib.ExitStack) -> StationAudit | None:
    """The log that was asked for, until the end of `stack`, with its first entry. Raises UsageError and OutputError.

    A station goes on where it cannot be written.
    """
    options = plan.options
    if options.audit_log is None:
        return None
    check_no_picture("--audit-log", options.audit_log)
    largest = LARGEST if options.audit_log_size is None else options.audit_log_size * 1_000_000
    log = stack.enter_context(AuditLog(options.audit_log, report=say_note, largest=largest))
    log.start(_facts(plan, access))
    return stack.enter_context(StationAudit(log))


def record_of(audit: StationAudit | None, judging: InferenceOptions, line: str | None = None) -> Record:
    """What models that judge by these options are recorded with; `line`, where it alone has them."""
    if audit is None:
        return nobody
    log, mask, key = audit.log, judging.mask, judging.public_key
    more = {
        **({} if line is None else {"line": line}),
        "signed_by": key.hint if isinstance(key, PublicKey) else None,
        "roi": judging.roi,
        "mask": {"sha256": mask.sha256} if isinstance(mask, Mask) else mask,
    }

    def record(event: str, fields: Mapping[str, Any]) -> None:
        log.record(event, shown({**fields, **({} if event == "model refused" else more)}))

    return record


def shown(value: Any) -> Any:
    """As the log holds it: no passwords, and each text on one line."""
    if isinstance(value, Mapping):
        return {name: shown(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(one) for one in value]
    if isinstance(value, (str, Path)):
        return one_line(without_passwords(as_typed(str(value))))[:SHOWN]
    return value


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
