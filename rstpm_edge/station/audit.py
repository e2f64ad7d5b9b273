"""What a station writes into its audit log: which models judge, who steers it, and how many of what it judged."""

import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from rstpm_edge.outputs.audit_log import INTERVAL, AuditLog
from rstpm_edge.station.closing import Closing
from rstpm_edge.station.event import Inspection

Record: TypeAlias = Callable[[str, Mapping[str, Any]], None]  # gets what happened, and what there is to say of it


def nobody(event: str, fields: Mapping[str, Any]) -> None:
    """Keeps nothing."""


class StationAudit(Closing):
    """Counts verdicts, and writes them every `interval` seconds in which there were some. Ends with its block.

    Of other things `log` hears at once: an entry is on the disk before whoever asked for it has an answer. The log
    outlives this, and closes itself.
    """

    def __init__(self, log: AuditLog, *, interval: float = INTERVAL) -> None:
        self.log = log
        self._interval = interval
        self._news = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit log", daemon=True)

    def add(self, inspection: Inspection) -> None:
        """Count one more: a tap of the feed, which writes nothing in the thread that judges."""
        self.log.count(inspection.verdict, inspection.origin)
        self._news = True

    def __enter__(self) -> "StationAudit":
        self._thread.start()
        return self

    def close(self) -> None:
        """Write no more of them."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._interval):
            if self._news:
                self._news = False
                self.log.tell_counts()
