"""`infer --shadow`: a version that judges without effect, and what is told of it."""

import contextlib
from typing import TYPE_CHECKING

from rstpm_edge.cli.infer.followed import Followed
from rstpm_edge.cli.line.shadow import nobody, open_shadow_log, share_of
from rstpm_edge.cli.terminal import say_note
from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.registry.shadow import Shadow

if TYPE_CHECKING:
    from rstpm_edge.cli.infer.options import InferOptions
    from rstpm_edge.outputs.audit_log import AuditLog


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
    return stack.enter_context(
        Shadow(
            followed.registry,
            followed.product,
            station,
            share=share_of(options),
            say=say_note,
            tell=open_shadow_log(options, stack),
            finished=nobody if audit_log is None else audit_log.tell_shadow,
        )
    )
