"""`rstpm-edge serve --registry --shadow`."""

import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

from rstpm_edge.cli.line.judging import judging_of
from rstpm_edge.cli.line.shadow import nobody, open_shadow_log, share_of
from rstpm_edge.cli.serve.station_file import StationPlan
from rstpm_edge.cli.terminal import say_note
from rstpm_edge.errors import UsageError
from rstpm_edge.registry.registry import open_registry
from rstpm_edge.station.audit import StationAudit
from rstpm_edge.station.products import Products
from rstpm_edge.station.shadows import Shadows


def open_shadows(
    plan: StationPlan,
    products: Products,
    audit: StationAudit | None,
    stack: contextlib.ExitStack,
) -> Shadows | None:
    """What was asked for, until the end of `stack`. Raises UsageError and OutputError."""
    options = plan.options
    if not options.shadow:
        return None
    if options.registry is None:
        raise UsageError("--shadow goes with --registry FOLDER only, whose log says which version is in shadow.")
    own = [camera.name for camera in plan.cameras if camera.own]
    if own:
        say_note(f"Nothing is judged in shadow of {', '.join(own)}, whose options are others than the station's.")
    shadows = Shadows(
        open_registry(options.registry),
        products,
        judging_of(options),
        share=share_of(options),
        leave_out=own,
        say=say_note,
        tell=_one_at_a_time(open_shadow_log(options, stack)),
        finished=nobody if audit is None else audit.log.tell_shadow,
    )
    stack.callback(_summarize, shadows)  # once they have ended
    return stack.enter_context(shadows)


def _summarize(shadows: Shadows) -> None:
    for summary in shadows.summaries():
        say_note(f"{summary}.")


def _one_at_a_time(tell: Callable[[Mapping[str, Any]], None]) -> Callable[[Mapping[str, Any]], None]:
    """Each product has a thread of its own that tells."""
    lock = threading.Lock()

    def told(fields: Mapping[str, Any]) -> None:
        with lock:
            tell(fields)

    return told
