"""That a file cannot be written, told once."""

from collections.abc import Callable
from pathlib import Path

from rstpm_edge.errors import OutputError, UsageError


class WriteTrouble:
    """Whether `path` can be written. `report`, where it is given, is told once when not, and again when it can."""

    def __init__(self, path: Path, report: Callable[[str], None] | None) -> None:
        self.lasts = False
        self._path, self._report = path, report

    def begin(self, error: OSError | UsageError) -> None:
        """It could not be written, for that reason. Raises OutputError where nobody is told."""
        why = f": {error.strerror or error}." if isinstance(error, OSError) else f". {error}"
        sentence = f"Cannot write {self._path}{why}"
        told, self.lasts = self.lasts, True
        if self._report is None:
            raise OutputError(sentence) from error
        if not told:
            self._report(f"{sentence} Judging goes on without.")

    def end(self) -> None:
        """It was written."""
        if self.lasts and self._report is not None:
            self._report(f"{self._path} can be written again.")
        self.lasts = False
