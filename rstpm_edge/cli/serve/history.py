"""The history of `rstpm-edge serve`, and the page that shows it."""

import contextlib
from collections.abc import Callable

from rstpm_edge.cli.serve.options import ServeOptions
from rstpm_edge.cli.terminal import say_note
from rstpm_edge.station.history.history import History
from rstpm_edge.station.history.retention import Retention
from rstpm_edge.station.photos import rgb_of
from rstpm_edge.station.station import Station


def open_history(options: ServeOptions, station: Callable[[], Station], stack: contextlib.ExitStack) -> History | None:
    """What keeps verdicts until the end of `stack`, once a feed hands them over; None where nobody asked for it.

    `station` gives that, which is made later: its last verdicts come before the end of the history.
    Raises what `History` does.
    """
    if options.history is None:
        return None
    pixels = options.max_pixels * 1_000_000
    size = Retention.bytes if options.history_size is None else options.history_size * 1_000_000
    return stack.enter_context(
        History(
            options.history,
            rgb=lambda inspection: rgb_of(station(), inspection, pixels),
            retention=Retention(options.history_days, size),
            report=say_note,
        )
    )
