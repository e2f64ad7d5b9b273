"""`infer --shadow`: a version that judges without effect, and what is told of it."""

import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rstpm_edge.cli.followed import Followed
from rstpm_edge.cli.terminal import say_note
from rstpm_edge.outputs.json_lines import JsonLines
from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.registry.shadow import Shadow

if TYPE_CHECKING:
    from rstpm_edge.cli.infer_options import InferOptions
    from rstpm_edge.outputs.audit_log import AuditLog

SHARE = 0.1  # of the time, unless another one is given


def open_shadow(
    options: "InferOptions",
    followed: Followed | None,
    station: InferenceOptions,
    audit_log: "AuditLog | None",
    stack: contextlib.ExitStack,
) -> Shadow | None:
    """What was asked for, until the end of `stack`; `station` says how it judges. Raises UsageError and OutputError."""
    if followed is None or not options.shadow:
        return None
    tell: Callable[[Mapping[str, Any]], None] = _nobody
    if options.shadow_log is not None:
        tell = stack.enter_context(JsonLines(options.shadow_log, report=say_note)).tell
    return stack.enter_context(
        Shadow(
            followed.registry,
            followed.product,
            station,
            share=SHARE if options.shadow_share is None else options.shadow_share,
            say=say_note,
            tell=tell,
            finished=_nobody if audit_log is None else audit_log.tell_shadow,
        )
    )


def _nobody(fields: Mapping[str, Any]) -> None:
    """Keeps nothing: figures are in the summary all the same."""
