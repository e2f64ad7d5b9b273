"""Runs, checkpoints and command lines from before fields and tensors were renamed are read as they were meant."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rstpm_edge.errors import TrainingError, UsageError
from rstpm_edge.training.data.run_files import RecordedFile
from rstpm_edge.training.learning.run_folder import (
    Checkpoint,
    RunConfig,
    load_checkpoint,
    load_config,
    load_trained_state,
    save_checkpoint,
    save_config,
    trained_state,
)
from rstpm_edge.training.model.old_names import current_preset, current_tensor
from rstpm_edge.training.model.preset_overrides import override
from rstpm_edge.training.model.presets import EDGE, PAPER, Preset
from rstpm_edge.training.model.rstpm import RSTPM

RANDOM = dict.fromkeys((EDGE.teacher1, EDGE.teacher2), "random")
BEFORE = {
    "mining_share": "hardest",
    "segmentation_head": "head",
    "shift_augmentation": "moved",
    "rotation_augmentation": "turned",
}
FILE = RecordedFile("a.png", 9, 1)


def config(preset: Preset, aspect: float | None = None) -> RunConfig:
    return RunConfig(
        "photos", preset, 64, 96, "stretch", 0, None, None, RANDOM, (FILE,), (FILE,), "0.1", rotation_aspect=aspect
    )


def as_before(preset: Preset) -> dict[str, Any]:
    """The preset as a run wrote it before."""
    written = {BEFORE.get(name, name): value for name, value in asdict(preset).items()}
    head = "discriminative" if preset.segmentation_head else None
    return {**written, "head": head, "distance": "cosine" if preset.distance == "cosine" else "surprise"}


def make_older(folder: Path) -> None:
    """Write config.json as it was written before."""
    path = folder / "config.json"
    content = json.loads(path.read_text())
    preset = Preset(**{name: tuple(v) if isinstance(v, list) else v for name, v in content["preset"].items()})
    content["preset"], content["turned"] = as_before(preset), content.pop("rotation_aspect")
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("preset", [EDGE, PAPER, replace(EDGE, segmentation_head=False, mining_share=0.5)])
@pytest.mark.parametrize("aspect", [None, 1.5])
def test_a_config_of_before(tmp_path: Path, preset: Preset, aspect: float | None) -> None:
    save_config(tmp_path, config(preset, aspect))
    written = load_config(tmp_path)
    make_older(tmp_path)
    assert "hardest" in (tmp_path / "config.json").read_text()
    assert load_config(tmp_path) == written == config(preset, aspect)


def test_a_config_with_a_field_under_both_names_is_damaged(tmp_path: Path) -> None:
    save_config(tmp_path, config(EDGE))
    content = json.loads((tmp_path / "config.json").read_text())
    content["preset"]["hardest"] = 0.2
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(
        TrainingError, match=r"config\.json is damaged or of another version \(mining_share is given tw"
    ):
        load_config(tmp_path)


def older_tensor(name: str) -> str:
    """The name of before, written down by hand."""
    if name.startswith("model/maps.distances."):
        *start, last = name.split(".")
        if start[-1] == "prediction":
            return ".".join([*start[:-1], "usual", last])
        return ".".join([*start, {"contrast_weight": "by_contrast", "offset": "middle", "scale": "reach"}[last]])
    return name.replace(".projections.", ".heads.")


def test_a_checkpoint_of_before(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = RSTPM(EDGE, RANDOM)
    state = {
        f"model/{name}": value + torch.randn(value.shape).to(value.dtype)
        for name, value in trained_state(model).items()
    }
    older = {older_tensor(name): value for name, value in state.items()}
    assert {"model/maps.distances.stpm_8.usual.weight", "model/maps.distances.recon_32.reach"} <= set(older)
    assert "model/students.student1.heads.8.weight" in older
    # Offsets and scales of the channel statistics are called so in both.
    assert {"model/standardize1.offset_0", "model/standardize2.scale_1"} <= set(older) & set(state)
    assert len(set(older) - set(state)) == 6 * 5 + 2 * 3 * 2
    save_checkpoint(tmp_path, Checkpoint(1, 0.5, 1.0, ((1.0, 1.0),), {**older, "optimizer/0/step": torch.ones(1)}))
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint is not None
    assert set(checkpoint.tensors) == {*state, "optimizer/0/step"}
    load_trained_state(model, checkpoint)
    torch.testing.assert_close(trained_state(model), {name[6:]: value for name, value in state.items()}, rtol=0, atol=0)


def test_a_checkpoint_of_today_stays_as_it_is() -> None:
    for name in trained_state(RSTPM(EDGE, RANDOM)):
        assert current_tensor(f"model/{name}") == f"model/{name}"


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({"hardest": "0.5"}, {"mining_share": "0.5"}),
        ({"moved": "3"}, {"shift_augmentation": "3"}),
        ({"turned": "no"}, {"rotation_augmentation": "no"}),
        ({"head": "none"}, {"segmentation_head": "false"}),
        ({"head": "discriminative"}, {"segmentation_head": "true"}),
        ({"distance": "surprise"}, {"distance": "normalized-residual"}),
        ({"distance": " cosine "}, {"distance": "cosine"}),
    ],
)
def test_set_takes_the_names_of_before(before: dict[str, str], now: dict[str, str]) -> None:
    assert override(EDGE, before) == override(EDGE, now)


def test_a_field_that_is_set_under_both_names_is_refused() -> None:
    with pytest.raises(
        UsageError, match="mining_share is given twice, once by its earlier name: leave one of them out"
    ):
        override(EDGE, {"hardest": "0.5", "mining_share": "0.2"})


def test_names_of_today_are_left_alone() -> None:
    assert current_preset(asdict(EDGE)) == asdict(EDGE)
    assert not set(BEFORE.values()) & {field.name for field in fields(Preset)}
