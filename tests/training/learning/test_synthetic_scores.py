"""How many synthetic defects a model finds."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from rstpm_edge.calibration import Calibration
from rstpm_edge.model.outputs import ByPair, ModelOutputs
from rstpm_edge.model.training_summary import synthetic_defects
from rstpm_edge.training.learning.map_calibration import calibrate_model
from rstpm_edge.training.learning.synthetic_scores import (
    LEAST,
    share_found,
    synthetic_count,
    synthetic_scores,
    synthetic_summary,
)
from rstpm_edge.training.model.rstpm import RSTPM

SIZE = 64


class Stub:
    """A model whose maps say how far a cell is from mid-grey, if it `sees`; the score is the largest of it."""

    def __init__(self, sees: bool = True) -> None:
        from dataclasses import replace

        from rstpm_edge.training.model.presets import EDGE

        self.preset = replace(EDGE, distance="cosine", segmentation_head=False)
        self.sees = sees
        self.shown: list[NDArray[np.uint8]] = []

    def eval(self) -> None:
        pass

    def outputs(self, images: NDArray[np.uint8]) -> ModelOutputs:
        self.shown += list(images)
        off = np.abs(images.astype(np.float32).mean(-1) - 127) / 128 if self.sees else np.zeros(images.shape[:3])

        def pooled(stride: int) -> NDArray[np.float32]:
            return off.reshape(len(images), SIZE // stride, stride, -1, stride).mean((2, 4)).astype(np.float32)

        return ModelOutputs(ByPair.of([pooled(stride) for stride in self.preset.strides] * 2), None, None)


@pytest.fixture
def photos() -> NDArray[np.uint8]:
    """Ten photos of nearly grey parts."""
    return np.random.default_rng(0).integers(120, 135, (10, SIZE, SIZE, 3)).astype(np.uint8)


@pytest.mark.parametrize("photos", [1, 3, 10, 20, 25, 26, 94, 1000])
def test_about_a_hundred_are_painted_of_each_kind_as_many(photos: int) -> None:
    assert LEAST <= synthetic_count(photos) < 1.2 * LEAST
    assert synthetic_count(photos) % 4 == 0


def test_a_model_that_sees_finds_most_and_a_blind_one_none(photos: NDArray[np.uint8]) -> None:
    for model, least, most in ((Stub(), 0.5, 1.0), (Stub(sees=False), 0.0, 0.0)):
        found = calibrate_model(cast(RSTPM, model), photos, None)
        told: list[int] = []
        model.shown.clear()
        scores = synthetic_scores(cast(RSTPM, model), photos, found, progress=told.append)
        assert len(scores) == len(model.shown) == told[-1] == synthetic_count(len(photos))
        assert list(scores) == sorted(scores)
        assert least <= share_found(scores, found.calibration.threshold) <= most
        assert scores == synthetic_scores(cast(RSTPM, model), photos, found)  # the same defects each time


def test_a_share_counts_what_lies_above() -> None:
    assert [share_found((1.0, 2.0, 2.0, 3.0), threshold) for threshold in (0, 1, 2, 3)] == [1, 0.75, 0.25, 0]


def test_a_model_file_keeps_the_share_of_each_rate() -> None:
    calibration = Calibration(0.05, tuple(range(99)))
    kept = synthetic_summary((10.0, 88.5, 95.0, 97.5), calibration)
    told = synthetic_defects({"epochs": 3, **kept})
    assert told
    assert told.count == 4
    assert told.found == {0.01: 0.0, 0.02: 0.25, 0.05: 0.5, 0.1: 0.5, 0.2: 0.75}
    assert synthetic_summary((), calibration) == {}


@pytest.mark.parametrize(
    "wrong",
    [{}, {"synthetic_defects": 3}, {"synthetic_defects": {"count": "x", "rates": []}}, {"synthetic_defects": {}}],
)
def test_a_file_that_says_nothing_of_them_or_nonsense(wrong: dict[str, object]) -> None:
    assert synthetic_defects(wrong) is None
