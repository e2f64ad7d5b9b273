"""Training: what a run holds, and what makes two runs the same."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import zlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from small_training import CPU, SIZE, Stop, files_of, same_results, teach
from workplace import Workplace, document, finish, start

from rstpm_edge.errors import DatasetError, OutputError, TrainingError, UsageError, WeightsError
from rstpm_edge.image.placement import ResizePolicy
from rstpm_edge.progress import Progress
from rstpm_edge.training.data import shift_augmentation
from rstpm_edge.training.data.shift_augmentation import with_shifted_copies
from rstpm_edge.training.learning import feature_cache as features
from rstpm_edge.training.learning import (
    head_training,
    machine,
    rotation_detection,
    stage_times,
    student_training,
    train,
)
from rstpm_edge.training.learning import time_budget as budget
from rstpm_edge.training.learning.machine import Machine
from rstpm_edge.training.learning.options import TrainingOptions
from rstpm_edge.training.learning.run_folder import (
    load_checkpoint,
    load_config,
    load_summary,
    save_checkpoint,
    save_config,
    save_samples,
    save_summary,
)
from rstpm_edge.training.model import feature_distance as distance
from rstpm_edge.training.model.presets import EDGE, EDGE_SMALL, preset_with_teachers
from rstpm_edge.training.model.rstpm import RSTPM

SMALL = "mobilenetv3_small_050"


def images_learned_from(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A list that each training from now on adds its images to, copies included."""
    seen: list[Any] = []
    original = train.compute_features

    def spy(model: RSTPM, images: Any, *others: Any, **keywords: Any) -> Any:
        seen.append(images)
        return original(model, images, *others, **keywords)

    monkeypatch.setattr(train, "compute_features", spy)
    return seen


# What a training gives


def test_the_loss_falls(workplace: Workplace, whole: Path) -> None:
    for folder in (workplace.run, whole):
        losses = load_summary(folder).losses
        assert losses[-1][0] < losses[0][0]
        assert losses[-1][1] < losses[0][1]
        # Three levels, features of deviation 1; the largest tenth of squares is at most ten times the mean of all.
        assert all(0 < pair < 3 * 2 / EDGE.mining_share for loss in losses for pair in loss)


def test_a_run_follows_no_links(parts: Path, whole: Path, tmp_path: Path) -> None:
    run, victim, elsewhere = tmp_path / "run", tmp_path / "victim", tmp_path / "elsewhere"
    for folder in (run / "samples", elsewhere):
        folder.mkdir(parents=True)
    victim.write_bytes(b"theirs")
    photo = sorted((parts / "train" / "good").iterdir())[0]
    for name in ("config.json", "summary.json", "checkpoint.safetensors", f"samples/{photo.name}"):
        (run / name).symlink_to(victim)
    checkpoint = load_checkpoint(whole)
    assert checkpoint is not None
    save_config(run, load_config(whole))
    save_summary(run, load_summary(whole))
    save_checkpoint(run, checkpoint)
    save_samples(run, [photo])
    assert victim.read_bytes() == b"theirs"
    assert not any(path.is_symlink() for path in run.rglob("*"))
    shutil.rmtree(run / "samples")
    for name in ("samples", "features"):
        (run / name).symlink_to(elsewhere)
    with pytest.raises(OutputError, match=r"^Cannot create the folder .*/samples: .* is a link"):
        save_samples(run, [photo])
    for name in ("config.json", "summary.json", "checkpoint.safetensors", "samples"):
        (run / name).unlink()
    with pytest.raises(OutputError, match=r"^Cannot create the folder .*/features/0: .* is a link"):
        teach(parts, run, epochs=1)
    assert list(elsewhere.iterdir()) == []


def test_a_run_holds_data_only_and_no_features(workplace: Workplace) -> None:
    files = files_of(workplace.run)
    samples = {name for name in files if name.startswith("samples/")}
    assert files - samples == {"config.json", "checkpoint.safetensors", "summary.json", "train.log"}
    held_out = load_config(workplace.run).holdout
    assert samples == {f"samples/{photo.name}" for photo in held_out}


def test_held_out_images_are_never_trained_on(workplace: Workplace, parts: Path) -> None:
    config = document(workplace.run / "config.json")
    learned, held_out = ({name for name, *_ in config[key]} for key in ("train", "holdout"))
    assert (len(learned), len(held_out)) == (9, 3)
    assert not learned & held_out
    folder = parts / "train" / "good"
    assert learned | held_out == {path.name for path in folder.iterdir()}
    for name, size, crc32 in config["train"] + config["holdout"]:
        content = (folder / name).read_bytes()
        assert (len(content), zlib.crc32(content)) == (size, crc32)
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
    seen = images_learned_from(monkeypatch)
    folder = teach(parts, tmp_path / "run", epochs=1)
    config = load_config(folder)
    paths = [parts / "train" / "good" / photo.name for photo in config.train]
    expected, _, _ = train.load_inputs(paths, SIZE, "stretch")
    (images,) = seen
    np.testing.assert_array_equal(images, with_shifted_copies(expected, config.preset.shift_augmentation, config.seed))


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
    monkeypatch.setattr(shift_augmentation, "FEWEST", 2)
    teach(parts, tmp_path / "run", epochs=4)
    (photos, images) = {(photos, images) for _, photos, images in seen}.pop()
    assert (len(seen), images) == (4, 4 * photos)  # one batch is an epoch here
    for rows, _, _ in seen:
        np.testing.assert_array_equal(np.sort(rows % photos), np.arange(photos))
    np.testing.assert_array_equal(np.sort(np.concatenate([rows for rows, _, _ in seen])), np.arange(images))


def test_parts_that_lie_at_any_angle_are_learned_from_in_rotated_copies(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = images_learned_from(monkeypatch)
    said: list[Progress] = []
    monkeypatch.setattr(rotation_detection, "lie_at_any_angle", lambda *_: True)
    brief = replace(EDGE, epochs=1, segmentation_head=False)
    folder = teach(parts, tmp_path / "run", epochs=None, preset=brief, report=said.append)
    config = load_config(folder)
    assert (config.rotation_aspect, config.preset.epochs, load_summary(folder).epochs) == (1.0, 2, 2)
    assert [progress.warning for progress in said if progress.warning] == [rotation_detection.ABOUT_ROTATION]
    assert len(seen[0]) == 12 * len(config.train)
    train.resume(folder, CPU)
    np.testing.assert_array_equal(seen[1], seen[0])
    assert load_config(teach(parts, tmp_path / "told", epochs=1, preset=brief)).preset.epochs == 1
    assert (
        load_config(
            teach(parts, tmp_path / "not", epochs=1, preset=replace(brief, rotation_augmentation=False))
        ).rotation_aspect
        is None
    )


@pytest.mark.parametrize(("resize", "aspect"), [("stretch", 1.5), ("letterbox", 1.0)])
def test_photos_that_are_stretched_are_rotated_as_the_scene(
    resize: ResizePolicy, aspect: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(5):
        pixels = np.random.default_rng(i).integers(0, 256, (80, 120, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "photos" / f"{i}.png"), pixels)
    monkeypatch.setattr(rotation_detection, "lie_at_any_angle", lambda *_: True)
    folder = teach(
        tmp_path / "photos", tmp_path / "run", epochs=1, resize=resize, preset=replace(EDGE, segmentation_head=False)
    )
    assert load_config(folder).rotation_aspect == aspect


def test_the_same_seed_gives_the_same_run(parts: Path, whole: Path, tmp_path: Path) -> None:
    torch.manual_seed(123)  # what the caller did before does not matter
    same_results(teach(parts, tmp_path / "again"), whole)
    other = teach(parts, tmp_path / "other", seed=1)
    assert load_summary(other).losses != load_summary(whole).losses
    assert load_config(other).holdout != load_config(whole).holdout


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
    names = {photo.name for photo in (*config.train, *config.holdout)}
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


def test_photos_that_are_all_the_same_promise_nothing(parts: Path, tmp_path: Path) -> None:
    (tmp_path / "same").mkdir()
    for number in range(8):
        shutil.copy(parts / "train" / "good" / "003.png", tmp_path / "same" / f"{number}.png")
    said: list[Progress] = []
    teach(tmp_path / "same", tmp_path / "run", epochs=1, report=said.append)
    (warning,) = [progress.warning for progress in said if progress.warning]
    assert warning.startswith("8 photos are the same or nearly so: some are held out beside copies")


def test_another_pair_of_teachers_and_paper_fusion(parts: Path, tmp_path: Path) -> None:
    changes = {"fusion": "paper", "smoothing_sigma": 0.0, "standardize": False}
    preset = dataclasses.replace(preset_with_teachers("edge", SMALL, "resnet18"), **changes)
    folder = teach(parts, tmp_path / "run", epochs=1, preset=preset, weights={SMALL: "random", "resnet18": "random"})
    fusion = load_summary(folder).fusion
    assert fusion.mode == "paper"
    assert fusion.weights == (1.0,) * 6
    assert load_config(folder).preset == dataclasses.replace(preset, epochs=1)


# Time and divergence


def test_a_time_limit_ends_early_with_a_finished_schedule(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, rates, rate = [0.0], [], student_training._rate

    class Clock:
        def monotonic(self) -> float:
            return now[0]

    def report(progress: Progress) -> None:
        now[0] += progress.stage == "students"  # each batch of 16, one an epoch, takes a second

    def record(preset: Any, progress: float) -> float:
        rates.append(rate(preset, progress))
        return rates[-1]

    monkeypatch.setattr(budget, "time", Clock())
    monkeypatch.setattr(stage_times, "time", Clock())
    monkeypatch.setattr(student_training, "time", Clock())
    monkeypatch.setattr(head_training, "time", Clock())
    monkeypatch.setattr(student_training, "_rate", record)
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
    rates = [student_training._rate(EDGE, step / 1000) for step in range(1001)]
    assert max(rates) == rates[300] == 1
    assert rates[0] == pytest.approx(0.04)
    assert rates[1000] == pytest.approx(0)
    assert rates[:301] == sorted(rates[:301])
    assert rates[300:] == sorted(rates[300:], reverse=True)
    assert max(abs(a - b) for a, b in pairwise(rates)) < 0.01
    constant = dataclasses.replace(EDGE, schedule="constant")
    assert {student_training._rate(constant, step / 10) for step in range(11)} == {1.0}


def test_a_device_whose_memory_is_too_small(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    go_on = f"go on with `resume={tmp_path}/AT` `device=cpu`"
    for module, at, says in (
        (rotation_detection, "lie_at_any_angle", "train with a smaller `size`, or with `device=cpu`"),
        (train, "train_students", f"train again with `preset.batch_size=N`, below 8, or a smaller `size`, or {go_on}"),
        (train, "calibrate_model", go_on),
    ):
        run = tmp_path / at
        with monkeypatch.context() as patch:
            patch.setattr(module, at, full)
            sentence = rf"^The memory of cpu is too small; {re.escape(says.replace('AT', at))}\.$"
            with pytest.raises(TrainingError, match=sentence):
                teach(parts, run)
        assert not (tmp_path / at / "features").exists()


def test_a_loss_that_is_not_finite(parts: Path, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loss = distance.NormalizedResidual.loss

    def diverging(self: Any, student: Any, teacher: Any) -> Any:
        # From the second epoch on; steps that are tried before the first, to tell how long one takes, do not count.
        return loss(self, student, teacher) * (torch.nan if load_checkpoint(tmp_path / "run") else 1)

    monkeypatch.setattr(distance.NormalizedResidual, "loss", diverging)
    with pytest.raises(TrainingError, match=r"^The loss is not finite in epoch 2: the run keeps the epoch before;"):
        teach(parts, tmp_path / "run")
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint
    assert checkpoint.losses == load_summary(whole).losses[:1]
    assert not (tmp_path / "run" / "summary.json").exists()
    assert not (tmp_path / "run" / "features").exists()


def test_a_run_folder_that_cannot_be_made(parts: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Cannot create the folder"):
        teach(parts, tmp_path / "file" / "run")


# Wrong use: said before any work


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"size": (100, 64)}, "The input size 100x64 does not work: .* multiples of 32, from 64 to 4096"),
        ({"size": (64, 4128)}, "The input size 64x4128 does not work"),
        ({"size": (64, 32)}, "The input size 64x32 does not work"),
        ({"size": (0, 0)}, "The input size 0x0 does not work"),
        ({"holdout": 0.0}, "`holdout` is a share between 0 and 1, not 0"),
        ({"holdout": 1.0}, "`holdout` is a share between 0 and 1, not 1"),
        ({"holdout": float("nan")}, "`holdout` is a share between 0 and 1, not nan"),
        ({"epochs": 0}, "`epochs` must be at least 1, not 0"),
        ({"max_minutes": 0.0}, "`max_minutes` must be positive, not 0"),
        ({"max_minutes": float("nan")}, "`max_minutes` must be positive, not nan"),
        ({"alpha": 0.01}, "rate of 0.01 needs at least 99 held-out good images, but there are 2: hold more of them"),
        ({"alpha": 0.0}, "`alpha` must lie between 0 and 1"),
        ({"alpha": 1.5}, "`alpha` must lie between 0 and 1"),
        ({"seed": -1}, r"`seed` must lie between 0 and 2\^63 - 1, not -1"),
        ({"seed": 1 << 64}, "`seed` must lie between"),
        (
            {"weights": {"resnet18": "x.pth"}},
            "`weights` names resnet18, but the teachers are tf_efficientnet_lite0 and tf_efficientnet_lite1",
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
    with pytest.raises(UsageError, match=r"The input size 128x96 does not work: .* multiples of 64, from 128 to 4096"):
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
    with pytest.raises(UsageError, match=r"^Cannot train on 'cuda' \(.*\); try `device=cpu`\.$"):
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
    assert "003.png" not in {photo.name for photo in (*config.train, *config.holdout)}


def test_images_in_folders_below_are_left_out_and_told(parts: Path, tmp_path: Path) -> None:
    good = Path(shutil.copytree(parts / "train" / "good", tmp_path / "good"))
    for name in ("monday/1.png", "monday/2.png", ".hidden/3.png"):
        (good / name).parent.mkdir(exist_ok=True)
        shutil.copy(good / "003.png", good / name)
    warnings: list[str | None] = []
    folder = teach(good, tmp_path / "run", epochs=1, report=lambda p: warnings.append(p.warning))
    (warning,) = filter(None, warnings)
    assert warning == f"2 images lie in folders below {good}; only those that lie in it are taken."
    config = load_config(folder)
    assert len(config.train) + len(config.holdout) == 12


def test_a_folder_that_holds_a_run_is_not_trained_into(parts: Path, tmp_path: Path) -> None:
    folder = teach(parts, tmp_path / "run", epochs=1)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(OutputError, match=rf"^{folder} holds a run already: go on with it by `resume`, or name"):
        teach(parts, folder, epochs=1, seed=1)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


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


# Several processes


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
