"""Training: what a run holds, and what makes two runs the same."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from small_training import SIZE, Stop, files_of, resume, same_results, teach
from workplace import Workplace, document

from rstpm_edge.errors import DatasetError, OutputError, UsageError
from rstpm_edge.image.placement import ResizePolicy
from rstpm_edge.progress import Progress
from rstpm_edge.training.data import shift_augmentation
from rstpm_edge.training.data.shift_augmentation import with_shifted_copies
from rstpm_edge.training.learning import feature_cache as features
from rstpm_edge.training.learning import train
from rstpm_edge.training.learning.augmentation import about_missing_copies
from rstpm_edge.training.learning.checkpoint import load_checkpoint, save_checkpoint
from rstpm_edge.training.learning.options import TrainingOptions
from rstpm_edge.training.learning.run_config import load_config, save_config
from rstpm_edge.training.learning.run_folder import save_samples
from rstpm_edge.training.learning.run_summary import load_summary, save_summary
from rstpm_edge.training.model.presets import EDGE, preset_with_teachers
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
    np.testing.assert_array_equal(images, with_shifted_copies(expected, config.seed))


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


def test_rotated_copies_are_learned_from_in_twice_the_epochs(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = images_learned_from(monkeypatch)
    said: list[Progress] = []
    brief = replace(EDGE, epochs=1, segmentation_head=False)
    folder = teach(parts, tmp_path / "run", augment="rotate", epochs=None, preset=brief, report=said.append)
    config = load_config(folder)
    assert config.preset == replace(brief, augmentation="rotate", epochs=2)
    assert (config.rotation_aspect, load_summary(folder).epochs) == (1.0, 2)
    assert not [progress.warning for progress in said if progress.warning]
    assert len(seen[0]) == 12 * len(config.train)
    written = document(folder / "config.json")  # as a run had it whose angles were detected
    del written["preset"]["augmentation"]
    written["preset"] |= {"shift_augmentation": 6, "rotation_augmentation": True}
    (folder / "config.json").write_text(json.dumps(written))
    resume(folder)
    np.testing.assert_array_equal(seen[1], seen[0])
    set_by_field = replace(brief, augmentation="rotate")
    told = load_config(teach(parts, tmp_path / "told", epochs=1, preset=set_by_field))
    assert (told.preset.epochs, told.rotation_aspect) == (1, 1.0)


def test_flipped_copies_and_none(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = images_learned_from(monkeypatch)
    monkeypatch.setattr(shift_augmentation, "FEWEST", 2)
    brief = replace(EDGE, segmentation_head=False)
    for augment, versions in (("flip", 4), ("none", 1)):
        folder = teach(parts, tmp_path / augment, epochs=1, augment=augment, preset=brief)
        config = load_config(folder)
        assert (config.preset.augmentation, config.rotation_aspect) == (augment, None)
        assert len(seen[-1]) == versions * len(config.train)
        resume(folder)
        np.testing.assert_array_equal(seen[-1], seen[-2])


def test_where_no_copies_are_made_of_what_was_asked_for_it_is_told(parts: Path, tmp_path: Path) -> None:
    said: list[Progress] = []
    brief = replace(EDGE, segmentation_head=False)
    for number, augment in enumerate(("flip", None)):
        teach(parts, tmp_path / str(number), epochs=1, augment=augment, preset=brief, report=said.append)
    (warning,) = [progress.warning for progress in said if progress.warning]
    assert warning == "`augment=flip` makes no copies here: it is for 16 to 256 photos to learn from, and there are 10."
    rotate = TrainingOptions(augment="rotate")
    assert about_missing_copies(rotate, 768) is None
    assert str(about_missing_copies(rotate, 769)).endswith("for 1 to 768 photos to learn from, and there are 769.")


def test_an_augmentation_that_there_is_not(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^`augment` is one of auto, none, shift, rotate, flip, not 'turn'\.$"):
        teach(parts, tmp_path / "run", augment="turn")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("resize", "aspect"), [("stretch", 1.5), ("letterbox", 1.0)])
def test_photos_that_are_stretched_are_rotated_as_the_scene(
    resize: ResizePolicy, aspect: float, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(5):
        pixels = np.random.default_rng(i).integers(0, 256, (80, 120, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "photos" / f"{i}.png"), pixels)
    brief = replace(EDGE, segmentation_head=False, augmentation="rotate")
    folder = teach(tmp_path / "photos", tmp_path / "run", epochs=1, resize=resize, preset=brief)
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
        teach(files, tmp_path / "run", report=Stop(2))
    config = load_config(tmp_path / "run")
    assert config.data == str(tmp_path)
    names = {photo.name for photo in (*config.train, *config.holdout)}
    assert names == {path.relative_to(tmp_path).as_posix() for path in files}
    resume(tmp_path / "run")
    assert load_summary(tmp_path / "run").epochs == 3
    with pytest.raises(DatasetError, match=r"missing\.png: No such file"):
        teach([*files, tmp_path / "missing.png"], tmp_path / "none", epochs=1)


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
    assert load_config(folder).preset == dataclasses.replace(preset, epochs=1, augmentation="none")


def test_a_run_folder_that_cannot_be_made(parts: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Cannot create the folder"):
        teach(parts, tmp_path / "file" / "run")


def test_without_a_size_the_input_has_the_shape_of_the_photos(parts: Path, tmp_path: Path) -> None:
    wide = tmp_path / "wide"
    wide.mkdir()
    for path in (parts / "train" / "good").iterdir():
        photo = cv2.imread(str(path))
        assert photo is not None
        cv2.imwrite(str(wide / path.name), photo[: photo.shape[0] // 2])
    said: list[Progress] = []
    folder = teach(wide, tmp_path / "run", size=None, most_pixels=8192, epochs=1, report=said.append)
    assert load_config(folder).size == (64, 128)
    warnings = [progress.warning for progress in said if progress.stage == "size"]
    assert warnings == ["The input has 64x128 pixels (height x width), in the shape of the photos."]


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


def test_files_that_the_system_refuses_are_named_at_once_or_skipped(parts: Path, tmp_path: Path) -> None:
    files = sorted((parts / "train" / "good").iterdir())
    refused = [tmp_path / "gone.png", tmp_path / "fifo.png"]
    os.mkfifo(refused[1])
    with pytest.raises(DatasetError, match=r"(?s)^2 of 14 images cannot be read;.*gone\.png.*fifo\.png"):
        teach([*refused, *files], tmp_path / "run", epochs=1)
    warnings: list[str | None] = []
    folder = teach(
        [*refused, *files],
        tmp_path / "run",
        epochs=1,
        skip_unreadable=True,
        report=lambda p: warnings.append(p.warning),
    )
    assert len([one for one in warnings if one and "Cannot read" in one]) == 2
    config = load_config(folder)
    assert len(config.train) + len(config.holdout) == 12
    assert all(photo.crc32 is not None for photo in (*config.train, *config.holdout))


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
