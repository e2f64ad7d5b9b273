"""A dilated level: the cells that were there before, and as many between them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_training import teach

from rstpm_edge import Detector
from rstpm_edge.errors import UsageError
from rstpm_edge.training.export.export import export
from rstpm_edge.training.learning.trained_model import load_model
from rstpm_edge.training.model.dilation import dilate
from rstpm_edge.training.model.preset_overrides import check_preset, override
from rstpm_edge.training.model.presets import EDGE, EDGE_SMALL, PAPER
from rstpm_edge.training.model.rstpm import RSTPM
from rstpm_edge.training.model.teachers import load_teacher


@pytest.mark.parametrize(
    ("name", "strides", "first"),
    [("tf_efficientnet_lite0", (8, 16, 32), 1), ("tf_efficientnet_lite1", (4, 8, 16), 1), ("resnet18", (8, 16, 32), 0)],
)
def test_every_other_cell_is_what_it_was(name: str, strides: tuple[int, ...], first: int) -> None:
    image = torch.randn((1, 3, 128, 192), generator=torch.Generator().manual_seed(0))
    plain, dilated = (load_teacher(name, strides, {name: "random"}) for _ in range(2))
    dilate(dilated, name)
    *fine, before = plain(image)
    *same, after = dilated(image)
    for one, other in zip(fine, same, strict=True):
        torch.testing.assert_close(one, other)
    assert after.shape[2:] == fine[-1].shape[2:]
    torch.testing.assert_close(after[:, :, first::2, first::2], before, rtol=1e-3, atol=1e-3)
    between = after[:, :, 1 - first :: 2, first::2]
    assert not torch.isclose(between, before).all()


def test_a_teacher_that_pools_beside_its_convolutions() -> None:
    teacher = load_teacher("resnet18d", (8, 16, 32), {"resnet18d": "random"})
    with pytest.raises(UsageError, match=r"`preset\.dilation=2` does not work with resnet18d: choose another"):
        dilate(teacher, "resnet18d")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dilation": "3"}, r"`preset\.dilation` is 1 or 2, not 3"),
        ({"dilation": "2", "strides": "4,8,16", "shared_stem": "none"}, r"needs .* 32 as the coarsest of the strides"),
    ],
)
def test_dilations_that_do_not_work(changes: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        override(EDGE, changes)


def test_presets_that_cannot_be_dilated() -> None:
    for preset in (PAPER, EDGE_SMALL):
        with pytest.raises(UsageError, match=r"`preset\.dilation=2` needs the students of edge"):
            check_preset(replace(preset, dilation=2))


def test_levels_of_a_dilated_model() -> None:
    model = RSTPM(replace(EDGE, dilation=2)).eval()
    outputs = model.outputs(np.zeros((1, 128, 192, 3), np.uint8))
    assert outputs.level_sizes == ((16, 24), (8, 12), (8, 12))
    assert outputs.angle_maps is not None
    assert {maps.shape for maps in outputs.angle_maps} == {(1, 8, 12)}


def test_a_dilated_model_from_training_to_verdict(parts: Path, tmp_path: Path) -> None:
    run = teach(parts, tmp_path / "run", preset=replace(EDGE, dilation=2))
    assert load_model(run).preset.dilation == 2
    export(run, tmp_path / "model.onnx")
    with Detector(tmp_path / "model.onnx", threads=1) as detector:
        photo = next((parts / "train" / "good").iterdir())
        result = detector(photo)
    assert detector.info.dilation == 2
    assert result.anomaly_map.shape == (128, 128)
    assert np.isfinite(result.anomaly_map).all()
