"""A training as it runs: its processes, its clock, and whom it tells."""

from collections.abc import Callable
from dataclasses import dataclass

from lightning_fabric import Fabric

from rstpm_edge.progress import Progress, Report

from .machine import Machine, launch, of_one_process
from .run_log import RunLog
from .time_budget import Budget


@dataclass(frozen=True, eq=False)
class Job:
    """What all steps of a training share. `report` is told by one of the processes only, and `log` hears it, too."""

    fabric: Fabric
    budget: Budget
    report: Report
    log: RunLog

    def warn(self, stage: str, sentence: str) -> None:
        """Tell people something, beside the progress."""
        self.report(Progress(stage, 0, 0, warning=sentence))

    def check_time(self, photos: int) -> None:
        """Warn where one epoch alone ends too late for the limit. Raises UsageError as `Budget.check` does."""
        if sentence := self.budget.check(photos):
            self.warn("time", sentence)

    def stage(self, name: str, total: int = 1, epochs: int = 0) -> Callable[[int], None]:
        """Begin a stage of `total` pieces, before `epochs`; gives what is to be called with how many are done."""
        tell = self.stage_of_its_own_total(name, total, epochs)
        return lambda done: tell(done, total)

    def stage_of_its_own_total(self, name: str, total: int = 1, epochs: int = 0) -> Callable[[int, int], None]:
        """As `stage`, for work that tells its total itself."""
        self.budget.begin(name)
        plan = self.budget.plan(epochs)
        self.report(Progress(name, 0, total, plan=plan))
        return lambda done, total: self.report(Progress(name, done, total, plan=plan))


def start(machine: Machine | None, budget: Budget, report: Report) -> Job:
    """Launch the processes. Raises UsageError for a machine that is not there."""
    fabric, log = launch(machine or Machine()), RunLog()
    return Job(fabric, budget, of_one_process(fabric, log.beside(report)), log)
