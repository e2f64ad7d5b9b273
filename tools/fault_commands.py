"""Commands of rstpm-edge in forked processes, to which `faults.py` does what happens to machines."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
HELPERS = ROOT / "tests" / "helpers"
_NUMBERS = itertools.count()
HANGS = 300.0  # seconds after which a command that should end, or go on, is a failure


def nothing() -> None:
    """What a command needs to be told before it starts, or while it runs."""


@dataclass
class Outcome:
    """What a fault did, how often, and what was checked each time."""

    fault: str
    checked: str
    times: int = 0
    failures: list[str] = field(default_factory=list)

    def expect(self, holds: object, what: str) -> None:
        if not holds:
            self.failures.append(f"{self.fault}, time {self.times}: {what}")


@dataclass
class Ended:
    """How a command ended: its exit code, or None where it was killed, and what it said on standard error."""

    code: int | None
    errors: str
    seconds: float


class Command:
    """`rstpm-edge` in a process of its own, forked with all that it imports already loaded."""

    def __init__(
        self, *arguments: object, folder: Path, output: Path | None = None, before: Callable[[], None] = nothing
    ):
        self.arguments = [str(argument) for argument in arguments]
        self._errors = folder.with_name(f"{folder.name}.{next(_NUMBERS)}.stderr")
        self._start = time.monotonic()
        self._ended: Ended | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self._pid = os.fork()
        if self._pid:
            return
        code = 70
        try:  # in the child, which never comes back
            os.chdir(folder)
            flags = os.O_WRONLY | os.O_CREAT
            os.dup2(os.open(output or os.devnull, flags | os.O_APPEND, 0o666), 1)
            os.dup2(os.open(self._errors, flags | os.O_TRUNC, 0o666), 2)
            before()
            from rstpm_edge.cli.main import main

            main(self.arguments)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        except BaseException as error:
            print(repr(error), file=sys.stderr)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    @property
    def passed(self) -> float:
        return time.monotonic() - self._start

    def signal(self, number: int) -> None:
        os.kill(self._pid, number)

    def until(self, due: Callable[[], bool], tick: Callable[[], None] = nothing) -> Ended | None:
        """Wait until `due`, calling `tick` meanwhile; how it ended, if it has."""
        while self._ended is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                errors = self._errors.read_text(errors="replace") if self._errors.exists() else ""
                self._errors.unlink(missing_ok=True)
                self._ended = Ended(code if code >= 0 else None, errors, self.passed)
            elif due():
                break
            else:
                tick()
                time.sleep(0.001)
        return self._ended

    def killed_when(self, due: Callable[[], bool], tick: Callable[[], None] = nothing) -> Ended:
        """SIGKILL when it is `due`; how it ended, by that or before."""
        ended = self.until(due, tick)
        if ended is not None:
            return ended
        self.signal(signal.SIGKILL)
        ended = self.until(lambda: False)
        assert ended is not None
        return ended

    def killed_after(self, seconds: float) -> Ended:
        return self.killed_when(lambda: self.passed >= seconds)

    def finished(self, within: float = HANGS) -> Ended:
        """To its end; killed, and so no success, where it has not come so many seconds after the start."""
        return self.killed_after(within)


def one_sentence(errors: str) -> bool:
    """Whether a command ended with an error that people can read."""
    lines = [line for line in errors.splitlines() if "Error" in line or "Traceback" in line]
    return "Traceback" not in errors and len(lines) == 1 and lines[0].startswith("Error: Cannot")


def leftovers(folder: Path) -> list[str]:
    """Temporary files that nobody writes any more."""
    return [str(path) for path in folder.rglob("*") if path.name.endswith(".tmp")]


def preload(names: Sequence[str]) -> None:
    """Import what forked commands need, once."""
    for name in names:
        __import__(name)
