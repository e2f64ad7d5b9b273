"""Running a command of the user's for each anomalous image."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rstpm_edge.errors import UsageError
from rstpm_edge.printable import one_line

WAITING = 64  # verdicts that may wait for the command; at most
STOPPED = "the program is being stopped, and another command runs"
PLACEHOLDERS = ("path", "score", "p_value", "threshold", "json")


class OnAnomaly:
    """Runs `command`, without a shell, for one verdict after the other, beside the inspection.

    The command is split as a shell would; {path}, {score}, {p_value}, {threshold} and {json} in its words are
    replaced, and the verdict's JSON is its standard input. {path} of a file is absolute or begins with "./", so that no
    name is taken for an option. What it prints goes to standard error. After `timeout` seconds it is killed, with
    whatever it started.

    unjudged: whether it is run for images that could not be judged, too, which are invalid or failed: the JSON of those
        without a score has no more than "path", "verdict", "invalid_reason" and "error", and placeholders that they
        have no value for are replaced by nothing.
    wait: whether `tell` waits while 64 verdicts are queued, so that none is lost; otherwise the verdict is
        dropped, counted in `dropped` and reported.
    report: called with a sentence for each command that failed, was killed, or was not run. None of them ends the
        inspection; `failed` counts them.

    Leaving the context waits for what is queued; after `stop`, only for the command that runs. Raises UsageError for a
    command that cannot be run.
    """

    def __init__(
        self,
        command: str,
        *,
        timeout: float = 10.0,
        unjudged: bool = False,
        wait: bool = True,
        report: Callable[[str], None],
    ) -> None:
        self.failed = 0
        self.dropped = 0
        self._error: Exception | None = None  # of ours, not the command's; raised where the inspection sees it
        self._words = _split(command)
        self._timeout = timeout
        self._unjudged = unjudged
        self._wait = wait
        self._report = report
        self._changed = threading.Condition()  # for what follows
        self._waiting: deque[Mapping[str, Any]] = deque()
        self._runs = self._stopped = self._left = False
        self._thread = threading.Thread(target=self._run_all, name="on-anomaly", daemon=True)
        self._thread.start()

    def tell(self, fields: Mapping[str, Any]) -> None:
        """Queue what `verdict_fields` or `failure_fields` gave, if the command is run for such an image."""
        if self._error is not None:
            raise self._error
        if fields["verdict"] not in (("anomalous", "invalid", "failed") if self._unjudged else ("anomalous",)):
            return
        with self._changed:
            if self._wait:
                self._changed.wait_for(lambda: len(self._waiting) < WAITING or self._stopped)
            if self._stopped and (self._runs or self._waiting):
                refusal = STOPPED
            elif len(self._waiting) >= WAITING:
                refusal = f"{WAITING} others wait for it"
            else:
                self._waiting.append(fields)
                self._changed.notify_all()
                return
        self._refuse(fields, refusal)

    def stop(self) -> None:
        """Refuse what waits, and from now on what would have to wait: a service manager kills who takes long to end.

        Each is counted in `dropped` and reported. The command that runs is finished, and so is that of a verdict which
        comes later, where none runs then.
        """
        with self._changed:
            self._stopped = True
            # Where none runs, the first does not wait for a command, but for the thread, which takes it at once.
            next_one = [] if self._runs or not self._waiting else [self._waiting.popleft()]
            refused, self._waiting = list(self._waiting), deque(next_one)
            self._changed.notify_all()
        for fields in refused:
            self._refuse(fields, STOPPED)

    def _refuse(self, fields: Mapping[str, Any], why: str) -> None:
        with self._changed:
            self.dropped += 1
        self._report(f"The command was not run for {one_line(fields['path'])}: {why}.")

    def __enter__(self) -> "OnAnomaly":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None and not issubclass(kind, Exception):
            return  # the user will not wait; the thread ends with the process
        with self._changed:
            self._left = True
            self._changed.notify_all()
        self._thread.join()
        if self._error is not None and kind is None:
            raise self._error

    def _run_all(self) -> None:
        while (fields := self._next()) is not None:
            if self._error is not None:
                continue  # taken from the queue all the same, so that nobody waits for room in it
            try:
                problem = self._run(fields)
                if problem:
                    self.failed += 1
                    self._report(f"The command for {one_line(fields['path'])} {problem}.")
            except Exception as error:
                self._error = error

    def _next(self) -> Mapping[str, Any] | None:
        """Wait for the next verdict; None when the context was left and none is queued."""
        with self._changed:
            self._runs = False
            self._changed.wait_for(lambda: self._waiting or self._left)
            if not self._waiting:
                return None
            self._runs = True
            self._changed.notify_all()  # there is room
            return self._waiting.popleft()

    def _run(self, fields: Mapping[str, Any]) -> str | None:
        """Run the command once; what went wrong, if anything did."""
        document = json.dumps(fields, allow_nan=False)
        values = {**{name: str(fields.get(name, "")) for name in PLACEHOLDERS}, "json": document}
        values["path"] = _no_option(values["path"])
        words = [_filled(word, values) for word in self._words]
        try:
            # In a group of its own: an interrupt from the keyboard is for us, and a timeout for all that it started.
            process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=2, start_new_session=True)
        except (OSError, ValueError) as error:
            return f"could not be started: {getattr(error, 'strerror', None) or error}"
        try:
            process.communicate(document.encode() + b"\n", timeout=self._timeout)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"was killed after {self._timeout:g} seconds"
        if process.returncode < 0:
            return f"was ended by signal {-process.returncode}"
        return f"failed with exit code {process.returncode}" if process.returncode else None


def _split(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"The command for anomalies cannot be split into words: {error}.") from error
    if not words:
        raise UsageError("The command for anomalies is empty.")
    if shutil.which(words[0]) is None:
        there = Path(words[0]).is_file()
        reason = "is not executable" if there else "was not found"
        raise UsageError(
            f"The command {words[0]!r} for anomalies {reason}; it is run without a shell, so for one write sh -c '…'."
        )
    return words


def _no_option(path: str) -> str:
    """A file's path as no program takes it for an option, or for anything but a file; a camera's name as it is."""
    is_file = path.startswith(("-", "+", "@")) or os.path.lexists(path)  # the former even when it has gone meanwhile
    return os.path.join(os.curdir, path) if is_file and not os.path.isabs(path) else path


def _filled(word: str, values: Mapping[str, str]) -> str:
    # One pass, so that a file's name is not taken for a placeholder; other braces are the command's own.
    return re.sub(r"\{(" + "|".join(PLACEHOLDERS) + r")\}", lambda match: values[match[1]], word)
