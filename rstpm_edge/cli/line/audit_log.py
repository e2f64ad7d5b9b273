"""`--audit-log`: the file, until the end of a run, and how it holds what was typed."""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rstpm_edge.cli.line.options import LineOptions
from rstpm_edge.cli.terminal import as_typed
from rstpm_edge.image.mask import Mask
from rstpm_edge.model.keys import PublicKey
from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.printable import one_line, without_passwords

if TYPE_CHECKING:
    from rstpm_edge.outputs.audit_log import AuditLog

SHOWN = 2000  # characters of a text


def open_log(
    options: LineOptions, report: Callable[[str], None] | None, stack: contextlib.ExitStack
) -> "AuditLog | None":
    """The log that was asked for, until the end of `stack`; `report` is as `AuditLog` takes it.

    Raises UsageError and OutputError.
    """
    if options.audit_log is None:
        return None
    from rstpm_edge.outputs.audit_log import LARGEST, AuditLog

    largest = LARGEST if options.audit_log_size is None else options.audit_log_size * 1_000_000
    return stack.enter_context(AuditLog(options.audit_log, report=report, largest=largest))


def recorded(judging: InferenceOptions) -> dict[str, Any]:
    """What the log says of options by `judging_of`: of key and mask what was read, whatever the files are by now."""
    mask, key = judging.mask, judging.public_key
    return {
        "signed_by": key.hint if isinstance(key, PublicKey) else None,
        "roi": judging.roi,
        "mask": {"sha256": mask.sha256} if isinstance(mask, Mask) else mask,
    }


def shown(value: Any) -> Any:
    """As the log holds it: no passwords, and each text on one line."""
    if isinstance(value, Mapping):
        return {name: shown(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(one) for one in value]
    if isinstance(value, (str, Path)):
        return one_line(without_passwords(as_typed(str(value))))[:SHOWN]
    return value
