"""What happens when a training is cut off, and what is left when its run is damaged."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from small_training import Stop, files_of, resume, same_results, teach
from workplace import command_line, document, finish, start

from rstpm_edge.errors import DatasetError, OutputError, TrainingError, UsageError
from rstpm_edge.image.duplicates import Duplicates
from rstpm_edge.progress import Progress
from rstpm_edge.training.data import shift_augmentation
from rstpm_edge.training.data.holdout import split
from rstpm_edge.training.data.images import MINIMUM_IMAGES
from rstpm_edge.training.learning.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from rstpm_edge.training.learning.run_config import load_config
from rstpm_edge.training.learning.run_summary import load_summary
from rstpm_edge.training.learning.trained_model import load_model


@pytest.fixture(scope="module")
def cut(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training as `whole`, stopped in its second epoch."""
    folder = tmp_path_factory.mktemp("cut") / "run"
    with pytest.raises(KeyboardInterrupt):
        teach(parts, folder, report=Stop(2))
    return folder


@pytest.fixture
def interrupted(cut: Path, tmp_path: Path) -> Path:
    """A copy of the stopped run, to go on with or to spoil."""
    return Path(shutil.copytree(cut, tmp_path / "interrupted"))


# Interrupted


def test_a_resumed_run_is_the_uninterrupted_one(interrupted: Path, whole: Path) -> None:
    checkpoint = load_checkpoint(interrupted)
    assert checkpoint
    assert checkpoint.epoch == 1
    assert checkpoint.losses == load_summary(whole).losses[:1]
    with pytest.raises(TrainingError, match=r"has not finished; go on with `rstpm-edge train --resume "):
        load_summary(interrupted)
    assert resume(interrupted) == interrupted
    same_results(interrupted, whole)
    assert files_of(interrupted) == files_of(whole)


def test_a_resumed_run_learns_from_the_same_shifted_copies(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shift_augmentation, "FEWEST", 2)
    whole = teach(parts, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        teach(parts, tmp_path / "cut", report=Stop(2))
    resume(tmp_path / "cut")
    same_results(tmp_path / "cut", whole)
    monkeypatch.setattr(shift_augmentation, "FEWEST", 16)
    without = teach(parts, tmp_path / "without")
    assert load_summary(without).losses != load_summary(whole).losses  # so the copies were learned from


def test_a_run_stopped_after_its_last_stage_of_learning_repeats_none(parts: Path, whole: Path, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.stage == "calibration":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        teach(parts, tmp_path / "run", report=stop)
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint
    assert checkpoint.has_learned_all
    assert not (tmp_path / "run" / "summary.json").exists()
    stages: list[str] = []
    resume(tmp_path / "run", report=lambda progress: stages.append(progress.stage))
    assert "calibration" in stages
    assert not {"students", "residuals", "segmentation"} & set(stages)
    same_results(tmp_path / "run", whole)


def test_the_progress_is_that_of_what_is_left(interrupted: Path) -> None:
    told: list[Progress] = []
    resume(interrupted, report=told.append)
    students = [(one.done, one.total, one.epoch, one.epochs) for one in told if one.stage == "students"]
    assert students == [(1, 2, 2, 3), (2, 2, 3, 3)]


def test_a_run_of_few_photos_beside_copies_goes_on(parts: Path, tmp_path: Path) -> None:
    good = tmp_path / "good"
    good.mkdir()
    for number, path in enumerate(sorted((parts / "train" / "good").iterdir())[:4]):
        shutil.copy(path, good / f"{number}.png")
    for number in (4, 5):
        shutil.copy(good / "3.png", good / f"{number}.png")
    copies = [Duplicates((3, 4, 5), exact=True)]
    # One that holds out a copy, so that the others are set aside.
    seed = next(seed for seed in range(100) if sum(map(len, split(6, 0.2, seed, copies))) < MINIMUM_IMAGES)
    with pytest.raises(KeyboardInterrupt):
        teach(good, tmp_path / "run", seed=seed, report=Stop(2))
    config = load_config(tmp_path / "run")
    assert len(config.train) + len(config.holdout) < MINIMUM_IMAGES
    assert config.aside
    resume(tmp_path / "run")
    same_results(tmp_path / "run", teach(good, tmp_path / "whole", seed=seed))


def test_a_run_stopped_in_its_first_epoch_starts_again(parts: Path, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        teach(parts, tmp_path / "run", report=Stop(1))
    assert load_checkpoint(tmp_path / "run") is None
    before = {name: (tmp_path / "run" / name).read_bytes() for name in files_of(tmp_path / "run")}
    with pytest.raises(OutputError, match="holds a run already: go on with it by `resume`"):
        teach(parts, tmp_path / "run")
    assert before == {name: (tmp_path / "run" / name).read_bytes() for name in files_of(tmp_path / "run")}
    resume(tmp_path / "run")
    same_results(tmp_path / "run", whole)


def test_a_run_that_still_trains_is_left_alone(parts: Path, whole: Path, tmp_path: Path) -> None:
    folder, refused = tmp_path / "run", []

    def meanwhile(progress: Progress) -> None:
        if progress.stage == "students" and progress.done == 2:
            for another in (lambda: resume(folder), lambda: teach(parts, folder)):
                with pytest.raises((UsageError, OutputError)) as error:
                    another()
                refused.append(str(error.value))

    teach(parts, folder, report=meanwhile)
    assert refused == [
        f"Another command is writing to {folder}: wait for its end.",
        f"{folder} holds a run already: go on with it by `resume`, or name another folder.",
    ]
    same_results(folder, whole)
    assert "Another command" not in (folder / "train.log").read_text()
    resume(folder)  # now nobody else does


def test_a_finished_run_stays_as_it_is(whole: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(whole, tmp_path / "copy"))
    resume(copy)
    same_results(copy, whole)


def test_a_killed_process_can_be_resumed(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--device", "cpu", "--precision", "32-true"]
    brief = ["--size", 64, "--epochs", 100, "--set", "segmentation_head=false"]
    process = start("train", parts, *brief, *options, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not (checkpoints := list(tmp_path.glob("runs/*/checkpoint.safetensors"))):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    finish(process)
    (checkpoint,) = checkpoints
    done = load_checkpoint(checkpoint.parent)
    assert done
    assert 0 < done.epoch < 100
    done = dataclasses.replace(done, losses=((7.0, 8.0),) * done.epoch)  # that no training from the start would give
    save_checkpoint(checkpoint.parent, done)
    config = document(checkpoint.parent / "config.json")
    config["preset"]["epochs"] = done.epoch + 2  # the rest would take long
    (checkpoint.parent / "config.json").write_text(json.dumps(config))
    monkeypatch.chdir(tmp_path)
    resumed = command_line("train", "--resume", checkpoint.parent.relative_to(tmp_path), *options)
    assert resumed.exit_code == 0, resumed.stderr
    assert f"{done.epoch + 2} epochs on 10 images" in resumed.stdout
    losses = load_summary(checkpoint.parent).losses
    assert losses[: done.epoch] == done.losses
    assert len(losses) == done.epoch + 2
    assert not [name for name in files_of(checkpoint.parent) if "features" in name or name.startswith(".")]


# Damaged runs


@pytest.mark.parametrize("kept", [0, 7, 100, 10_000, -1])
def test_a_truncated_checkpoint(interrupted: Path, kept: int) -> None:
    path = interrupted / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(TrainingError, match=r"checkpoint\.safetensors is damaged \(.*\); train again\.$"):
        resume(interrupted)


def is_refused(folder: Path, checkpoint: Checkpoint, tensors: dict[str, torch.Tensor], says: str) -> None:
    """The run is not gone on with when its checkpoint holds these tensors."""
    save_checkpoint(folder, dataclasses.replace(checkpoint, tensors=tensors))
    with pytest.raises(TrainingError, match=says):
        resume(folder)


def test_a_checkpoint_of_another_model(interrupted: Path) -> None:
    checkpoint = load_checkpoint(interrupted)
    assert checkpoint
    name = next(name for name in checkpoint.tensors if name.startswith("model/"))
    for tensors in (
        {key: value for key, value in checkpoint.tensors.items() if key != name},
        {**checkpoint.tensors, name: torch.zeros(1, 2, 3)},
        {**checkpoint.tensors, "model/another": torch.zeros(1)},
    ):
        is_refused(interrupted, checkpoint, tensors, r"checkpoint does not fit its preset; train again\.$")


def test_a_checkpoint_that_the_summary_is_not_of(cut: Path, whole: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    load_model(run)
    done, of_epoch = load_checkpoint(run), load_checkpoint(cut)
    assert done
    assert of_epoch
    under_way = dataclasses.replace(done, tensors={**done.tensors, "optimizer/0/step": torch.ones(1)})
    for other in (under_way, of_epoch):
        save_checkpoint(run, other)
        with pytest.raises(TrainingError, match=rf"^The checkpoint of the run {run} is not the one that its"):
            load_model(run)
    load_model(resume(run))  # as the sentence advises
    save_checkpoint(run, done)
    (run / "summary.json").unlink()
    with pytest.raises(TrainingError, match=r"has not finished; go on with `rstpm-edge train --resume "):
        load_model(run)


def test_a_checkpoint_with_nan(interrupted: Path) -> None:
    checkpoint = load_checkpoint(interrupted)
    assert checkpoint
    name = next(name for name in checkpoint.tensors if name.endswith("stem.0.weight"))
    spoiled = {**checkpoint.tensors, name: torch.full_like(checkpoint.tensors[name], torch.nan)}
    is_refused(interrupted, checkpoint, spoiled, r"holds NaN or infinite values; train again\.$")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"preset": {}}', '{"preset": 3}', "\udcff"])
def test_a_damaged_config(interrupted: Path, content: str) -> None:
    (interrupted / "config.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(TrainingError, match=r"config\.json (cannot be read|is damaged).*\.$"):
        resume(interrupted)


def test_a_config_of_another_version(interrupted: Path, whole: Path) -> None:
    for change in ({"surprise": 1}, {"train": 3}, {"holdout": [["a.png"]]}, {"turned": "yes"}, {"turned": 0}):
        config = {**document(interrupted / "config.json"), **change}
        (interrupted / "config.json").write_text(json.dumps(config))
        with pytest.raises(TrainingError, match=r"config\.json is damaged or of another version"):
            resume(interrupted)
    config = document(whole / "config.json")
    config["preset"] |= {"fusion": "paper", "smoothing_sigma": 4.0}
    (interrupted / "config.json").write_text(json.dumps(config))
    with pytest.raises(TrainingError, match=r"another version \(it smooths a product of maps, as rstpm-edge no longer"):
        resume(interrupted)
    for missing in ("train", "holdout"):
        config = document(whole / "config.json")
        del config[missing]
        (interrupted / "config.json").write_text(json.dumps(config))
        with pytest.raises(TrainingError, match=r"config\.json is damaged or of another version"):
            resume(interrupted)


def test_a_run_from_before_photos_were_set_aside(interrupted: Path, whole: Path) -> None:
    config = document(interrupted / "config.json")
    del config["aside"]
    (interrupted / "config.json").write_text(json.dumps(config))
    resume(interrupted)
    same_results(interrupted, whole)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.touch()
    for folder, says in (
        (tmp_path, r" is not a run of rstpm-edge\.$"),
        (tmp_path / "missing", r"missing is not there: name the folder of a run, such as runs/"),
        (file, r"model.onnx is a file: name the folder of a run, such as runs/"),
    ):
        with pytest.raises(TrainingError, match=says):
            resume(folder)


def test_images_that_have_changed(interrupted: Path, parts: Path, tmp_path: Path) -> None:
    good = Path(shutil.copytree(parts / "train" / "good", tmp_path / "good"))
    config = document(interrupted / "config.json")
    config["data"] = str(good)
    (interrupted / "config.json").write_text(json.dumps(config))
    (name, *_), *_ = config["train"]
    cv2.imwrite(str(good / name), np.zeros((128, 128, 3), np.uint8))
    with pytest.raises(TrainingError, match=rf"^{name} in {good} is another file since the run began; train again"):
        resume(interrupted)
    (good / name).unlink()
    with pytest.raises(TrainingError, match=rf"^{name} in {good} is missing since the run began; train again"):
        resume(interrupted)
    shutil.rmtree(good)
    with pytest.raises(DatasetError, match=rf"were in {good}, and there is no such folder: put them back\.$"):
        resume(interrupted)


def test_images_that_were_added_do_not_disturb_a_run(
    interrupted: Path, parts: Path, whole: Path, tmp_path: Path
) -> None:
    good = Path(shutil.copytree(parts / "train" / "good", tmp_path / "good"))
    cv2.imwrite(str(good / "0000.png"), np.zeros((128, 128, 3), np.uint8))
    config = document(interrupted / "config.json")
    (interrupted / "config.json").write_text(json.dumps({**config, "data": str(good)}))
    resume(interrupted)
    same_results(interrupted, whole)


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_full_disk_keeps_the_older_checkpoint(
    interrupted: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    before = (interrupted / "checkpoint.safetensors").read_bytes()

    def full(*arguments: Any, **keywords: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, function, full)
        with pytest.raises(OutputError, match=r"^Cannot write .*checkpoint\.safetensors: No space left on device\.$"):
            resume(interrupted)
    assert (interrupted / "checkpoint.safetensors").read_bytes() == before
    assert not [name for name in files_of(interrupted) if name.startswith(".")]
    resume(interrupted)
    same_results(interrupted, whole)
