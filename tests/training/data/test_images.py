"""Folders of images: which files count, in which order, and what is said when something is missing."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from encoded import LZW, page, photo, tiff
from numpy.typing import NDArray

from rstpm_edge.errors import DatasetError, TrainingError
from rstpm_edge.image.decode import read_image
from rstpm_edge.image.preprocess import to_input
from rstpm_edge.training.data.images import (
    TestImage,
    about_test_folders,
    about_training_folder,
    good_images,
    load_inputs,
    read_mask,
    test_images,
)
from rstpm_edge.training.data.run_files import identify, recorded_files, training_file

# A function whose name begins with "test" would be collected.
labelled_images = test_images
del test_images

SIZE = (64, 96)


def put(path: Path, image: NDArray[Any] | None = None) -> Path:
    """Write `image`, or a small one whose content follows from the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if image is None:
        image = np.random.default_rng(len(path.name)).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    assert cv2.imwrite(str(path), image)
    return path


def names(images: Iterable[Any]) -> list[str]:
    return [getattr(image, "path", image).name for image in images]


def mvtec(folder: Path) -> Path:
    """Five images to learn from, a good one, and a scratch and a dent, both with masks."""
    for i in range(5):
        put(folder / "train" / "good" / f"{i}.png")
    put(folder / "test" / "good" / "0.png")
    for kind in ("scratch", "dent"):
        put(folder / "test" / kind / "0.png")
        put(folder / "ground_truth" / kind / "0_mask.png", np.zeros((20, 30), np.uint8))
    return folder


def one_sentence(error: pytest.ExceptionInfo[DatasetError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


# Good images


def test_a_flat_folder_in_natural_order(tmp_path: Path) -> None:
    for number in (10, 9, 1, 100, 2):
        put(tmp_path / f"part_{number}.png")
    expected = [f"part_{number}.png" for number in (1, 2, 9, 10, 100)]
    assert names(good_images(tmp_path)) == expected
    assert names(good_images(str(tmp_path))) == expected


def test_natural_order_compares_numbers_with_numbers_and_text_with_text(tmp_path: Path) -> None:
    for name in ("b2", "10", "a10b1", "a9b10", "a9b9", "9", "a"):
        put(tmp_path / f"{name}.png")
    assert names(good_images(tmp_path)) == [f"{n}.png" for n in ("9", "10", "a9b9", "a9b10", "a10b1", "a", "b2")]


def test_digits_that_are_no_numbers_do_no_harm(tmp_path: Path) -> None:
    expected = ["1.png", "2²2.png", "2³2.png", "10.png", "²1.png", "x.png"]
    for name in expected[::-1]:
        put(tmp_path / name)
    assert set(names(good_images(tmp_path))) == set(expected)


def test_the_mvtec_layout_takes_train_good_only(tmp_path: Path) -> None:
    mvtec(tmp_path)
    put(tmp_path / "train" / "scratch" / "0.png")
    put(tmp_path / "cover.png")
    found = good_images(tmp_path)
    assert names(found) == [f"{i}.png" for i in range(5)]
    assert {path.parent for path in found} == {tmp_path / "train" / "good"}


def test_extensions_in_any_case_and_nothing_else(tmp_path: Path) -> None:
    images = ["a.png", "b.PNG", "c.jpg", "d.JPG", "e.jpeg", "f.bmp", "g.tif", "h.TIFF", "i.Tiff"]
    for name in images:
        put(tmp_path / name)
    for name in ("notes.txt", "a.png.txt", "png", ".DS_Store", "._a.png"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    put(tmp_path / "below" / "x.png")
    assert names(good_images(tmp_path)) == images


def test_every_kind_of_file_becomes_the_models_input(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kinds: list[tuple[str, tuple[int, ...], Any]] = [
        ("grey.png", (20, 30), np.uint8),
        ("colour.png", (20, 30, 3), np.uint8),
        ("alpha.png", (20, 30, 4), np.uint8),
        ("grey16.png", (20, 30), np.uint16),
        ("colour16.png", (20, 30, 3), np.uint16),
        ("alpha16.png", (20, 30, 4), np.uint16),
        ("grey.jpg", (20, 30), np.uint8),
        ("colour.jpeg", (64, 96, 3), np.uint8),
        ("colour.bmp", (20, 30, 3), np.uint8),
        ("grey.tif", (20, 30), np.uint8),
        ("colour16.tiff", (20, 30, 3), np.uint16),
    ]
    for name, shape, dtype in kinds:
        put(tmp_path / name, rng.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype))
    paths = good_images(tmp_path)
    assert len(paths) == len(kinds)
    inputs, kept, problems = load_inputs(paths, SIZE, "stretch")
    assert inputs.shape == (len(kinds), *SIZE, 3)
    assert inputs.dtype == np.uint8
    assert (kept, problems) == (paths, [])
    for path, got in zip(paths, inputs, strict=True):  # the runtime's own way, not a second one
        np.testing.assert_array_equal(got, to_input(read_image(path), SIZE, "stretch")[0])
        assert got.std() > 20, path
        assert (np.ptp(got.astype(int), axis=2).max() == 0) == path.name.startswith("grey")


def test_letterbox_inputs_keep_the_aspect_ratio(tmp_path: Path) -> None:
    paths = [put(tmp_path / f"{i}.png", np.full((20, 20, 3), 200, np.uint8)) for i in range(5)]
    inputs, _, _ = load_inputs(paths, SIZE, "letterbox")
    assert (inputs[:, :, 16:80] == 200).all()
    assert (inputs[:, :, :16] == 127).all()
    assert (inputs[:, :, 80:] == 127).all()


@pytest.mark.parametrize("count", [0, 1, 4])
def test_too_few_images(tmp_path: Path, count: int) -> None:
    for i in range(count):
        put(tmp_path / f"{i}.png")
    with pytest.raises(DatasetError) as error:
        good_images(tmp_path)
    message = one_sentence(error)
    assert message.startswith(f"{tmp_path} holds {count} image(s); training needs")
    assert "at least 5" in message


def test_too_few_images_in_the_mvtec_layout_are_counted_where_they_are_looked_for(tmp_path: Path) -> None:
    mvtec(tmp_path)
    (tmp_path / "train" / "good" / "0.png").unlink()
    with pytest.raises(DatasetError, match=r"train/good holds 4 image\(s\)"):
        good_images(tmp_path)


def test_no_folder(tmp_path: Path) -> None:
    file = put(tmp_path / "image.png")
    for take in (good_images, labelled_images):
        with pytest.raises(DatasetError, match="missing is missing; give a folder of images"):
            take(tmp_path / "missing")
        with pytest.raises(DatasetError, match=r"image\.png is not a folder; give a folder of images"):
            take(file)


def test_a_test_folder_without_train_good(tmp_path: Path) -> None:
    put(tmp_path / "test" / "good" / "0.png")
    for i in range(5):
        put(tmp_path / f"{i}.png")
    with pytest.raises(DatasetError, match=r"has a test folder but no train/good; put the good .* there\."):
        good_images(tmp_path)


# What is left out


def test_what_is_left_out_of_a_training_folder_is_told(tmp_path: Path) -> None:
    for i in range(5):
        put(tmp_path / f"{i}.png")
    assert about_training_folder(tmp_path) == []
    (tmp_path / "5").write_bytes((tmp_path / "1.png").read_bytes())  # a photo without an extension is one
    (tmp_path / "6.jpg").symlink_to(tmp_path / "1.png")
    (tmp_path / "notes.txt").touch()
    put(tmp_path / "below" / "7.png")
    assert names(good_images(tmp_path)) == ["0.png", "1.png", "2.png", "3.png", "4.png", "5", "6.jpg"]
    assert about_training_folder(tmp_path) == [
        f"Took 7 of 8 files in {tmp_path}: left out 1 no image (notes.txt).",
        f"1 image lies in folders below {tmp_path}; only those that lie in it are taken.",
    ]
    for i in range(4):
        (tmp_path / f"{i}.png").unlink()
    with pytest.raises(
        DatasetError, match=r"holds 2 image\(s\), left out 1 no image \(notes\.txt\), 1 link .*; training"
    ):
        good_images(tmp_path)


def test_what_is_left_out_of_test_folders_is_told(tmp_path: Path) -> None:
    mvtec(tmp_path)
    assert about_test_folders(tmp_path) == []
    for name in ("1", "2.001"):
        (tmp_path / "test" / "dent" / name).write_bytes((tmp_path / "test" / "dent" / "0.png").read_bytes())
        put(tmp_path / "ground_truth" / "dent" / f"{name}_mask.png", np.zeros((20, 30), np.uint8))
    assert {image.path.name: image.mask and image.mask.name for image in labelled_images(tmp_path)} == {
        "0.png": "0_mask.png",
        "1": "1_mask.png",
        "2.001": "2.001_mask.png",
    }
    put(tmp_path / "test" / "loose.png")
    put(tmp_path / "test" / "good" / "below" / "3.png")
    (tmp_path / "test" / "scratch" / "1.part").touch()
    put(tmp_path / "ground_truth" / "dent" / "9_mask.png")
    test, truth = tmp_path / "test", tmp_path / "ground_truth"
    assert about_test_folders(tmp_path) == [
        f"1 image lies in {test} itself; only those in folders such as {test / 'good'} are taken.",
        f"1 mask belongs to no image in {test / 'dent'}: 9_mask.png in {truth / 'dent'}.",
        f"1 image lies in folders below {test / 'good'}; only those that lie in it are taken.",
        f"Took 1 of 2 files in {test / 'scratch'}: left out 1 unfinished (1.part).",
    ]


# Unreadable files


@pytest.fixture
def damaged(tmp_path: Path) -> list[Path]:
    """Five good files, and an empty one, a truncated one and a text in between."""
    paths = [put(tmp_path / f"{i}.png") for i in range(8)]
    paths[1].write_bytes(b"")
    paths[4].write_bytes(paths[4].read_bytes()[:-20])
    paths[6].write_text("not an image")
    return paths


def test_unreadable_files_are_listed_all_at_once(damaged: list[Path]) -> None:
    with pytest.raises(DatasetError) as error:
        load_inputs(damaged, SIZE, "stretch")
    first, *lines = str(error.value).splitlines()
    assert first == "3 of 8 images cannot be read; mend or remove them, or give `skip_unreadable`:"
    assert [line.strip().split(": ")[0] for line in lines] == [f"Cannot read {damaged[i]}" for i in (1, 4, 6)]


def test_what_opencv_would_decode_past_its_damage_is_not_learned_from(tmp_path: Path) -> None:
    strips = page(photo(64, 64), compression=LZW)
    strips.data = [*strips.data[:2], *(bytes(len(part)) for part in strips.data[2:])]
    (tmp_path / "zeros.tif").write_bytes(tiff(strips))
    with pytest.raises(DatasetError, match=r"Cannot read .*zeros\.tif: the file is truncated or damaged"):
        load_inputs([put(tmp_path / "good.png"), tmp_path / "zeros.tif"], SIZE, "stretch")


def test_skipping_names_what_it_skips(damaged: list[Path]) -> None:
    inputs, kept, problems = load_inputs(damaged, SIZE, "stretch", skip_unreadable=True)
    assert kept == [damaged[i] for i in (0, 2, 3, 5, 7)]
    assert [problem.split(": ")[0] for problem in problems] == [f"Cannot read {damaged[i]}" for i in (1, 4, 6)]
    for path, got in zip(kept, inputs, strict=True):
        np.testing.assert_array_equal(got, to_input(read_image(path), SIZE, "stretch")[0])


def test_too_few_left_after_skipping(damaged: list[Path]) -> None:
    damaged[0].write_bytes(b"")
    with pytest.raises(DatasetError, match=r"^Only 4 images can be read; training needs at least 5\.$"):
        load_inputs(damaged, SIZE, "stretch", skip_unreadable=True)


# Test images


def test_labels_and_masks_of_the_mvtec_layout(tmp_path: Path) -> None:
    mvtec(tmp_path)
    for name in ("10.png", "9.JPG"):
        put(tmp_path / "test" / "dent" / name)
    put(tmp_path / "ground_truth" / "dent" / "9.png")  # without _mask
    put(tmp_path / "ground_truth" / "dent" / "10_mask.bmp")
    (tmp_path / "test" / "readme.txt").write_text("not a kind")
    put(tmp_path / "test" / ".ipynb_checkpoints" / "0.png")  # nor is this
    truth = tmp_path / "ground_truth"
    assert labelled_images(tmp_path) == [
        TestImage(tmp_path / "test" / "dent" / "0.png", "dent", truth / "dent" / "0_mask.png"),
        TestImage(tmp_path / "test" / "dent" / "9.JPG", "dent", truth / "dent" / "9.png"),
        TestImage(tmp_path / "test" / "dent" / "10.png", "dent", truth / "dent" / "10_mask.bmp"),
        TestImage(tmp_path / "test" / "good" / "0.png", "good", None),
        TestImage(tmp_path / "test" / "scratch" / "0.png", "scratch", truth / "scratch" / "0_mask.png"),
    ]
    assert [image.is_defective for image in labelled_images(tmp_path)] == [True, True, True, False, True]


def test_a_data_set_without_any_masks(tmp_path: Path) -> None:
    put(tmp_path / "test" / "good" / "0.png")
    put(tmp_path / "test" / "dent" / "0.png")
    assert [image.mask for image in labelled_images(tmp_path)] == [None, None]


def test_a_kind_with_some_masks_missing(tmp_path: Path) -> None:
    mvtec(tmp_path)
    for i in range(1, 8):
        put(tmp_path / "test" / "dent" / f"{i}.png")
    with pytest.raises(DatasetError) as error:
        labelled_images(tmp_path)
    expected = "ground_truth/dent has no mask for 1.png, 2.png, 3.png, 4.png, 5.png, 6.png, 7.png."
    assert one_sentence(error) == f"{tmp_path}/{expected}"


@pytest.mark.parametrize("missing", ["good", "defects"])
def test_good_and_defective_images_are_both_needed(tmp_path: Path, missing: str) -> None:
    put(tmp_path / "test" / ("dent" if missing == "good" else "good") / "0.png")
    (tmp_path / "test" / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"test must hold both good and defective images"):
        labelled_images(tmp_path)


def test_no_test_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"has no test folder: evaluation needs test/good and test/KIND\."):
        labelled_images(tmp_path)


def test_reading_a_mask(tmp_path: Path) -> None:
    drawn = np.zeros((20, 30), np.uint8)
    drawn[3:6, 7:9] = 255
    drawn[0, 0] = 127  # softened edges: less than half is good
    drawn[0, 1] = 128
    mask = read_mask(TestImage(Path("x.png"), "dent", put(tmp_path / "mask.png", drawn)), (20, 30))
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, drawn > 127)
    np.testing.assert_array_equal(read_mask(TestImage(Path("x.png"), "good", None), (2, 3)), np.zeros((2, 3), bool))


def test_a_mask_of_another_size(tmp_path: Path) -> None:
    image = TestImage(Path("x.png"), "dent", put(tmp_path / "mask.png", np.zeros((20, 31), np.uint8)))
    with pytest.raises(DatasetError) as error:
        read_mask(image, (20, 30))
    assert one_sentence(error) == (f"The mask {image.mask} measures 31×20 pixels; it must be an image of 30×20 pixels.")


def test_a_mask_that_cannot_be_read_or_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"^The mask of x\.png must be .*mask\.png: the file is empty"):
        read_mask(TestImage(Path("x.png"), "dent", tmp_path / "mask.png"), (20, 30))
    with pytest.raises(DatasetError, match=r"^x\.png has no mask in ground_truth"):
        read_mask(TestImage(Path("x.png"), "dent", None), (20, 30))


def test_a_photo_is_no_mask_of_a_defect(tmp_path: Path) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    image = TestImage(Path("x.png"), "dent", put(tmp_path / "mask.png", photo))
    with pytest.raises(DatasetError) as error:
        read_mask(image, (20, 30))
    assert str(error.value).startswith(f"The mask {image.mask} cannot be used. It is no mask but a picture")


def test_a_mask_of_numbered_defects_is_refused(tmp_path: Path) -> None:
    drawn = np.zeros((20, 30), np.uint8)
    drawn[5:9, 4:20], drawn[12:15, 4:20] = 1, 2
    with pytest.raises(
        DatasetError, match=r"mask\.png cannot be used\. Its values go from 0 to 2, so nothing is white"
    ):
        read_mask(TestImage(Path("x.png"), "dent", put(tmp_path / "mask.png", drawn)), (20, 30))


def test_a_mask_of_zeros_and_ones(tmp_path: Path) -> None:
    drawn = np.zeros((20, 30), np.uint8)
    drawn[5:9, 4:20] = 1
    mask = read_mask(TestImage(Path("x.png"), "dent", put(tmp_path / "mask.png", drawn)), (20, 30))
    np.testing.assert_array_equal(mask, drawn == 1)


def test_a_mask_that_is_drawn_in_small_numbers(tmp_path: Path) -> None:
    drawn = np.zeros((20, 30), np.uint8)
    drawn[3:6, 7:9] = 1
    image = TestImage(Path("x.png"), "dent", put(tmp_path / "mask.png", drawn), mask_level=0)
    np.testing.assert_array_equal(read_mask(image, (20, 30)), drawn > 0)


# Files as a run remembers them


def test_files_are_named_from_the_folder_that_holds_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [put(tmp_path / "a" / "x" / "1.png"), put(tmp_path / "a" / "y" / "1.png")]
    size, crc32 = paths[0].stat().st_size, zlib.crc32(paths[0].read_bytes())
    assert identify(paths) == (tmp_path / "a", (("x/1.png", size, crc32), ("y/1.png", size, crc32)))
    assert identify(paths[:1]) == (tmp_path / "a" / "x", (("1.png", size, crc32),))
    done: list[int] = []
    identify(paths, progress=done.append)
    assert done == [1, 2]
    monkeypatch.chdir(tmp_path / "a")
    assert identify([Path("x/1.png"), Path("y/1.png")]) == identify(paths)
    os.mkfifo(tmp_path / "fifo.png")  # what cannot be read is left for whoever reads the images
    unreadable = [tmp_path / "2.png", tmp_path / "fifo.png"]
    assert identify([*unreadable, *paths])[1][:2] == (("2.png", 0, None), ("fifo.png", 0, None))
    with pytest.raises(DatasetError, match=r"^There are no images; training needs at least 5 good ones\.$"):
        identify([])


def test_a_runs_files_are_found_again(tmp_path: Path) -> None:
    good = mvtec(tmp_path / "mvtec") / "train" / "good"
    for folder in (good, tmp_path / "mvtec"):
        assert training_file(folder, "3.png") == good / "3.png"
    assert training_file(tmp_path / "flat", "3.png") == tmp_path / "flat" / "3.png"


def test_a_photo_of_the_same_name_and_size_is_another_one(tmp_path: Path) -> None:
    """Cameras that do not compress write files of one size, and many start to count anew each day."""
    paths = [tmp_path / f"{number}.bmp" for number in range(3)]
    for value, path in enumerate(paths):
        put(path, np.full((20, 30, 3), value, np.uint8))
    _, photos = identify(paths)
    done: list[int] = []
    assert recorded_files(tmp_path, photos, "train again", progress=done.append) == paths
    assert done == [1, 2, 3]
    before = [photo._replace(crc32=None) for photo in photos]
    put(paths[1], np.full((20, 30, 3), 200, np.uint8))
    assert paths[1].stat().st_size == photos[1].size
    with pytest.raises(TrainingError, match=r"^1\.bmp in .* is another file since the run began; train again\.$"):
        recorded_files(tmp_path, photos, "train again")
    assert recorded_files(tmp_path, before, "train again") == paths  # a run from before knows the sizes only
