"""What of a run goes into a model file, where a person has dropped held-out photos."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rstpm_edge.calibration import Calibration
from rstpm_edge.model.metadata import Fusion
from rstpm_edge.training.data.run_files import RecordedFile
from rstpm_edge.training.export.run_metadata import without_defective
from rstpm_edge.training.learning.run_folder import RunConfig, Summary
from rstpm_edge.training.model.presets import EDGE

FILES = tuple(RecordedFile(f"{i}.png", i) for i in range(4))
CONFIG = RunConfig("photos", EDGE, 64, 64, "stretch", 0, 0.2, None, {}, FILES[:1], FILES, "0.1")
SUMMARY = Summary(1, 0.5, ((1.0, 1.0),), Fusion(), Calibration(0.25, (0.1, 0.2, 0.3)), ("", ""), defective=("2.png",))


@pytest.mark.parametrize(("asked", "rate"), [(0.2, 0.25), (None, None)])
def test_an_export_in_fewer_bits_does_not_calibrate_on_dropped_photos(asked: float | None, rate: float | None) -> None:
    config = without_defective(replace(CONFIG, alpha=asked), SUMMARY)
    assert [photo.name for photo in config.holdout] == ["0.png", "1.png", "3.png"]
    assert config.alpha == rate  # one that so few photos allow
    assert config.train == CONFIG.train


def test_a_run_of_which_nothing_was_dropped_stays_as_it_is() -> None:
    assert without_defective(CONFIG, replace(SUMMARY, defective=())) == CONFIG
