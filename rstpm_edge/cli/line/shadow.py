"""`--shadow`: of how much time, and who is told of each image that was compared."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from rstpm_edge.cli.line.options import LineOptions
from rstpm_edge.cli.terminal import say_note
from rstpm_edge.outputs.json_lines import JsonLines

SHARE = 0.1  # of the time, unless another one is given


def share_of(options: LineOptions) -> float:
    """The share of the time, at most, that is given to the shadow."""
    return SHARE if options.shadow_share is None else options.shadow_share


def open_shadow_log(options: LineOptions, stack: contextlib.ExitStack) -> Callable[[Mapping[str, Any]], None]:
    """Takes a line for each image, until the end of `stack`, from one thread at a time. Raises OutputError."""
    if options.shadow_log is None:
        return nobody
    return stack.enter_context(JsonLines(options.shadow_log, report=say_note)).tell


def nobody(fields: Mapping[str, Any]) -> None:
    """Keeps nothing: figures are in the summary all the same."""
