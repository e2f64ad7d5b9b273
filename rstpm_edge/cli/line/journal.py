"""`--journal`: what was judged in the watched folder is known after a restart."""

import contextlib
import os
from typing import TYPE_CHECKING

from rstpm_edge.cli.common import real
from rstpm_edge.cli.terminal import counted, say_note
from rstpm_edge.errors import UsageError

if TYPE_CHECKING:
    from rstpm_edge.cli.line.options import LineOptions
    from rstpm_edge.cli.line.source import InspectionPlan
    from rstpm_edge.outputs.journal import Journal


def open_journal(options: "LineOptions", plan: "InspectionPlan", stack: contextlib.ExitStack) -> "Journal | None":
    """The journal that was asked for, until the end of `stack`. Raises UsageError and OutputError."""
    path = options.journal
    if path is None:
        return None
    if plan.watched is None:
        raise UsageError("--journal goes with --watch only: it keeps what was judged in a watched folder.")
    if real(path).is_relative_to(real(plan.watched)):
        raise UsageError(f"The journal must not lie in the folder {plan.watched} that is watched: give another place.")
    from rstpm_edge.outputs.journal import Journal

    journal = stack.enter_context(Journal(path, days=options.journal_days, report=say_note))
    if journal.untold:
        say_note(
            f"The last run ended before it had told of {counted(journal.untold, 'verdict')}, which the journal has: "
            f"`rstpm-edge journal {os.fspath(path)} --untold`."
        )
    return journal
