"""What a worker tells of the stages of its product."""

import os
import time
from collections.abc import Callable
from dataclasses import replace

from rstpm_edge.progress import Clock, Progress, Whole

from ..audit.audit import PLAN as AUDIT_STAGES
from ..learning.time_budget import FIRST_PLAN
from .status import ProductStatus

TOLD_EVERY = 0.5  # seconds between what a worker tells of one stage
EXPORT, TESTING = 0.05, 0.1  # of what a training takes, about
# Seconds, before the training itself knows better.
FIRST = {"audit": 20.0, **FIRST_PLAN, "export": 5.0, "testing": 10.0}


class Teller:
    """Turns the progress of all stages of one product into statuses, not too many of them."""

    def __init__(self, name: str, tell: Callable[[ProductStatus], None], clock: Clock = time.monotonic) -> None:
        self._name, self._tell, self._clock = name, tell, clock
        self._whole, self._audit = Whole(clock), Whole(clock)
        self._told = -TOLD_EVERY
        self._last: ProductStatus | None = None

    def audit(self, progress: Progress) -> None:
        """A report for the audit, which is one stage of the whole."""
        if progress.warning is None:
            self._audit.take(replace(progress, plan=progress.plan or AUDIT_STAGES))
            self.stage("audit", int(100 * self._audit.share), 100)

    def training(self, progress: Progress) -> None:
        """A report for the training, whose plan goes on with export and testing."""
        if progress.warning is not None:
            return
        plan = dict(progress.plan or FIRST)
        all_of_it = sum(plan.values())
        self._take(replace(progress, plan={**plan, "export": EXPORT * all_of_it, "testing": TESTING * all_of_it}))

    def stage(self, name: str, done: int = 0, total: int = 1) -> None:
        """Any other stage."""
        self._take(Progress(name, done, total, plan=FIRST if name == "audit" else None))

    def _take(self, progress: Progress) -> None:
        self._whole.take(progress)
        status = ProductStatus(
            name=self._name,
            stage=progress.stage,
            share=self._whole.share,
            seconds_left=self._whole.seconds_left,
            epoch=progress.epoch,
            epochs=progress.epochs,
            loss=progress.loss,
            process=os.getpid(),
        )
        now = self._clock()
        new = self._last is None or (self._last.stage, self._last.epoch) != (status.stage, status.epoch)
        if new or now - self._told >= TOLD_EVERY:
            self._tell(status)
            self._told, self._last = now, status
