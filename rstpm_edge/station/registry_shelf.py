"""The registry as a shelf: of each product the version that is live."""

import contextlib
from pathlib import Path

from rstpm_edge.errors import ModelError, RstpmEdgeError
from rstpm_edge.model_watch import State, state_of
from rstpm_edge.registry.registry import open_registry
from rstpm_edge.station.shelf import Catalogue

LIVE = "live"  # the version of all products: which number that is, the registry's log says
UNREAD: "tuple[State, Path | None]" = ((), None)  # a state that no log has


class RegistryShelf:
    """Gives the file of the live version, and of another one once that is promoted, or rolled back to.

    A log that cannot be read, or is damaged meanwhile, changes nothing, nor does a folder that is away: nothing is ever
    removed from a registry. Raises UsageError where there is no registry, and ModelError for a newer one.
    """

    may_exchange = False

    def __init__(self, folder: Path) -> None:
        self._registry = open_registry(folder)
        self._known: dict[str, tuple[State, Path | None]] = {}  # by product: its log's state, and the live file

    def catalogue(self) -> Catalogue:
        """What is live now."""
        known = dict(self._known)
        with contextlib.suppress(RstpmEdgeError):  # a share that has gone for a moment
            for name in self._registry.products():
                known[name] = self._live(name)
        self._known = known  # at once: requests ask for it, too
        return {name: {LIVE: path} for name, (_, path) in sorted(self._known.items()) if path is not None}

    def check(self, path: Path, sha256: str) -> None:
        """Raises ModelError where a file that was loaded is not the one that the log names."""
        if not path.parent.name.startswith(sha256):  # the folder is named for what was added
            raise ModelError(
                f"The registry's file {path} is damaged, or was exchanged: its SHA-256 is {sha256}. Copy it from a "
                "backup, or add the same model again."
            )

    def _live(self, name: str) -> tuple[State, Path | None]:
        state = state_of([self._registry.log_file(name)])
        before = self._known.get(name)
        if before is not None and before[0] == state:
            return before
        try:
            live = self._registry.product(name).live
        except RstpmEdgeError:
            return before or UNREAD  # tried again: a permission, or a share that is back, changes no time stamp
        return state, None if live is None else self._registry.model_file(live.model)
