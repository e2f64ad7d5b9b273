"""A camera that gives what a test hands it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from rstpm_edge.errors import SourceError
from rstpm_edge.sources.frames import Frame, Item


class Images:
    """A source that gives what it is handed; one that is `away` cannot be opened."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.away = False

    def __iter__(self) -> Iterator[Item]:
        while not self.away:
            if self.items:
                yield self.items.pop(0)
            else:
                time.sleep(0.001)
                yield None
        raise SourceError("The camera is away.")

    def summary(self) -> str:
        return ""

    def close(self) -> None:
        pass

    def give(self, image: NDArray[Any], name: str = "camera:0") -> None:
        self.items.append(Frame(name, image, "camera", 1.0, number=0, taken=0.0, dropped=3, damaged=1))

    def open(self, report: Any) -> Images:
        """Itself, as `Line` opens its source."""
        if self.away:
            raise SourceError("The camera is away.")
        return self
