"""Signals: ending without losing the image under way, and taking a new model."""

import contextlib
import signal
from types import FrameType, TracebackType
from typing import Any


class Interrupts:
    """While entered, SIGINT and SIGTERM are noted in `received`; the second one does what it always does.

    In a thread other than the main one, where Python lets nobody handle signals, nothing is changed.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        with contextlib.suppress(ValueError):  # not the main thread
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        # Nothing here may wait for a lock: the main thread may hold it.
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


class Hangups:
    """While entered, SIGHUP ends nothing: `taken` says that one has come. In another thread nothing is changed."""

    def __init__(self) -> None:
        self._received = False
        self._before: Any = None

    def taken(self) -> bool:
        """Whether there was one since the last call."""
        received, self._received = self._received, False
        return received

    def __enter__(self) -> "Hangups":
        with contextlib.suppress(ValueError):  # not the main thread
            self._before = signal.signal(signal.SIGHUP, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGHUP, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = True
