"""A worker of `fleet train` that dies once, and what each process told of its epochs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rstpm_edge.training.fleet_train import fleet
from rstpm_edge.training.fleet_train.result import ProductResult
from rstpm_edge.training.fleet_train.status import ProductStatus
from rstpm_edge.training.fleet_train.work import Task


def dies_once(product: str, epoch: int, folder: Path) -> Callable[[Task, Any], ProductResult]:
    """A task in the place of `fleet._work`, which it calls: the first process that is in this epoch of `product` dies.

    Each process writes the epochs of that product, as it tells of them, to a file of its own in `folder`.
    """

    def telling(tell: Callable[[ProductStatus], object]) -> Callable[[ProductStatus], None]:
        def told(status: ProductStatus) -> None:
            tell(status)
            if status.name != product or status.epoch is None:
                return
            own = folder / str(os.getpid())
            is_first = all(file == own for file in folder.iterdir())
            with open(own, "a") as file:
                file.write(f"{status.epoch}\n")
            if is_first and status.epoch >= epoch:
                os.kill(os.getpid(), signal.SIGKILL)

        return told

    def work(task: Task, board: Any) -> ProductResult:
        teller = fleet.Teller
        fleet.Teller = lambda name, tell: teller(name, telling(tell))  # type: ignore[assignment,misc]
        return fleet._work(task, board)  # in this process, that of the package

    return work


def told_epochs(folder: Path) -> list[list[int]]:
    """What each process wrote, the first process first."""
    files = sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime_ns)
    return [[int(line) for line in file.read_text().splitlines()] for file in files]
