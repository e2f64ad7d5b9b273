"""A station with its page, as `serve` puts them together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from station_server import Client, serving

from rstpm_edge.station.history.history import History
from rstpm_edge.station.photos import rgb_of
from rstpm_edge.station.routes.page import page_routers


@contextlib.contextmanager
def page_station(model: Path, folder: Path | None, **options: Any) -> Iterator[Client]:
    """A station with the page, and with a history where there is a folder."""
    with contextlib.ExitStack() as stack:

        def routers(station: Any) -> Any:
            history = None
            if folder is not None:
                history = stack.enter_context(History(folder, rgb=lambda one: rgb_of(station, one, 1 << 26)))
                station.feed.tap(history.add)
            return page_routers(station, history)

        yield stack.enter_context(serving(model, routers=routers, **options))
