"""Time that passes when somebody sleeps: waiting costs a test nothing, and a busy machine is not late."""

from __future__ import annotations

import time


class SimulatedTime:
    """Stands in for the module `time`, in step with the real one until somebody sleeps."""

    _ahead = 0.0  # of all that there are: modules remember what was said, and time never goes back

    def __init__(self) -> None:
        self._began = SimulatedTime._ahead

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, 0.005))  # by which file systems tell that one change came after another
        SimulatedTime._ahead += seconds

    def monotonic(self) -> float:
        return time.monotonic() + SimulatedTime._ahead

    perf_counter = monotonic

    def time_ns(self) -> int:
        return time.time_ns() + int((SimulatedTime._ahead - self._began) * 1e9)
