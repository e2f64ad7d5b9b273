"""`rstpm-edge verify`: one model in four implementations."""

import dataclasses
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from workplace import Workplace, command_line

from rstpm_edge.errors import UsageError
from rstpm_edge.training.export.self_check import map_difference, score_difference
from rstpm_edge.training.export.verify import verify
from rstpm_edge.training.learning.checkpoint import load_checkpoint, save_checkpoint


def test_all_implementations_agree_on_real_images(workplace: Workplace, parts: Path) -> None:
    images = sorted((parts / "train" / "good").iterdir())[:4]
    found = verify(workplace.run, workplace.model, images)
    assert found.images == 4
    assert found.agree
    assert 0 < found.map_onnxruntime < 1e-4
    assert 0 < found.fused_extension < 1e-5
    assert found.score < 1e-3


def test_the_command_says_so(workplace: Workplace, parts: Path) -> None:
    result = command_line("verify", parts, "--model", workplace.model, "--run", workplace.run, "--most", 3)
    assert result.exit_code == 0, result.output
    assert re.match(r"3 images; largest difference of a map \d", result.stdout)


def test_a_model_of_another_run_is_told(workplace: Workplace, parts: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(workplace.run, tmp_path / "run"))
    checkpoint = load_checkpoint(run)
    assert checkpoint is not None
    tensors = {
        name: value + 0.1 if name.endswith("projections.8.weight") else value
        for name, value in checkpoint.tensors.items()
    }
    save_checkpoint(run, dataclasses.replace(checkpoint, tensors=tensors))
    result = command_line("verify", parts, "--model", workplace.model, "--run", run, "--most", 1)
    assert result.exit_code == 2
    assert "was it exported from another run?" in result.stderr


def test_differences_are_those_of_an_export() -> None:
    want = [np.array([[[8.0, -2.0]]], np.float32), np.array([[[0.5, 0.0]]], np.float32)]
    got = [want[0] + np.float32(4e-4), want[1] + np.float32(2e-5)]
    assert map_difference(got, want) == pytest.approx(5e-5, rel=1e-2)  # of the largest value, 8
    got[1] = got[1] + np.float32(np.nan)
    assert np.isnan(map_difference(got, want))
    # One score near zero is not held to a thousandth of itself.
    assert score_difference(np.float32([10.001, 1e-3]), np.float32([10, 0])) == pytest.approx(2e-4, rel=1e-2)


def test_no_image_is_refused(workplace: Workplace) -> None:
    with pytest.raises(UsageError, match="at least one image"):
        verify(workplace.run, workplace.model, [])
