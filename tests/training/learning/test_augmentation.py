"""Which copies a run learns from, where it is left to the photos."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from small_training import teach

from rstpm_edge.errors import TrainingError
from rstpm_edge.training.data import shift_augmentation
from rstpm_edge.training.data.shift_augmentation import with_shifted_copies
from rstpm_edge.training.learning.augmentation import run_preset, versions, with_copies, with_decided_augmentation
from rstpm_edge.training.learning.options import TrainingOptions
from rstpm_edge.training.learning.run_config import RecordedFile, RunConfig, load_config, save_config
from rstpm_edge.training.model.presets import EDGE, PAPER, Augmentation, Preset

ALIKE, UNLIKE = "Parts lie alike in these photos", "Parts do not lie alike in these photos"


def config(preset: Preset) -> RunConfig:
    file = RecordedFile("a.png", 9, 1)
    return RunConfig("photos", preset, 64, 64, "stretch", 3, 0.2, None, {}, (file,), (file,), "0.1")


def photos(count: int, *, alike: bool) -> NDArray[np.uint8]:
    kinds = np.random.default_rng(0).integers(0, 256, (1 if alike else count, 16, 16, 3)).astype(np.uint8)
    return np.broadcast_to(np.kron(kinds, np.ones((1, 4, 4, 1), np.uint8)), (count, 64, 64, 3)).copy()


@pytest.mark.parametrize(("alike", "decided", "says"), [(True, "shift", ALIKE), (False, "none", UNLIKE)])
def test_copies_are_shifted_where_parts_lie_alike(alike: bool, decided: Augmentation, says: str) -> None:
    learned = photos(20, alike=alike)
    found, sentence = with_decided_augmentation(config(EDGE), learned)
    assert found == config(replace(EDGE, augmentation=decided))
    assert sentence is not None
    assert sentence.startswith(says)
    expected = with_shifted_copies(learned, 3) if alike else learned
    np.testing.assert_array_equal(with_copies(found, learned), expected)
    assert len(expected) == 20 * versions(found.preset, 20) == (80 if alike else 20)
    assert versions(EDGE, 20) == 4  # at most


@pytest.mark.parametrize("count", [15, 257])
def test_nothing_is_said_of_copies_that_so_many_photos_never_have(count: int) -> None:
    found, sentence = with_decided_augmentation(config(EDGE), photos(count, alike=True))
    assert (found.preset.augmentation, sentence) == ("none", None)


@pytest.mark.parametrize("preset", [PAPER, replace(EDGE, augmentation="shift")])
def test_what_a_person_asks_for_is_not_decided(preset: Preset) -> None:
    assert with_decided_augmentation(config(preset), photos(20, alike=False)) == (config(preset), None)


def test_any_preset_may_be_left_to_the_photos() -> None:
    assert run_preset(TrainingOptions(preset=PAPER, augment="auto")) == replace(PAPER, augmentation="auto")


def test_a_run_is_not_left_to_the_photos_again(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="to be decided before"):
        with_copies(config(EDGE), photos(20, alike=True))
    save_config(tmp_path, config(EDGE))
    with pytest.raises(TrainingError, match=r"augmentation is one of none, shift, rotate, flip"):
        load_config(tmp_path)


def test_a_training_tells_and_keeps_what_the_photos_decided(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shift_augmentation, "FEWEST", 2)
    said: list[str | None] = []
    folder = teach(
        parts,
        tmp_path / "run",
        epochs=1,
        preset=replace(EDGE, segmentation_head=False),
        report=lambda progress: said.append(progress.warning),
    )
    (sentence,) = filter(None, said)
    assert sentence.startswith(ALIKE)
    assert load_config(folder).preset.augmentation == "shift"
