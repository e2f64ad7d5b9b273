"""The test for drift of a line, where a product is selected or rolled back to while images are judged."""

from __future__ import annotations

import threading
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np

from rstpm_edge.calibration import Calibration
from rstpm_edge.drift import begin
from rstpm_edge.station.line_drift import LineDrift


def product(held_out: int, sha256: str) -> Any:
    info = SimpleNamespace(calibration=Calibration(0.05, tuple(np.linspace(0, 1, held_out))))
    return SimpleNamespace(detector=SimpleNamespace(sha256=sha256, info=info), outcomes=Counter())


def result(of: Any, cell: int = 0) -> Any:
    """One of the model that judges now."""
    p_value = (cell + 1) / (1 + len(of.detector.info.calibration.scores))
    return SimpleNamespace(
        verdict="normal", p_value=p_value, light_p_value=None, model_sha256=of.detector.sha256, invalid_reason=None
    )


def drift_of(first: Any, told: list[Any]) -> LineDrift:
    return LineDrift(
        "line", first, lambda info: begin(info.calibration, 0.01), None, tell=told.append, report=lambda said: None
    )


def test_a_product_that_is_selected_while_an_image_is_judged() -> None:
    before, after = product(100, "A"), product(200, "B")
    drift = drift_of(before, [])
    selecting = threading.Thread(target=lambda: drift.begin(drift.before(after), after))

    class InBetween:
        verdict, light_p_value, model_sha256 = "normal", None, "A"

        @property
        def p_value(self) -> float:
            selecting.start()
            selecting.join(0.3)  # it does not wait for the end of this
            return 1.0

    drift.update(before, InBetween())  # type: ignore[arg-type]
    selecting.join()
    assert drift.state == drift.before(after)
    drift.update(before, result(before))  # one that was judged by then
    assert drift.state == drift.before(after)
    drift.update(after, result(after))
    assert drift.state is not None
    assert drift.state.images == 1


def test_a_rollback_goes_on_with_what_was_known() -> None:
    told: list[Any] = []
    judging = product(100, "A")
    first, second = judging.detector, product(120, "B").detector
    drift = drift_of(judging, told)
    for _ in range(60):
        drift.update(judging, result(judging))
    assert drift.state is not None
    assert drift.state.drift == "scene changed"
    judging.detector = second
    assert drift.update(judging, result(judging, 60)) == "stable"
    judging.detector = first
    judging.outcomes["rolled back"] += 1
    assert drift.update(judging, result(judging)) == "scene changed"
    assert drift.state.images == 61
    assert [fields["drift"] for fields in told] == ["stable", "scene changed", "stable", "scene changed"]
    judging.detector = second
    drift.update(judging, result(judging))
    judging.detector = first  # put there by hand: it is a new model as any other
    assert drift.update(judging, result(judging)) == "stable"
    assert drift.state.images == 1


def test_a_model_that_is_rolled_back_before_its_first_result_is_counted() -> None:
    judging = product(100, "A")
    first, second = judging.detector, product(120, "B").detector
    drift = drift_of(judging, [])
    drift.update(judging, result(judging))
    before = drift.state
    judging.detector = second
    late = result(judging)
    judging.detector = first  # an image that somebody sent was too much for it
    drift.update(judging, late)
    assert drift.state == before
