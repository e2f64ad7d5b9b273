"""Training: what a run holds, what makes two runs the same, and what happens when one is cut off."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from rstpm_edge.training import distance, features, fit, moved_copies, run, train
from rstpm_edge.training.fit import Progress
from rstpm_edge.training.model import RSTPM
from rstpm_edge.training.moved_copies import with_moved_copies
from rstpm_edge.training.presets import EDGE, EDGE_SMALL, preset_with_teachers
from rstpm_edge.training.run import load_checkpoint, load_config, load_summary
from rstpm_edge.training.train import Machine, TrainingOptions
from workplace import Workplace, document, finish, start

from rstpm_edge.errors import DatasetError, OutputError, TrainingError, UsageError, WeightsError

CPU = Machine("cpu", precision="32-true")
SIZE = (64, 64)
SMALL = "mobilenetv3_small_050"


def teach(data: Path, folder: Path, *, report: Callable[[Progress], None] | None = None, **changes: Any) -> Path:
    options = TrainingOptions(**{"epochs": 3, "size": SIZE, **changes})
    return train.train(data, options, CPU, folder=folder, report=report or (lambda progress: None))


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def same_results(first: Path, second: Path) -> None:
    """Two runs found the same, to the last bit; only the time that they took may differ."""
    summaries = [dataclasses.replace(load_summary(folder), minutes=0.0) for folder in (first, second)]
    assert summaries[0] == summaries[1]
    checkpoints = [load_checkpoint(folder) for folder in (first, second)]
    assert checkpoints[0]
    assert checkpoints[1]
    torch.testing.assert_close(dict(checkpoints[0].tensors), dict(checkpoints[1].tensors), rtol=0, atol=0)


class Stop:
    """A report that stops the training, as Ctrl-C would, when the first batch of an epoch (from 1) is done."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def __call__(self, progress: Progress) -> None:
        if progress.stage == "students" and progress.done == self.epoch:  # one batch is an epoch here
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def whole(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three epochs, not interrupted."""
    return teach(parts, tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def cut(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, stopped in its second epoch."""
    folder = tmp_path_factory.mktemp("cut") / "run"
    with pytest.raises(KeyboardInterrupt):
        teach(parts, folder, report=Stop(2))
    return folder


@pytest.fixture
def interrupted(cut: Path, tmp_path: Path) -> Path:
    """A copy of the stopped run, to go on with or to spoil."""
    return Path(shutil.copytree(cut, tmp_path / "interrupted"))


# What a training gives


def test_the_loss_falls(workplace: Workplace, whole: Path) -> None:
    for folder in (workplace.run, whole):
        losses = load_summary(folder).losses
        assert losses[-1][0] < losses[0][0]
        assert losses[-1][1] < losses[0][1]
        assert all(0 < pair < 3 * 2 for loss in losses for pair in loss)


def test_a_run_holds_data_only_and_no_features(workplace: Workplace) -> None:
    files = files_of(workplace.run)
    samples = {name for name in files if name.startswith("samples/")}
    assert files - samples == {"config.json", "checkpoint.safetensors", "summary.json"}
    held_out = load_config(workplace.run).holdout
    assert samples == {f"samples/{name}" for name, _ in held_out}


def test_held_out_images_are_never_trained_on(workplace: Workplace, parts: Path) -> None:
    config = document(workplace.run / "config.json")
    learned, held_out = ({name for name, _ in config[key]} for key in ("train", "holdout"))
    assert (len(learned), len(held_out)) == (9, 3)
    assert not learned & held_out
    folder = parts / "train" / "good"
    assert learned | held_out == {path.name for path in folder.iterdir()}
    assert all((folder / name).stat().st_size == size for name, size in config["train"] + config["holdout"])
    assert config["data"] == str(parts)
    scores = load_summary(workplace.run).calibration.scores
    assert len(scores) == len(held_out)
    assert list(scores) == sorted(scores)
    highest = load_summary(workplace.run).highest
    assert [score for _, score in highest] == sorted(scores, reverse=True)
    assert {name for name, _ in highest} == held_out


def test_a_summary_that_names_no_images(workplace: Workplace, tmp_path: Path) -> None:
    """As runs had it before the highest scores were named: such a run is still exported."""
    summary = document(workplace.run / "summary.json")
    del summary["highest"]
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    assert load_summary(tmp_path) == dataclasses.replace(load_summary(workplace.run), highest=())


def test_the_students_see_what_was_not_held_out_and_nothing_else(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    original = train.compute_features

    def spy(model: RSTPM, images: Any, *others: Any, **keywords: Any) -> Any:
        seen.append(images)
        return original(model, images, *others, **keywords)

    monkeypatch.setattr(train, "compute_features", spy)
    folder = teach(parts, tmp_path / "run", epochs=1)
    config = load_config(folder)
    paths = [parts / "train" / "good" / name for name, _ in config.train]
    expected, _, _ = train.load_inputs(paths, SIZE, "stretch")
    (images,) = seen
    np.testing.assert_array_equal(images, with_moved_copies(expected, config.preset.moved, config.seed))


def test_each_epoch_sees_another_version_of_each_photo(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    original = features.FeatureCache.batch

    def spy(cache: features.FeatureCache, model: RSTPM, rows: Any, device: torch.device) -> Any:
        if model.students.training:
            seen.append((np.sort(rows), cache.photos, len(cache.images)))
        return original(cache, model, rows, device)

    monkeypatch.setattr(features.FeatureCache, "batch", spy)
    monkeypatch.setattr(moved_copies, "FEWEST", 2)
    teach(parts, tmp_path / "run", epochs=4)
    (photos, images) = {(photos, images) for _, photos, images in seen}.pop()
    assert (len(seen), images) == (4, 4 * photos)  # one batch is an epoch here
    for rows, _, _ in seen:
        np.testing.assert_array_equal(np.sort(rows % photos), np.arange(photos))
    np.testing.assert_array_equal(np.sort(np.concatenate([rows for rows, _, _ in seen])), np.arange(images))


def test_the_same_seed_gives_the_same_run(parts: Path, whole: Path, tmp_path: Path) -> None:
    torch.manual_seed(123)  # what the caller did before does not matter
    same_results(teach(parts, tmp_path / "again"), whole)
    other = teach(parts, tmp_path / "other", seed=1)
    assert load_summary(other).losses != load_summary(whole).losses
    assert load_config(other).holdout != load_config(whole).holdout


@pytest.mark.parametrize(("count", "holdout", "held"), [(12, 0.25, 3), (5, 0.01, 1), (5, 0.99, 3), (100, 0.2, 20)])
def test_the_split(count: int, holdout: float, held: int) -> None:
    for seed in range(3):
        held_out, learned = train._split(count, holdout, seed)
        assert len(held_out) == held
        assert sorted([*held_out, *learned]) == list(range(count))


def test_copies_are_never_on_both_sides_of_the_split() -> None:
    copies = [(0, 1, 2, 3, 4, 5, 6, 7, 8, 9), (20, 50), (30, 90)]
    sides = set()
    for seed in range(30):
        held_out, learned = map(set, train._split(100, 0.2, seed, copies))
        for rows in copies:
            assert not (set(rows) & held_out and set(rows) & learned)
            assert len(set(rows) & held_out) <= 1  # a part counts once
            sides.add((rows, bool(set(rows) & held_out)))
        assert not held_out & learned
        left_aside = set(range(100)) - held_out - learned
        assert left_aside <= {row for rows in copies for row in rows}
        assert 9 <= len(held_out) <= 20
        assert len(learned) >= 71
    assert len(sides) == 6  # each group is held out now and then
    for seed in range(3):  # without copies, as ever
        for rows, plain in zip(train._split(50, 0.2, seed, []), train._split(50, 0.2, seed), strict=True):
            np.testing.assert_array_equal(rows, plain)


def test_photos_that_are_all_copies_are_split_one_by_one() -> None:
    held_out, learned = train._split(10, 0.2, 0, [tuple(range(10))])
    assert (len(held_out), len(learned)) == (2, 8)


def test_a_photo_taken_twice_is_told_and_not_held_out_beside_its_copy(parts: Path, tmp_path: Path) -> None:
    good = Path(shutil.copytree(parts / "train" / "good", tmp_path / "good"))
    for copy in range(3):
        shutil.copy(good / "003.png", good / f"copy{copy}.png")
    for seed in range(3):
        said: list[Progress] = []
        folder = teach(good, tmp_path / f"run{seed}", epochs=1, seed=seed, report=said.append)
        (warning,) = [progress.warning for progress in said if progress.warning]
        assert warning.startswith("4 photos are the same or nearly so, in 1 groups.")
        config = load_config(folder)
        same = {"003.png", "copy0.png", "copy1.png", "copy2.png"}
        learned, held_out, aside = (
            {name for name, _ in side} & same for side in (config.train, config.holdout, config.aside)
        )
        assert (learned, held_out, aside) == (same, set(), set()) or (len(held_out), len(aside)) == (1, 3)
        assert len(config.train) + len(config.holdout) + len(config.aside) == 15


def test_images_that_are_named_one_by_one(parts: Path, tmp_path: Path) -> None:
    good = sorted((parts / "train" / "good").iterdir())
    files = [Path(shutil.copy(path, tmp_path / name)) for path, name in zip(good, "abcdefgh", strict=False)]
    for name, path in zip(("first", "second") * 4, files, strict=True):
        (tmp_path / name).mkdir(exist_ok=True)
        path.rename(tmp_path / name / f"{path.name}.png")
    files = sorted(tmp_path.rglob("*.png"))[::-1][:7]
    with pytest.raises(KeyboardInterrupt):
        train.train(files, TrainingOptions(epochs=3, size=SIZE), CPU, folder=tmp_path / "run", report=Stop(2))
    config = load_config(tmp_path / "run")
    assert config.data == str(tmp_path)
    names = {name for name, _ in (*config.train, *config.holdout)}
    assert names == {path.relative_to(tmp_path).as_posix() for path in files}
    train.resume(tmp_path / "run", CPU)
    assert load_summary(tmp_path / "run").epochs == 3
    with pytest.raises(DatasetError, match=r"missing\.png: No such file"):
        train.train([*files, tmp_path / "missing.png"], TrainingOptions(epochs=1, size=SIZE), CPU)


def test_five_images_are_enough(parts: Path, tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    for path in sorted((parts / "train" / "good").iterdir())[:5]:
        shutil.copy(path, tmp_path / "few")
    summary = load_summary(teach(tmp_path / "few", tmp_path / "run", epochs=1))
    assert summary.calibration.alpha == 0.5
    assert len(summary.calibration.scores) == 1


def test_letterbox_and_a_size_that_is_not_square(parts: Path, tmp_path: Path) -> None:
    folder = teach(parts, tmp_path / "run", epochs=2, size=(96, 64), resize="letterbox")
    config, losses = load_config(folder), load_summary(folder).losses
    assert (config.size, config.resize) == ((96, 64), "letterbox")
    assert losses[1] < losses[0]


def test_another_pair_of_teachers_and_paper_fusion(parts: Path, tmp_path: Path) -> None:
    preset = dataclasses.replace(preset_with_teachers("edge", SMALL, "resnet18"), fusion="paper", standardize=False)
    folder = teach(parts, tmp_path / "run", epochs=1, preset=preset, weights={SMALL: "random", "resnet18": "random"})
    fusion = load_summary(folder).fusion
    assert fusion.mode == "paper"
    assert fusion.weights == (1.0,) * 6
    assert load_config(folder).preset == dataclasses.replace(preset, epochs=1)


# Features


def test_features_on_disk_train_like_features_in_memory(
    parts: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = []
    original = features._store

    def store(shape: tuple[int, ...], path: Path, on_disk: bool) -> Any:
        array = original(shape, path, on_disk)
        kinds.append(type(array))
        return array

    monkeypatch.setattr(features, "_store", store)
    monkeypatch.setattr(features, "available_memory", lambda: 0)
    folder = teach(parts, tmp_path / "run")
    assert set(kinds) == {np.memmap}
    same_results(folder, whole)
    assert not (folder / "features").exists()


def test_no_features_are_left_behind_by_a_training_that_failed(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "available_memory", lambda: 0)
    seen = []

    def report(progress: Progress) -> None:
        seen.append((tmp_path / "run" / "features").exists())
        Stop(2)(progress)

    with pytest.raises(KeyboardInterrupt):
        teach(parts, tmp_path / "run", report=report)
    assert seen[-1]
    assert not (tmp_path / "run" / "features").exists()


def test_the_memory_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 8000 kB\n")
    monkeypatch.setattr(features, "MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(features, "CGROUP", tmp_path)
    assert features.available_memory() == 8000 * 1024  # no limit that could be read
    (tmp_path / "memory.current").write_text("1000000\n")
    for limit, expected in (("max", 8000 * 1024), ("3000000", 2000000), ("900000", 0), ("99000000", 8000 * 1024)):
        (tmp_path / "memory.max").write_text(limit + "\n")
        assert features.available_memory() == expected


def test_features_that_do_not_fit_on_the_disk(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "available_memory", lambda: 0)
    monkeypatch.setattr(features.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    with pytest.raises(OutputError, match=r"features need 0\.0 GB in .*, where 0\.0 GB are free: make room"):
        teach(parts, tmp_path / "run")
    assert not (tmp_path / "run" / "features").exists()


def test_features_and_their_statistics(tmp_path: Path) -> None:
    model = RSTPM(EDGE)
    images = np.random.default_rng(0).integers(0, 256, (5, *SIZE, 3)).astype(np.uint8)
    cpu, done = torch.device("cpu"), []
    cache = features.compute_features(model, images, tmp_path, cpu, progress=done.append)
    assert done[-1] == 5
    pixels = torch.from_numpy(images)
    with torch.no_grad():
        raw1, raw2 = model.teachers(pixels)
        expected = model.prepare(pixels, raw1, raw2)
    assert [level.shape for level in (*cache.features1, *cache.features2)] == [level.shape for level in (*raw1, *raw2)]
    for level in expected.levels:
        torch.testing.assert_close(level.mean((0, 2, 3)), torch.zeros(level.shape[1]), atol=1e-2, rtol=0)
        assert float(level.std((0, 2, 3), correction=0).median()) == pytest.approx(1, abs=1e-2)
    rows = np.array([3, 1])
    batch = cache.batch(model, rows, cpu)
    half = {"atol": 0.02, "rtol": 0.01}  # half precision
    torch.testing.assert_close(batch.source, expected.source[rows], **half)
    torch.testing.assert_close(batch.deep, expected.deep[rows], **half)
    for got, want in zip(batch.levels, expected.levels, strict=True):
        torch.testing.assert_close(got, want[rows], **half)


# Interrupted


def test_a_resumed_run_is_the_uninterrupted_one(interrupted: Path, whole: Path) -> None:
    checkpoint = load_checkpoint(interrupted)
    assert checkpoint
    assert checkpoint.epoch == 1
    assert checkpoint.losses == load_summary(whole).losses[:1]
    with pytest.raises(TrainingError, match=r"has not finished; go on with `rstpm-edge train --resume "):
        load_summary(interrupted)
    assert train.resume(interrupted, CPU) == interrupted
    same_results(interrupted, whole)
    assert files_of(interrupted) == files_of(whole)


def test_a_resumed_run_learns_from_the_same_moved_copies(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moved_copies, "FEWEST", 2)
    whole = teach(parts, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        teach(parts, tmp_path / "cut", report=Stop(2))
    train.resume(tmp_path / "cut", CPU)
    same_results(tmp_path / "cut", whole)
    monkeypatch.setattr(moved_copies, "FEWEST", 16)
    without = teach(parts, tmp_path / "without")
    assert load_summary(without).losses != load_summary(whole).losses  # so the copies were learned from


def test_a_run_stopped_in_its_first_epoch_starts_again(parts: Path, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        teach(parts, tmp_path / "run", report=Stop(1))
    assert load_checkpoint(tmp_path / "run") is None
    train.resume(tmp_path / "run", CPU)
    same_results(tmp_path / "run", whole)


def test_a_finished_run_stays_as_it_is(whole: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(whole, tmp_path / "copy"))
    train.resume(copy, CPU)
    same_results(copy, whole)


def test_a_killed_process_can_be_resumed(parts: Path, tmp_path: Path) -> None:
    options = ["--device", "cpu", "--precision", "32-true"]
    process = start("train", parts, "--size", 64, "--epochs", 100, *options, cwd=tmp_path)
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
    config = document(checkpoint.parent / "config.json")
    config["preset"]["epochs"] = done.epoch + 2  # the rest would take long
    (checkpoint.parent / "config.json").write_text(run.json.dumps(config))
    code, output, errors = finish(
        start("train", "--resume", checkpoint.parent.relative_to(tmp_path), *options, cwd=tmp_path)
    )
    assert code == 0, errors
    assert f"{done.epoch + 2} epochs on 10 images" in output
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
        train.resume(interrupted, CPU)


def test_a_checkpoint_of_another_model(interrupted: Path) -> None:
    checkpoint = load_checkpoint(interrupted)
    assert checkpoint
    name = next(name for name in checkpoint.tensors if name.startswith("model/"))
    for tensors in (
        {key: value for key, value in checkpoint.tensors.items() if key != name},
        {**checkpoint.tensors, name: torch.zeros(1, 2, 3)},
        {**checkpoint.tensors, "model/another": torch.zeros(1)},
    ):
        run.save_checkpoint(interrupted, dataclasses.replace(checkpoint, tensors=tensors))
        with pytest.raises(TrainingError, match=r"checkpoint does not fit its preset; train again\.$"):
            train.resume(interrupted, CPU)


def test_a_checkpoint_with_nan(interrupted: Path) -> None:
    checkpoint = load_checkpoint(interrupted)
    assert checkpoint
    name = next(name for name in checkpoint.tensors if name.endswith("stem.0.weight"))
    spoiled = {**checkpoint.tensors, name: torch.full_like(checkpoint.tensors[name], torch.nan)}
    run.save_checkpoint(interrupted, dataclasses.replace(checkpoint, tensors=spoiled))
    with pytest.raises(TrainingError, match=r"holds NaN or infinite values; train again\.$"):
        train.resume(interrupted, CPU)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"preset": {}}', '{"preset": 3}', "\udcff"])
def test_a_damaged_config(interrupted: Path, content: str) -> None:
    (interrupted / "config.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(TrainingError, match=r"config\.json (cannot be read|is damaged).*\.$"):
        train.resume(interrupted, CPU)


def test_a_config_of_another_version(interrupted: Path) -> None:
    for change in ({"surprise": 1}, {"train": 3}, {"holdout": [["a.png"]]}):
        config = {**document(interrupted / "config.json"), **change}
        (interrupted / "config.json").write_text(run.json.dumps(config))
        with pytest.raises(TrainingError, match=r"config\.json is damaged or of another version"):
            train.resume(interrupted, CPU)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(TrainingError, match=r" is not a run of rstpm-edge\.$"):
            train.resume(folder, CPU)


def test_images_that_have_changed(interrupted: Path, parts: Path, tmp_path: Path) -> None:
    good = Path(shutil.copytree(parts / "train" / "good", tmp_path / "good"))
    config = document(interrupted / "config.json")
    config["data"] = str(good)
    (interrupted / "config.json").write_text(run.json.dumps(config))
    (name, _), *_ = config["train"]
    cv2.imwrite(str(good / name), np.zeros((128, 128, 3), np.uint8))
    with pytest.raises(TrainingError, match=rf"^{name} in {good} is another file since the run began; train again"):
        train.resume(interrupted, CPU)
    (good / name).unlink()
    with pytest.raises(TrainingError, match=rf"^{name} in {good} is missing since the run began; train again"):
        train.resume(interrupted, CPU)
    shutil.rmtree(good)
    with pytest.raises(DatasetError, match="good is missing"):
        train.resume(interrupted, CPU)


def test_images_that_were_added_do_not_disturb_a_run(
    interrupted: Path, parts: Path, whole: Path, tmp_path: Path
) -> None:
    good = Path(shutil.copytree(parts / "train" / "good", tmp_path / "good"))
    cv2.imwrite(str(good / "0000.png"), np.zeros((128, 128, 3), np.uint8))
    config = document(interrupted / "config.json")
    (interrupted / "config.json").write_text(run.json.dumps({**config, "data": str(good)}))
    train.resume(interrupted, CPU)
    same_results(interrupted, whole)


# Time, divergence, a full disk


def test_a_time_limit_ends_early_with_a_finished_schedule(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, rates, rate = [0.0], [], fit._rate

    class Clock:
        def monotonic(self) -> float:
            return now[0]

    def report(progress: Progress) -> None:
        now[0] += progress.stage == "students"  # each batch of 16, one an epoch, takes a second

    def record(preset: Any, progress: float) -> float:
        rates.append(rate(preset, progress))
        return rates[-1]

    monkeypatch.setattr(train, "time", Clock())
    monkeypatch.setattr(fit, "time", Clock())
    monkeypatch.setattr(fit, "_rate", record)
    folder = teach(parts, tmp_path / "run", epochs=10_000, max_minutes=0.5, report=report)
    summary, checkpoint = load_summary(folder), load_checkpoint(folder)
    assert checkpoint
    assert checkpoint.epoch == summary.epochs == len(summary.losses) == len(rates)
    assert 27 <= summary.epochs <= 30
    assert summary.minutes == pytest.approx(0.5, abs=0.05)
    assert checkpoint.schedule == 1
    assert max(rates) > 0.95
    assert rates[-1] < 0.05
    train.resume(folder, CPU)  # nothing is left to do
    assert load_summary(folder).losses == summary.losses


def test_the_one_cycle_schedule() -> None:
    rates = [fit._rate(EDGE, step / 1000) for step in range(1001)]
    assert max(rates) == rates[300] == 1
    assert rates[0] == pytest.approx(0.04)
    assert rates[1000] == pytest.approx(0)
    assert rates[:301] == sorted(rates[:301])
    assert rates[300:] == sorted(rates[300:], reverse=True)
    assert max(abs(a - b) for a, b in pairwise(rates)) < 0.01
    constant = dataclasses.replace(EDGE, schedule="constant")
    assert {fit._rate(constant, step / 10) for step in range(11)} == {1.0}


def test_a_device_whose_memory_is_too_small(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    monkeypatch.setattr(train, "fit", full)
    with pytest.raises(
        TrainingError, match=r"^The memory of cpu is too small for batches of 8 images; train again with"
    ):
        teach(parts, tmp_path / "run")
    assert not (tmp_path / "run" / "features").exists()


def test_a_loss_that_is_not_finite(parts: Path, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    loss = distance.SurpriseDistance.loss

    def diverging(self: Any, student: Any, teacher: Any) -> Any:
        calls.append(1)
        return loss(self, student, teacher) * (torch.nan if len(calls) > 6 else 1)

    monkeypatch.setattr(distance.SurpriseDistance, "loss", diverging)
    with pytest.raises(TrainingError, match=r"^The loss is not finite in epoch 2: the run keeps the epoch before;"):
        teach(parts, tmp_path / "run")
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint
    assert checkpoint.losses == load_summary(whole).losses[:1]
    assert not (tmp_path / "run" / "summary.json").exists()
    assert not (tmp_path / "run" / "features").exists()


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_full_disk_keeps_the_older_checkpoint(
    interrupted: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    before = (interrupted / "checkpoint.safetensors").read_bytes()

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, function, full)
        with pytest.raises(OutputError, match=r"^Cannot write .*checkpoint\.safetensors: No space left on device\.$"):
            train.resume(interrupted, CPU)
    assert (interrupted / "checkpoint.safetensors").read_bytes() == before
    assert not [name for name in files_of(interrupted) if name.startswith(".")]
    train.resume(interrupted, CPU)
    same_results(interrupted, whole)


def test_a_run_folder_that_cannot_be_made(parts: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Cannot create the folder"):
        teach(parts, tmp_path / "file" / "run")


# Wrong use: said before any work


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"size": (100, 64)}, "The input size 100x64 does not work: .* multiples of 32, from 64 up"),
        ({"size": (64, 32)}, "The input size 64x32 does not work"),
        ({"size": (0, 0)}, "The input size 0x0 does not work"),
        ({"holdout": 0.0}, "--holdout is a share between 0 and 1, not 0"),
        ({"holdout": 1.0}, "--holdout is a share between 0 and 1, not 1"),
        ({"holdout": float("nan")}, "--holdout is a share between 0 and 1, not nan"),
        ({"epochs": 0}, "--epochs must be at least 1, not 0"),
        ({"max_minutes": 0.0}, "--max-minutes must be positive, not 0"),
        ({"max_minutes": float("nan")}, "--max-minutes must be positive, not nan"),
        ({"alpha": 0.01}, "rate of 0.01 needs at least 99 held-out good images, but there are 2: give more images"),
        ({"alpha": 0.0}, "alpha must lie between 0 and 1"),
        ({"alpha": 1.5}, "alpha must lie between 0 and 1"),
        ({"seed": -1}, r"--seed must lie between 0 and 2\^63 - 1, not -1"),
        ({"seed": 1 << 64}, "--seed must lie between"),
        (
            {"weights": {"resnet18": "x.pth"}},
            "--weights names resnet18, but the teachers are tf_efficientnet_lite0 and tf_efficientnet_lite1",
        ),
    ],
    ids=lambda value: re.sub(r"[^a-z0-9]+", "-", str(value).lower()).strip("-") if isinstance(value, dict) else "",
)
def test_options_that_cannot_work(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], says: str
) -> None:
    monkeypatch.setattr(train, "RSTPM", None)  # nothing is built
    with pytest.raises(UsageError, match=f"^{says}" if says.startswith("--") else says):
        teach(parts, tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_the_small_preset_takes_multiples_of_64(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"The input size 128x96 does not work: .* multiples of 64, from 128 up"):
        teach(parts, tmp_path / "run", size=(128, 96), preset=EDGE_SMALL)


def test_an_alpha_that_the_images_allow(parts: Path, tmp_path: Path) -> None:
    folder = teach(parts, tmp_path / "run", epochs=1, alpha=0.34, holdout=0.2)
    assert load_summary(folder).calibration.alpha == 0.34


@pytest.mark.parametrize("machine", [Machine("abacus"), Machine("cpu", precision="7-bit"), Machine("cpu", processes=0)])
def test_machines_that_do_not_exist(parts: Path, tmp_path: Path, machine: Machine) -> None:
    with pytest.raises(UsageError) as error:
        train.train(parts, TrainingOptions(epochs=1, size=SIZE), machine, folder=tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^Cannot train on 'cuda' \(.*\); try --device cpu\.$"):
        train.train(parts, TrainingOptions(epochs=1, size=SIZE), Machine("cuda"), folder=tmp_path / "run")


def test_weights_that_are_missing(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"^Cannot read the weights .*x\.pth: No such file or directory\.$"):
        teach(parts, tmp_path / "run", weights={EDGE.teacher1: str(tmp_path / "x.pth")})
    assert not (tmp_path / "run").exists()


def test_skipped_images_are_reported_and_left_out(parts: Path, tmp_path: Path) -> None:
    good = Path(shutil.copytree(parts / "train" / "good", tmp_path / "good"))
    (good / "003.png").write_bytes(b"")
    with pytest.raises(DatasetError, match="1 of 12 images cannot be read"):
        teach(good, tmp_path / "run", epochs=1)
    warnings = []
    folder = teach(good, tmp_path / "run", epochs=1, skip_unreadable=True, report=lambda p: warnings.append(p.warning))
    (warning,) = filter(None, warnings)
    assert warning.startswith(f"Cannot read {good / '003.png'}")
    config = load_config(folder)
    assert len(config.train) + len(config.holdout) == 11
    assert "003.png" not in {name for name, _ in (*config.train, *config.holdout)}


# Several processes


def test_more_processes_than_images_in_a_batch_are_refused(parts: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((parts / "train" / "good").iterdir())[:5]:
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
