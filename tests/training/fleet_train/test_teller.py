"""What a worker tells of its product: not too often, and never backwards."""

from __future__ import annotations

import os

from simulated_time import SimulatedTime

from rstpm_edge.progress import Progress
from rstpm_edge.training.fleet_train.status import Board, ProductStatus
from rstpm_edge.training.fleet_train.teller import TOLD_EVERY, Teller


def test_all_stages_are_one_whole() -> None:
    told: list[ProductStatus] = []
    time = SimulatedTime()
    teller = Teller("nut", told.append, time.monotonic)
    for done in range(3):
        teller.audit(Progress("reading", done, 2))
        time.sleep(5)
    plan = {"teachers": 10.0, "students": 60.0, "segmentation": 10.0}
    teller.training(Progress("skipped", 0, 0, warning="a damaged photo"))
    for epoch in (1, 2, 3):
        teller.training(Progress("students", epoch, 3, (1.0, 2.0), epoch=epoch, epochs=3, plan=plan))
        time.sleep(20)
    teller.stage("export")
    time.sleep(5)
    teller.stage("testing", 0, 10)
    time.sleep(5)
    teller.stage("testing", 10, 10)
    assert list(dict.fromkeys(one.stage for one in told)) == ["audit", "students", "export", "testing"]
    shares = [one.share for one in told]
    assert shares == sorted(shares)
    assert 0.99 <= shares[-1] <= 1
    third = next(one for one in told if one.epoch == 3)
    assert (third.epochs, third.loss, third.process) == (3, (1.0, 2.0), os.getpid())


def test_a_batch_is_no_news() -> None:
    told: list[ProductStatus] = []
    time = SimulatedTime()
    teller = Teller("nut", told.append, time.monotonic)
    for batch in range(100):
        teller.training(Progress("students", batch, 200, epoch=1, epochs=2))
    assert len(told) <= 2  # a busy machine may need the time of a second one
    time.sleep(TOLD_EVERY)
    teller.training(Progress("students", 100, 200, epoch=1, epochs=2))
    assert len(told) >= 2
    before = len(told)
    teller.training(Progress("students", 101, 200, epoch=2, epochs=2))
    assert len(told) == before + 1


def test_the_board_counts_workers() -> None:
    board = Board()
    board.begin("nut")
    board.tell(ProductStatus("nut", "audit"))
    board.begin("nut")
    board.begin("bolt")
    board.tell(ProductStatus("nut", "students", 0.5))
    board.tell(ProductStatus("bolt", "audit"))
    assert board.statuses() == [
        ProductStatus("nut", "students", 0.5, tries=2),
        ProductStatus("bolt", "audit", tries=1),
    ]
