"""A version in shadow: what it costs, and that nothing it does has an effect."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from waiting import until

from rstpm_edge import Detector
from rstpm_edge.errors import UsageError
from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.registry import shadow as shadow_module
from rstpm_edge.registry.registry import Registry
from rstpm_edge.registry.shadow import Shadow


class Told:
    """What a shadow says, tells and finishes."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.told: list[Any] = []
        self.finished: list[Any] = []

    def shadow(self, registry: Registry, share: float = 1.0) -> Shadow:
        return Shadow(
            registry,
            "bracket",
            InferenceOptions(),
            share=share,
            say=self.said.append,
            tell=self.told.append,
            finished=self.finished.append,
        )


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def live(filled: Registry) -> Callable[[Shadow, NDArray[np.uint8]], None]:
    """Judges an image with version 1, and offers it."""
    detector = Detector(filled.model_file(filled.live("bracket").model), threads=1)

    def judge(shadow: Shadow, image: NDArray[np.uint8]) -> None:
        shadow.offer("a.png", image, detector(image), typical_score=detector.info.calibration.median, ms=5.0)

    return judge


def test_each_image_is_compared(filled: Registry, told: Told, live: Any, good: Any, bad: Any) -> None:
    filled.promote("bracket", 2, "shadow")
    with told.shadow(filled) as shadow:
        for image in (good, bad, bad):
            live(shadow, image)
    assert len(told.told) == 3
    assert told.told[1]["shadow"]["score"] == pytest.approx(2 * told.told[1]["live"]["score"], rel=1e-4)
    assert told.told[1]["shadow_version"] == 2
    (found,) = told.finished
    assert (found["version"], found["compared"], found["skipped"], found["failed"]) == (2, 3, 0, 0)
    assert "3 of 3 images compared" in shadow.summary()
    assert "Version 2 of bracket judges in shadow, on one thread for at most 1 of the time" in told.said[0]


def test_its_time_is_bounded(filled: Registry, told: Told, live: Any, good: Any, monkeypatch: Any) -> None:
    """After 0.05 s of work it rests 0.45 s, in which images go by."""
    filled.promote("bracket", 2, "shadow")
    with told.shadow(filled, share=0.1) as shadow:
        judge = shadow._judge
        monkeypatch.setattr(shadow, "_judge", lambda offer: (time.sleep(0.05), judge(offer)))
        start = time.monotonic()
        while time.monotonic() - start < 1.2:
            live(shadow, good)
            time.sleep(0.005)
    (found,) = told.finished
    assert 2 <= found["compared"] <= 5  # 0, 0.5 and 1 s, and what was queued
    assert found["skipped"] > 10


def test_what_fails_has_no_effect(
    filled: Registry, told: Told, live: Any, good: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.promote("bracket", 2, "shadow")
    with told.shadow(filled) as shadow:
        assert shadow._model is not None
        monkeypatch.setattr(type(shadow._model), "judge", lambda *arguments: 1 / 0)
        model = shadow._model
        for _ in range(3):
            shadow.offer("a.png", good, Result(), typical_score=0.0, ms=1.0)  # type: ignore[arg-type]
        until(lambda: shadow._comparison.failed == 3)
        assert shadow._model is model
    assert told.finished[0]["failed"] == 3
    assert told.said[1:] == ["Version 2 in shadow cannot judge a.png: ZeroDivisionError: division by zero"]


class Result:
    """As much of one as a shadow looks at."""

    verdict, score, threshold, p_value, model_sha256 = "normal", 0.5, 1.0, 0.5, "a" * 64


def test_another_version_comes_and_goes(
    filled: Registry, told: Told, live: Any, good: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow_module, "LOOK", 0.05)
    with told.shadow(filled) as shadow:
        assert "No version of bracket is in shadow yet" in told.said[0]
        live(shadow, good)
        assert told.told == []
        for number in (2, 3):
            filled.promote("bracket", number, "shadow")
            until(lambda number=number: f"Version {number} of bracket judges" in told.said[-1])  # type: ignore[misc]
            live(shadow, good)
            until(lambda number=number: len(told.told) == number - 1)  # type: ignore[misc]
        filled.promote("bracket", 3, "live")  # it is in shadow no more
        until(lambda: shadow._version is None)
        shadow.between_images()
    assert [(one["version"], one["compared"]) for one in told.finished] == [(2, 1), (3, 1)]
    assert shadow.summary().startswith("shadow, version 3: 1 of 1 images compared")


def test_a_damaged_version_is_told_once(filled: Registry, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    filled.promote("bracket", 2, "shadow")
    file = filled.model_file(filled.product("bracket").version(2).model)
    file.write_bytes(file.read_bytes()[:-10])
    with told.shadow(filled) as shadow:
        shadow._look()
    (sentence,) = told.said
    assert sentence.startswith("No version of bracket judges in shadow: The model ")
    assert told.finished == []


def test_a_version_of_other_bytes(filled: Registry, told: Told, models: list[Path]) -> None:
    filled.promote("bracket", 2, "shadow")
    filled.model_file(filled.product("bracket").version(2).model).write_bytes(models[2].read_bytes())
    with told.shadow(filled):
        pass
    assert "is damaged, or was exchanged" in told.said[0]


@pytest.mark.parametrize("share", [0.0, -1.0, 1.1, float("nan")])
def test_shares_that_mean_nothing(filled: Registry, told: Told, share: float) -> None:
    with pytest.raises(UsageError, match="must be over 0 and up to 100%"):
        told.shadow(filled, share)
