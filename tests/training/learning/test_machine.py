"""The machine that trains: its device, its precision, its processes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from small_training import SIZE, files_of, teach
from workplace import finish, start

from rstpm_edge.errors import UsageError
from rstpm_edge.training.learning import (
    machine,
    train,
)
from rstpm_edge.training.learning.machine import Machine
from rstpm_edge.training.learning.options import TrainingOptions
from rstpm_edge.training.learning.run_summary import load_summary


@pytest.mark.parametrize("machine", [Machine("abacus"), Machine("cpu", precision="7-bit"), Machine("cpu", processes=0)])
def test_machines_that_do_not_exist(parts: Path, tmp_path: Path, machine: Machine) -> None:
    with pytest.raises(UsageError) as error:
        train.train(parts, TrainingOptions(epochs=1, size=SIZE), machine, folder=tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^Cannot train on 'cuda' \(.*\); try `device=cpu`\.$"):
        train.train(parts, TrainingOptions(epochs=1, size=SIZE), Machine("cuda"), folder=tmp_path / "run")


@pytest.mark.parametrize(
    ("device", "flags", "gpu", "precision"),
    [
        ("auto", "avx512_bf16", False, "bf16-mixed"),
        ("cpu", "amx_bf16", True, "bf16-mixed"),
        ("auto", "avx512_bf16", True, "32-true"),
        ("cuda", "avx512_bf16", True, "32-true"),
        ("cpu", "avx2", False, "32-true"),
    ],
)
def test_the_precision_follows_the_device(
    device: str, flags: str, gpu: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.Path, "read_text", lambda path: f"flags: {flags}")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert machine._auto_precision(device) == precision


def test_more_processes_than_images_in_a_batch_are_refused(parts: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((parts / "train" / "good").iterdir())[1:6]:  # none of which looks like a copy of another
        shutil.copy(path, few)
    options = ["--holdout", "0.8", "--size", "64", "--epochs", "1", "--device", "cpu", "--processes", 3]
    code, _, errors = finish(start("train", few, *options, cwd=tmp_path))
    assert code == 2
    assert "3 processes cannot share batches of 2 images; give fewer --processes." in errors
    assert "Traceback" not in errors


def test_two_processes_train_as_one(parts: Path, tmp_path: Path) -> None:
    options = ["--size", "64", "--epochs", "3", "--device", "cpu", "--precision", "32-true"]
    process = start("train", parts, *options, "--processes", 2, cwd=tmp_path)
    code, output, errors = finish(process)
    assert code == 0, errors
    assert output.count("A good part is rejected with probability") == 1  # one process speaks
    assert "Warning" not in errors
    (two,) = (tmp_path / "runs").iterdir()
    one = teach(parts, tmp_path / "one")
    np.testing.assert_allclose(load_summary(two).losses, load_summary(one).losses, atol=1e-4)
    assert files_of(two) == files_of(one)
