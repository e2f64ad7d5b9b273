"""The lines of a training's progress in its run's folder: train.log, which a resumed run goes on with."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from rstpm_edge.printable import one_line
from rstpm_edge.progress import Log, Progress, Report, stamped

NAME = "train.log"


class RunLog:
    """Writes what `beside` sees as lines, as soon as there is a folder for them.

    A disk that is full, or a folder that is gone, ends no training on its account.
    """

    def __init__(self) -> None:
        self._path: Path | None = None
        self._waiting: list[str] = []
        self._log = Log(self._write)

    def beside(self, report: Report) -> Report:
        """`report`, and these lines."""

        def both(progress: Progress) -> None:
            self._log(progress)
            report(progress)

        return both

    def open(self, folder: Path) -> None:
        """Write to `folder` from now on, and what was to be written before."""
        self._path = folder / NAME
        waiting, self._waiting = self._waiting, []
        for line in waiting:
            self._write(line)

    @contextlib.contextmanager
    def ended(self) -> Iterator[None]:
        """The last line says how it ended."""
        try:
            yield
        except BaseException as error:
            self._write(stamped(f"Stopped: {type(error).__name__} {error}".rstrip()))
            raise
        self._write(stamped("Finished."))

    def _write(self, line: str) -> None:
        if self._path is None:
            self._waiting.append(line)
            return
        with contextlib.suppress(OSError), self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(one_line(line) + "\n")
